"""Typed settings. They are written into every checkpoint and run folder, and read back by name."""

from __future__ import annotations

import math
import types
import typing
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from bayes_pfl.errors import ConfigError
from bayes_pfl.support.error_text import one_line
from bayes_pfl.support.parsing import MAX_CONFIG, Malformed, read_json, short

Activation = Literal["auto", "gelu", "quick_gelu"]
ConfigT = TypeVar("ConfigT")

MAX_IMAGE_SIZE = 4096
"""Pixels of the model's input at most; a larger one fills any memory."""

_SHOWN = 40  # faults of one config
_MANY = 1_000_000
_RATES = ("lr_prompts", "lr_flow", "lr_temperature", "lr_other")


def _outside(*entries: tuple[str, float | None, float, float]) -> list[str]:
    """What is wrong with (name, value, low, high): a size from a file must not fill memory."""
    faults = []
    for name, value, low, high in entries:
        if value is not None and not low <= value <= high:
            bound = f"at least {low}" if not value >= low else f"at most {high}"
            faults.append(f"{name} = {short(value)}: must be {bound}")
    return faults


@dataclass(frozen=True)
class BackboneConfig:
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
        joined: take the tapped layers side by side as one, with how unlike the rest of the image
            each token is (:mod:`bayes_pfl.clip.joined_layers`): for small convolutional towers.
            Not in the paper.
        random_weights: allow a backbone without weights. For tests and timing only.
        sha256: hash of the weights file, where known; checked on loading.
    """

    name: str = "ViT-L-14-336"
    pretrained: str | None = None
    image_size: int | None = None
    layers: tuple[int, ...] | None = None
    activation: Activation = "auto"
    grid: int | None = None
    joined: bool = False
    random_weights: bool = False
    sha256: str | None = None

    def __post_init__(self) -> None:
        faults = _outside(
            ("image_size", self.image_size, 1, MAX_IMAGE_SIZE), ("grid", self.grid, 1, 1024)
        )
        if self.layers is not None and not self.layers:
            faults.append("layers = []: name at least one, or leave it out for the default")
        if len(self.layers or ()) > 1000:
            faults.append(f"layers: {len(self.layers or ())} of them; at most 1000")
        if faults:
            raise ConfigError("; ".join(faults))


@dataclass(frozen=True)
class PromptConfig:
    """Prompt bank: M pairs of P context and Q state tokens (paper: section 3.2)."""

    pairs: int = 3
    context_tokens: int = 5
    state_tokens: int = 5


@dataclass(frozen=True)
class FlowConfig:
    """Planar flow of length K; ``constrained`` keeps each step invertible."""

    length: int = 10
    constrained: bool = True


@dataclass(frozen=True)
class AblationConfig:
    """Parts of the paper that are in use; False takes one out, to see what it is worth.

    Attributes:
        flow: False: prompts are not sampled; the shifts are the means of the Gaussian bases.
        specific: False: the context is not shifted, so no prompt depends on the image.
        agnostic: False: the states are not shifted.
        attention: False: text embeddings meet the patches without looking at them first.
    """

    flow: bool = True
    specific: bool = True
    agnostic: bool = True
    attention: bool = True


@dataclass(frozen=True)
class ScoringConfig:
    """How samples become a map and a score.

    Attributes:
        samples: Monte Carlo samples R at test.
        stage: 1 scores images with A_c alone, 2 with A_c, A_i and the fused patch tokens.
        smoothing: sigma of the Gaussian on maps, as a fraction of the side (published: 8/518).
        map_range: map values at the two ends of the overlays' colours; training sets them from its
            validation maps. Maps and scores are not changed by it.
    """

    samples: int = 10
    stage: Literal[1, 2] = 2
    smoothing: float = 8 / 518
    map_range: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class ModelConfig:
    """Everything that is needed to rebuild a :class:`bayes_pfl.BayesPFL` around its weights."""

    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    prompts: PromptConfig = field(default_factory=PromptConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    attention_heads: int = 4
    ablation: AblationConfig = field(default_factory=AblationConfig)

    def __post_init__(self) -> None:
        faults = _outside(
            ("prompts.pairs", self.prompts.pairs, 1, 1000),
            ("prompts.context_tokens", self.prompts.context_tokens, 1, 1000),
            ("prompts.state_tokens", self.prompts.state_tokens, 1, 1000),
            ("flow.length", self.flow.length, 0, 1000),
            ("scoring.samples", self.scoring.samples, 1, 10_000),
            ("attention_heads", self.attention_heads, 1, 1000),
        )
        low, high = self.scoring.map_range
        if not 0 <= low < high <= 1:
            faults.append(f"scoring.map_range = [{low}, {high}]: must rise, within 0 and 1")
        if not 0 <= self.scoring.smoothing <= 1:
            faults.append(
                f"scoring.smoothing = {self.scoring.smoothing}: must not be negative, nor over 1"
            )
        if faults:
            raise ConfigError("; ".join(faults))


@dataclass(frozen=True)
class StageConfig:
    """Length of one training stage: epochs at most, epochs without improvement before it ends."""

    epochs: int
    patience: int

    def __post_init__(self) -> None:
        faults = _outside(("epochs", self.epochs, 0, _MANY), ("patience", self.patience, 0, _MANY))
        if faults:
            raise ConfigError("; ".join(faults))


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run (paper: section 4.1; DESIGN of the training in docs/training.md).

    Learning rates are per group: prompt bank, flow (u, w, b and the agnostic vectors), the two
    temperatures, everything else. ``steps_per_epoch`` None means one pass over the data.
    ``cache_views``: augmented views per image where features are cached. ``text_checkpointing``:
    recompute the text tower's activations in the backward pass: less memory, more time.
    ``accumulate``: parts that each device takes its share of a batch in, one after the other.
    ``max_gradient_norm``: of all gradients together; longer ones are scaled to it. None, as in the
    published code, leaves them.
    ``every_pair``: a step trains all prompt pairs, where the published code draws one.
    ``augmentation_seed``: of the augmented views, so that runs of several seeds can share their
    cached features; None for that of the run.
    """

    stage1: StageConfig = field(default_factory=lambda: StageConfig(epochs=30, patience=3))
    stage2: StageConfig = field(default_factory=lambda: StageConfig(epochs=30, patience=3))
    batch_size: int = 32
    accumulate: int = 1
    steps_per_epoch: int | None = None
    lr_prompts: float = 1e-3
    lr_flow: float = 1e-3
    lr_temperature: float = 1e-2
    lr_other: float = 1e-4
    betas: tuple[float, float] = (0.5, 0.999)
    warmup_fraction: float = 0.1
    flow_weight: float = 0.01
    max_gradient_norm: float | None = None
    every_pair: bool = False
    validation: Literal["held-out", "authors"] = "held-out"
    held_out: float = 0.2
    validation_samples: int = 3
    augment: bool = True
    cache_views: int = 4
    mosaic: float = 0.0
    text_checkpointing: bool = False
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    workers: int = 0
    seed: int = 0
    augmentation_seed: int | None = None

    def __post_init__(self) -> None:
        faults = _outside(
            ("batch_size", self.batch_size, 1, _MANY),
            ("accumulate", self.accumulate, 1, _MANY),
            ("steps_per_epoch", self.steps_per_epoch, 1, 10**9),
            ("cache_views", self.cache_views, 1, 10_000),
            ("validation_samples", self.validation_samples, 0, 10_000),
            ("workers", self.workers, 0, 1000),
            ("seed", self.seed, 0, 2**63 - 1),
            ("augmentation_seed", self.augmentation_seed, 0, 2**63 - 1),
            ("held_out", self.held_out, 0, 1),
            ("mosaic", self.mosaic, 0, 1),
            ("warmup_fraction", self.warmup_fraction, 0, 1),
            ("flow_weight", self.flow_weight, 0, math.inf),
            ("max_gradient_norm", self.max_gradient_norm, 1e-9, math.inf),
            *(("betas", beta, 0, 1) for beta in self.betas),
            *((name, getattr(self, name), 0, math.inf) for name in _RATES),
        )
        if not faults and self.batch_size % self.accumulate:
            faults.append(
                f"accumulate = {self.accumulate}: must divide batch_size = {self.batch_size}"
            )
        if faults:
            raise ConfigError("; ".join(faults))

    @property
    def views_seed(self) -> int:
        """Seed of the augmented views."""
        return self.seed if self.augmentation_seed is None else self.augmentation_seed


def from_dict(cls: type[ConfigT], data: Any, where: str = "config") -> ConfigT:
    """Build ``cls`` from parsed JSON; unknown, missing and mistyped entries are named together.

    Raises:
        ConfigError: with the faults found, forty at most, in one line.
    """
    faults: list[str] = []
    value = _build(cls, data, where, faults)
    if faults:
        more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise ConfigError("; ".join(faults[:_SHOWN]) + more)
    return typing.cast(ConfigT, value)


def load_json(cls: type[ConfigT], path: Path) -> ConfigT:
    """Read ``path`` as ``cls``. Raises :class:`ConfigError` naming the file."""
    try:
        data = read_json(path, MAX_CONFIG)
    except (OSError, Malformed) as error:
        raise ConfigError(f"{path}: not readable as JSON ({one_line(error)})") from error
    return from_dict(cls, data, str(path))


def _build(cls: Any, data: Any, where: str, faults: list[str]) -> Any:
    if not isinstance(data, dict):
        faults.append(f"{where}: expected an object, found {type(data).__name__}")
        return None
    hints = typing.get_type_hints(cls)
    known = {item.name: item for item in fields(cls)}
    faults += [
        f"{where}: unknown entry {short(key)} (known: {', '.join(known)})"
        for key in sorted(data.keys() - known)
    ]
    faults += [
        f"{where}: missing entry {name!r}"
        for name, item in known.items()
        if name not in data and item.default is MISSING and item.default_factory is MISSING
    ]
    before = len(faults)
    values = {
        key: _convert(hints[key], value, f"{where}.{key}", faults)
        for key, value in data.items()
        if key in known
    }
    if len(faults) > before or faults:
        return None
    try:
        return cls(**values)
    except ConfigError as error:  # of __post_init__
        faults.append(f"{where}: {error}")
        return None


def _convert(hint: Any, value: Any, where: str, faults: list[str]) -> Any:
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
        if not isinstance(value, list | tuple):
            faults.append(f"{where}: expected a list, found {short(value)}")
            return ()
        if arguments[-1] is not Ellipsis and len(value) != len(arguments):
            faults.append(f"{where}: expected {len(arguments)} values, found {short(value)}")
        return tuple(_convert(arguments[0], item, where, faults) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 2**53 else math.inf  # more than a float can count
    if isinstance(value, float) and not math.isfinite(value):
        faults.append(f"{where}: {short(value)} is not a finite number")
        return value
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        faults.append(f"{where}: expected {hint.__name__}, found {short(value)}")
    return value
