"""Typed settings. They are written into every checkpoint and run folder, and read back by name."""

from __future__ import annotations

import math
import types
import typing
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from bayes_pfl.errors import ConfigError
from bayes_pfl.support.error_text import one_line
from bayes_pfl.support.parsing import MAX_CONFIG, Malformed, read_json, short

Activation = Literal["auto", "gelu", "quick_gelu"]
ConfigT = TypeVar("ConfigT")

MAX_IMAGE_SIZE = 4096
"""Largest side of the model's input, in pixels."""
MAX_SAMPLES = 10_000
"""Most Monte Carlo samples R."""
MAX_WORKERS = 1000
"""Most processes that decode images."""

_SHOWN = 40  # faults of one config
_MANY = 1_000_000


def _within(low: float, high: float = math.inf) -> dict[str, tuple[float, float]]:
    """Metadata of a field of numbers: the least and the largest that are allowed.

    Sizes have an upper bound because they come from files of others and must not fill the memory.
    """
    return {"bounds": (low, high)}


def _outside(item: Field[Any], name: str, value: Any) -> list[str]:
    """Faults of a field's number, or of each number in its tuple; None is no fault."""
    if "bounds" not in item.metadata:
        return []
    low, high = item.metadata["bounds"]
    faults = []
    for number in value if isinstance(value, tuple) else (value,):
        if number is not None and not low <= number <= high:
            bound = f"at least {low}" if not number >= low else f"at most {high}"
            faults.append(f"{name} = {short(number)}: must be {bound}")
    return faults


class _Faults(ConfigError):
    """All faults of a config's own fields; each begins with the name of a field."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.faults,)  # other processes raise it too


@dataclass(frozen=True)
class _Settings:
    """Base of the configs: raises :class:`ConfigError` with all faults of its own fields."""

    def __post_init__(self) -> None:
        values = [(item, item.name, getattr(self, item.name)) for item in fields(self)]
        faults = [fault for value in values for fault in _outside(*value)]
        if faults := faults + self._conflicts():
            raise _Faults(faults)

    def _conflicts(self) -> list[str]:
        """Faults of values that do not go together; of any values, also out of their bounds."""
        return []


@dataclass(frozen=True)
class BackboneConfig(_Settings):
    """Which frozen CLIP, at which size, tapped where.

    Attributes:
        name: an open_clip architecture (``ViT-L-14-336``), ``local-dir:FOLDER``,
            ``hf-hub:org/name``, a file in OpenAI's format, or the embedded ``bayes-pfl-clip-tiny``.
        pretrained: open_clip tag, or a weights file; None for names that bring their weights.
        image_size: side S of the square input, in pixels; None for the backbone's own.
        layers: tapped blocks or stages, 1-based; None for four, evenly spaced to the last.
        activation: ``auto`` follows the weights (QuickGELU for OpenAI's); the released Bayes-PFL
            checkpoints were trained with plain ``gelu`` on OpenAI's weights.
        grid: side of the common token grid for towers whose stages differ; None for the rule in
            :func:`bayes_pfl.clip.frozen_clip.common_grid`.
        joined: join the tapped layers to one, with how unlike the rest of the image each token is
            (:mod:`bayes_pfl.clip.joined_layers`): for small convolutional towers. Not in the paper.
        random_weights: allow a backbone without weights. For tests and timing only.
        sha256: hash of the weights file, where known; checked on loading.
    """

    name: str = "ViT-L-14-336"
    pretrained: str | None = None
    image_size: int | None = field(default=None, metadata=_within(1, MAX_IMAGE_SIZE))
    layers: tuple[int, ...] | None = None
    activation: Activation = "auto"
    grid: int | None = field(default=None, metadata=_within(1, 1024))
    joined: bool = False
    random_weights: bool = False
    sha256: str | None = None

    def _conflicts(self) -> list[str]:
        if self.layers is None or 0 < len(self.layers) <= 1000:
            return []
        if not self.layers:
            return ["layers = []: name at least one, or leave it out for the default"]
        return [f"layers: {len(self.layers)} of them; at most 1000"]


@dataclass(frozen=True)
class PromptConfig(_Settings):
    """Prompt bank: M pairs of P context and Q state tokens (paper: section 3.2)."""

    pairs: int = field(default=3, metadata=_within(1, 1000))
    context_tokens: int = field(default=5, metadata=_within(1, 1000))
    state_tokens: int = field(default=5, metadata=_within(1, 1000))


@dataclass(frozen=True)
class FlowConfig(_Settings):
    """Planar flow of length K; ``constrained`` keeps each step invertible."""

    length: int = field(default=10, metadata=_within(0, 1000))
    constrained: bool = True


@dataclass(frozen=True)
class AblationConfig:
    """Which parts of the paper are used; False takes one out.

    Attributes:
        flow: False: prompts are not sampled but shifted by the means of the Gaussian bases.
        specific: False: the context is not shifted, so no prompt depends on the image.
        agnostic: False: the states are not shifted.
        attention: False: text embeddings are compared with the patches without attention to them.
    """

    flow: bool = True
    specific: bool = True
    agnostic: bool = True
    attention: bool = True


@dataclass(frozen=True)
class ScoringConfig(_Settings):
    """How samples become a map and a score.

    Attributes:
        samples: Monte Carlo samples R at test.
        stage: 1 scores images with A_c alone, 2 with A_c, A_i and the fused patch tokens.
        smoothing: sigma of the Gaussian on maps, as a fraction of the side (published: 8/518).
        map_range: map values at the two ends of the overlays' colours, which training sets from its
            validation maps. Maps and scores do not depend on it.
    """

    samples: int = field(default=10, metadata=_within(1, MAX_SAMPLES))
    stage: Literal[1, 2] = 2
    smoothing: float = field(default=8 / 518, metadata=_within(0, 1))
    map_range: tuple[float, float] = field(default=(0.0, 1.0), metadata=_within(0, 1))

    def _conflicts(self) -> list[str]:
        low, high = self.map_range
        return [] if low < high else [f"map_range = [{low}, {high}]: must rise"]


@dataclass(frozen=True)
class ReferenceConfig(_Settings):
    """How pictures are compared with reference pictures (:mod:`bayes_pfl.detect.patches`). Not in
    the paper.

    Attributes:
        layers: of the tapped ones, 1-based as in the backbone's part; None for the rule of
            :func:`bayes_pfl.detect.patches.reference_layers`.
        windows: sides in cells, odd, of the windows that the tokens are averaged over.
        grid: cells along a side; None for the tower's own grid, 20 at most for towers in stages.
        width: channels of a layer above which it is projected at random to so many; None for the
            tower's own, 128 at most for towers in stages.
        patches: most patches of reference pictures that a memory keeps.
    """

    layers: tuple[int, ...] | None = None
    windows: tuple[int, ...] = field(default=(1, 3), metadata=_within(1, 31))
    grid: int | None = field(default=None, metadata=_within(1, 256))
    width: int | None = field(default=None, metadata=_within(1, _MANY))
    patches: int = field(default=3072, metadata=_within(64, _MANY))

    def _conflicts(self) -> list[str]:
        faults = []
        if not self.windows or any(window % 2 == 0 for window in self.windows):
            faults.append(f"windows = {list(self.windows)}: name odd numbers, such as 1 and 3")
        if self.layers is not None and not 0 < len(self.layers) <= 1000:
            faults.append(f"layers: {len(self.layers)} of them; name 1 to 1000, or none")
        return faults


@dataclass(frozen=True)
class FirstWeights(_Settings):
    """The checkpoint whose weights a training began with.

    Attributes:
        checkpoint: its name, folder or hub repository, as it was given.
        sha256: hash of its model.safetensors.
    """

    checkpoint: str
    sha256: str


@dataclass(frozen=True)
class TrainingRecord(_Settings):
    """The pictures that a checkpoint has learnt from: it is no zero-shot detector for these.

    Attributes:
        split: of the datasets, such as "test".
        trained, validated: categories whose pictures trained the weights, and chose the epoch; each
            as "dataset/category". Those of the checkpoint that it began with are among them.
        began_with: None for new weights.
    """

    split: str
    trained: tuple[str, ...]
    validated: tuple[str, ...] = ()
    began_with: FirstWeights | None = None


@dataclass(frozen=True)
class ModelConfig(_Settings):
    """All settings that are needed to rebuild a :class:`bayes_pfl.BayesPFL` around its weights.

    ``training`` says what the weights were trained on; None where that is not known.
    """

    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    prompts: PromptConfig = field(default_factory=PromptConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    attention_heads: int = field(default=4, metadata=_within(1, 1000))
    ablation: AblationConfig = field(default_factory=AblationConfig)
    references: ReferenceConfig = field(default_factory=ReferenceConfig)
    training: TrainingRecord | None = None


@dataclass(frozen=True)
class StageConfig(_Settings):
    """Length and learning rates of one training stage.

    Attributes:
        epochs: at most.
        patience: epochs without improvement after which the stage ends.
        schedule: ``cosine``: linear warm-up, then a half cosine to zero; or ``constant``.
    """

    epochs: int = field(metadata=_within(0, _MANY))
    patience: int = field(metadata=_within(0, _MANY))
    schedule: Literal["cosine", "constant"] = "cosine"


@dataclass(frozen=True)
class TrainConfig(_Settings):
    """Settings of a training run (paper: section 4.1; described in docs/training.md).

    Attributes:
        stage1, stage2: length of the two stages.
        max_epochs: of both stages together; None for no such limit.
        ties_improve: an epoch as good as the best one replaces it.
        batch_size: images of one step, over all devices.
        accumulate: micro-batches that each device divides its share of a batch into.
        steps_per_epoch: None for one pass over the data.
        last_batch: of a pass over the data: ``filled`` up with images of the next, or ``short``.
        lr_prompts, lr_flow, lr_temperature, lr_other: learning rates of the prompt bank, the flow
            (u, w, b and the agnostic vectors), the two temperatures, and everything else.
        betas: of Adam.
        warmup_fraction: share of a stage's steps over which the learning rates rise.
        flow_weight: of the flow losses.
        max_gradient_norm: gradients are scaled down to this norm of them all; None, as in the
            published code, for no limit.
        every_pair: a step trains all prompt pairs, where the published code draws one.
        validation: held-out categories, or the authors' choice.
        held_out: share of the categories that is held out.
        validation_samples: Monte Carlo samples R in validation.
        validation_draws: ``fixed``, or ``new`` in every epoch.
        validation_smoothing: whether the maps are smoothed, as they are for users.
        augment: train on augmented views.
        cache_views: augmented views of an image whose features are cached.
        mosaic: share of the abnormal images that become part of a mosaic.
        mosaic_of_all: normal images become mosaics of abnormal ones too.
        text_checkpointing: recompute the text tower's activations in the backward pass: less
            memory, more time.
        precision: of the forward pass, in Fabric's names.
        workers: processes that read images; 0 for none, None for what the machine has cores for
            (:func:`bayes_pfl.train.devices.reading_processes`).
        seed: of the run.
        augmentation_seed: of the augmented views, so that runs of several seeds can share their
            cached features; None for ``seed``.
    """

    stage1: StageConfig = field(default_factory=lambda: StageConfig(epochs=30, patience=3))
    stage2: StageConfig = field(default_factory=lambda: StageConfig(epochs=30, patience=3))
    max_epochs: int | None = field(default=None, metadata=_within(1, _MANY))
    ties_improve: bool = False
    batch_size: int = field(default=32, metadata=_within(1, _MANY))
    accumulate: int = field(default=1, metadata=_within(1, _MANY))
    steps_per_epoch: int | None = field(default=None, metadata=_within(1, 10**9))
    last_batch: Literal["filled", "short"] = "filled"
    lr_prompts: float = field(default=1e-3, metadata=_within(0))
    lr_flow: float = field(default=1e-3, metadata=_within(0))
    lr_temperature: float = field(default=1e-2, metadata=_within(0))
    lr_other: float = field(default=1e-4, metadata=_within(0))
    betas: tuple[float, float] = field(default=(0.5, 0.999), metadata=_within(0, 1))
    warmup_fraction: float = field(default=0.1, metadata=_within(0, 1))
    flow_weight: float = field(default=0.01, metadata=_within(0))
    max_gradient_norm: float | None = field(default=None, metadata=_within(1e-9))
    every_pair: bool = False
    validation: Literal["held-out", "authors"] = "held-out"
    held_out: float = field(default=0.2, metadata=_within(0, 1))
    validation_samples: int = field(default=3, metadata=_within(0, MAX_SAMPLES))
    validation_draws: Literal["fixed", "new"] = "fixed"
    validation_smoothing: bool = True
    augment: bool = True
    cache_views: int = field(default=4, metadata=_within(1, 10_000))
    mosaic: float = field(default=0.0, metadata=_within(0, 1))
    mosaic_of_all: bool = False
    text_checkpointing: bool = False
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    workers: int | None = field(default=None, metadata=_within(0, MAX_WORKERS))
    seed: int = field(default=0, metadata=_within(0, 2**63 - 1))
    augmentation_seed: int | None = field(default=None, metadata=_within(0, 2**63 - 1))

    def _conflicts(self) -> list[str]:
        faults = []
        if self.accumulate > 0 and self.batch_size % self.accumulate:
            faults = [f"accumulate = {self.accumulate}: must divide batch_size = {self.batch_size}"]
        if self.last_batch == "short" and self.accumulate > 1:
            faults += [f"accumulate = {self.accumulate}: a short last batch is not divided; use 1"]
        return faults

    @property
    def views_seed(self) -> int:
        """Seed of the augmented views."""
        return self.seed if self.augmentation_seed is None else self.augmentation_seed


def from_dict(cls: type[ConfigT], data: Any, where: str = "config") -> ConfigT:
    """Build the dataclass ``cls`` from parsed JSON.

    Args:
        where: the name of ``data`` in errors.

    Raises:
        ConfigError: with all faults of all levels, forty at most, in one line: entries that are
            unknown, missing, of another type, or out of bounds.
    """
    faults: list[str] = []
    value = _build(cls, data, where, faults)
    if faults:
        more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise ConfigError("; ".join(faults[:_SHOWN]) + more)
    return typing.cast(ConfigT, value)


def load_json(cls: type[ConfigT], path: Path) -> ConfigT:
    """Read ``path`` as ``cls``. Raises :class:`ConfigError` naming the file."""
    return from_dict(cls, read_json_config(path), str(path))


def read_json_config(path: Path) -> Any:
    """The content of a JSON file. Raises :class:`ConfigError` naming the file."""
    try:
        return read_json(path, MAX_CONFIG)
    except (OSError, Malformed) as error:
        raise ConfigError(f"{path}: not readable as JSON ({one_line(error)})") from error


def _build(cls: Any, data: Any, where: str, faults: list[str]) -> Any:
    """An object of ``cls``; None if there are faults, which are added to ``faults``."""
    if not isinstance(data, dict):
        faults.append(f"{where}: expected an object, found {type(data).__name__}")
        return None
    hints = typing.get_type_hints(cls)
    known = {item.name: item for item in fields(cls)}
    found = _wrong_names(known, data, where)
    values: dict[str, Any] = {}
    for name in [name for name in data if name in known]:
        before = len(found)
        value = _convert(hints[name], data[name], f"{where}.{name}", found)
        if len(found) == before:
            values[name] = value
    faults += found
    if found and not issubclass(cls, _Settings):
        return None
    # Entries that cannot be used stay out, so that what is wrong with the others is said too.
    absent = {name: None for name, item in known.items() if _is_required(item)}
    try:
        made = cls(**absent | values)
    except _Faults as error:
        faults += [f"{where}.{fault}" for fault in error.faults]
        return None
    except ConfigError as error:  # of a dataclass with checks of its own
        faults.append(f"{where}: {error}")
        return None
    return None if found else made


def _wrong_names(known: dict[str, Field[Any]], data: dict[str, Any], where: str) -> list[str]:
    unknown = [
        f"{where}: unknown entry {short(name)} (known: {', '.join(known)})"
        for name in sorted(data.keys() - known)
    ]
    missing = [
        f"{where}: missing entry {name!r}"
        for name, item in known.items()
        if name not in data and _is_required(item)
    ]
    return unknown + missing


def _is_required(item: Field[Any]) -> bool:
    return item.default is MISSING and item.default_factory is MISSING


def _convert(hint: Any, value: Any, where: str, faults: list[str]) -> Any:
    """JSON's ``value`` as the type ``hint``; faults are added to ``faults``."""
    if is_dataclass(hint):
        return _build(hint, value, where, faults)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, where, faults)
    if origin is Literal:
        if not any(type(value) is type(a) and value == a for a in arguments):
            known = ", ".join(map(repr, arguments))
            faults.append(f"{where}: {short(value)} is not one of {known}")
        return value
    if origin is tuple:
        return _convert_tuple(arguments, value, where, faults)
    return _convert_scalar(hint, value, where, faults)


def _convert_tuple(arguments: Any, value: Any, where: str, faults: list[str]) -> Any:
    if not isinstance(value, list | tuple):
        faults.append(f"{where}: expected a list, found {short(value)}")
        return ()
    if arguments[-1] is not Ellipsis and len(value) != len(arguments):
        faults.append(f"{where}: expected {len(arguments)} values, found {short(value)}")
    return tuple(_convert(arguments[0], item, where, faults) for item in value)


def _convert_scalar(hint: Any, value: Any, where: str, faults: list[str]) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 2**53 else math.inf  # beyond the exact floats
    if isinstance(value, float) and not math.isfinite(value):
        faults.append(f"{where}: {short(value)} is not a finite number")
    elif not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        faults.append(f"{where}: expected {hint.__name__}, found {short(value)}")
    return value
