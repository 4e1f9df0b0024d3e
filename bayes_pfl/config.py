"""Typed settings. They are written into every checkpoint and run folder, and read back by name."""

from __future__ import annotations

import json
import math
import types
import typing
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from bayes_pfl.errors import ConfigError

Activation = Literal["auto", "gelu", "quick_gelu"]
ConfigT = TypeVar("ConfigT")


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
            :func:`bayes_pfl.backbone.common_grid`.
        random_weights: allow a backbone without weights. For tests and timing only.
        sha256: hash of the weights file, where known; checked on loading.
    """

    name: str = "ViT-L-14-336"
    pretrained: str | None = None
    image_size: int | None = None
    layers: tuple[int, ...] | None = None
    activation: Activation = "auto"
    grid: int | None = None
    random_weights: bool = False
    sha256: str | None = None

    def __post_init__(self) -> None:
        faults = [
            f"{name} = {value}: must be at least 1"
            for name, value in (("image_size", self.image_size), ("grid", self.grid))
            if value is not None and value < 1
        ]
        if self.layers is not None and not self.layers:
            faults.append("layers = []: name at least one, or leave it out for the default")
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
        faults = [
            f"{name} = {value}: must be at least {low}"
            for name, value, low in (
                ("prompts.pairs", self.prompts.pairs, 1),
                ("prompts.context_tokens", self.prompts.context_tokens, 1),
                ("prompts.state_tokens", self.prompts.state_tokens, 1),
                ("flow.length", self.flow.length, 0),
                ("scoring.samples", self.scoring.samples, 1),
                ("attention_heads", self.attention_heads, 1),
            )
            if value < low
        ]
        low, high = self.scoring.map_range
        if not 0 <= low < high <= 1:
            faults.append(f"scoring.map_range = [{low}, {high}]: must rise, within 0 and 1")
        if self.scoring.smoothing < 0:
            faults.append(f"scoring.smoothing = {self.scoring.smoothing}: must not be negative")
        if faults:
            raise ConfigError("; ".join(faults))


@dataclass(frozen=True)
class StageConfig:
    """Length of one training stage: epochs at most, epochs without improvement before it ends."""

    epochs: int
    patience: int


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run (paper: section 4.1; DESIGN of the training in docs/training.md).

    Learning rates are per group: prompt bank, flow (u, w, b and the agnostic vectors), the two
    temperatures, everything else. ``steps_per_epoch`` None means one pass over the data.
    ``cache_views``: augmented views per image where features are cached. ``text_checkpointing``:
    recompute the text tower's activations in the backward pass: less memory, more time.
    ``accumulate``: parts that each device takes its share of a batch in, one after the other.
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

    def __post_init__(self) -> None:
        faults = [
            f"{name} = {value}: must be at least 1"
            for name, value in (
                ("batch_size", self.batch_size),
                ("accumulate", self.accumulate),
                ("steps_per_epoch", self.steps_per_epoch),
                ("cache_views", self.cache_views),
            )
            if value is not None and value < 1
        ]
        if not faults and self.batch_size % self.accumulate:
            faults.append(
                f"accumulate = {self.accumulate}: must divide batch_size = {self.batch_size}"
            )
        if faults:
            raise ConfigError("; ".join(faults))


def to_json(config: Any) -> str:
    """Any of these dataclasses as indented JSON."""
    return json.dumps(asdict(config), indent=2) + "\n"


def from_dict(cls: type[ConfigT], data: Any, where: str = "config") -> ConfigT:
    """Build ``cls`` from parsed JSON; all unknown, missing and mistyped entries are named together.

    Raises:
        ConfigError: with every fault found, in one line.
    """
    faults: list[str] = []
    value = _build(cls, data, where, faults)
    if faults:
        raise ConfigError("; ".join(faults))
    return typing.cast(ConfigT, value)


def load_json(cls: type[ConfigT], path: Path) -> ConfigT:
    """Read ``path`` as ``cls``. Raises :class:`ConfigError` naming the file."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path}: not readable as JSON ({error})") from error
    return from_dict(cls, data, str(path))


def _build(cls: Any, data: Any, where: str, faults: list[str]) -> Any:
    if not isinstance(data, dict):
        faults.append(f"{where}: expected an object, found {type(data).__name__}")
        return None
    hints = typing.get_type_hints(cls)
    known = {item.name: item for item in fields(cls)}
    faults += [
        f"{where}: unknown entry {key!r} (known: {', '.join(known)})" for key in data.keys() - known
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
        if not any(type(value) is type(known) and value == known for known in arguments):
            faults.append(f"{where}: {value!r} is not one of {', '.join(map(repr, arguments))}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            faults.append(f"{where}: expected a list, found {value!r}")
            return ()
        if arguments[-1] is not Ellipsis and len(value) != len(arguments):
            faults.append(f"{where}: expected {len(arguments)} values, found {value!r}")
        return tuple(_convert(arguments[0], item, where, faults) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        faults.append(f"{where}: {value!r} is not a finite number")
        return value
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        faults.append(f"{where}: expected {hint.__name__}, found {value!r}")
    return value
