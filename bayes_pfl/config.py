"""Typed settings. They are written into every checkpoint and run folder, and read back by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from bayes_pfl.support.typed_json import Settings, within

Activation = Literal["auto", "gelu", "quick_gelu"]

MAX_IMAGE_SIZE = 4096
"""Largest side of the model's input, in pixels."""
MAX_SAMPLES = 10_000
"""Most Monte Carlo samples R."""
MAX_WORKERS = 1000
"""Most processes that decode images."""

_MANY = 1_000_000


@dataclass(frozen=True)
class BackboneConfig(Settings):
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
    image_size: int | None = field(default=None, metadata=within(1, MAX_IMAGE_SIZE))
    layers: tuple[int, ...] | None = None
    activation: Activation = "auto"
    grid: int | None = field(default=None, metadata=within(1, 1024))
    joined: bool = False
    random_weights: bool = False
    sha256: str | None = None

    def conflicts(self) -> list[str]:
        if self.layers is None or 0 < len(self.layers) <= 1000:
            return []
        if not self.layers:
            return ["layers = []: name at least one, or leave it out for the default"]
        return [f"layers: {len(self.layers)} of them; at most 1000"]


@dataclass(frozen=True)
class PromptConfig(Settings):
    """Prompt bank: M pairs of P context and Q state tokens (paper: section 3.2)."""

    pairs: int = field(default=3, metadata=within(1, 1000))
    context_tokens: int = field(default=5, metadata=within(1, 1000))
    state_tokens: int = field(default=5, metadata=within(1, 1000))


@dataclass(frozen=True)
class FlowConfig(Settings):
    """Planar flow of length K; ``constrained`` keeps each step invertible."""

    length: int = field(default=10, metadata=within(0, 1000))
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
class ScoringConfig(Settings):
    """How samples become a map and a score.

    Attributes:
        samples: Monte Carlo samples R at test.
        stage: 1 scores images with A_c alone, 2 with A_c, A_i and the fused patch tokens.
        smoothing: sigma of the Gaussian on maps, as a fraction of the side (published: 8/518).
        map_range: map values at the two ends of the overlays' colours, which training sets from its
            validation maps. Maps and scores do not depend on it.
    """

    samples: int = field(default=10, metadata=within(1, MAX_SAMPLES))
    stage: Literal[1, 2] = 2
    smoothing: float = field(default=8 / 518, metadata=within(0, 1))
    map_range: tuple[float, float] = field(default=(0.0, 1.0), metadata=within(0, 1))

    def conflicts(self) -> list[str]:
        low, high = self.map_range
        return [] if low < high else [f"map_range = [{low}, {high}]: must rise"]


@dataclass(frozen=True)
class ReferenceConfig(Settings):
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
    windows: tuple[int, ...] = field(default=(1, 3), metadata=within(1, 31))
    grid: int | None = field(default=None, metadata=within(1, 256))
    width: int | None = field(default=None, metadata=within(1, _MANY))
    patches: int = field(default=3072, metadata=within(64, _MANY))

    def conflicts(self) -> list[str]:
        faults = []
        if not self.windows or any(window % 2 == 0 for window in self.windows):
            faults.append(f"windows = {list(self.windows)}: name odd numbers, such as 1 and 3")
        if self.layers is not None and not 0 < len(self.layers) <= 1000:
            faults.append(f"layers: {len(self.layers)} of them; name 1 to 1000, or none")
        return faults


@dataclass(frozen=True)
class FirstWeights(Settings):
    """The checkpoint whose weights a training began with.

    Attributes:
        checkpoint: its name, folder or hub repository, as it was given.
        sha256: hash of its model.safetensors.
    """

    checkpoint: str
    sha256: str


@dataclass(frozen=True)
class TrainingRecord(Settings):
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
class ModelConfig(Settings):
    """All settings that are needed to rebuild a :class:`bayes_pfl.BayesPFL` around its weights.

    ``training`` says what the weights were trained on; None where that is not known.
    """

    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    prompts: PromptConfig = field(default_factory=PromptConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    attention_heads: int = field(default=4, metadata=within(1, 1000))
    ablation: AblationConfig = field(default_factory=AblationConfig)
    references: ReferenceConfig = field(default_factory=ReferenceConfig)
    training: TrainingRecord | None = None


@dataclass(frozen=True)
class StageConfig(Settings):
    """Length and learning rates of one training stage.

    Attributes:
        epochs: at most.
        patience: epochs without improvement after which the stage ends.
        schedule: ``cosine``: linear warm-up, then a half cosine to zero; or ``constant``.
    """

    epochs: int = field(metadata=within(0, _MANY))
    patience: int = field(metadata=within(0, _MANY))
    schedule: Literal["cosine", "constant"] = "cosine"


@dataclass(frozen=True)
class TrainConfig(Settings):
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
    max_epochs: int | None = field(default=None, metadata=within(1, _MANY))
    ties_improve: bool = False
    batch_size: int = field(default=32, metadata=within(1, _MANY))
    accumulate: int = field(default=1, metadata=within(1, _MANY))
    steps_per_epoch: int | None = field(default=None, metadata=within(1, 10**9))
    last_batch: Literal["filled", "short"] = "filled"
    lr_prompts: float = field(default=1e-3, metadata=within(0))
    lr_flow: float = field(default=1e-3, metadata=within(0))
    lr_temperature: float = field(default=1e-2, metadata=within(0))
    lr_other: float = field(default=1e-4, metadata=within(0))
    betas: tuple[float, float] = field(default=(0.5, 0.999), metadata=within(0, 1))
    warmup_fraction: float = field(default=0.1, metadata=within(0, 1))
    flow_weight: float = field(default=0.01, metadata=within(0))
    max_gradient_norm: float | None = field(default=None, metadata=within(1e-9))
    every_pair: bool = False
    validation: Literal["held-out", "authors"] = "held-out"
    held_out: float = field(default=0.2, metadata=within(0, 1))
    validation_samples: int = field(default=3, metadata=within(0, MAX_SAMPLES))
    validation_draws: Literal["fixed", "new"] = "fixed"
    validation_smoothing: bool = True
    augment: bool = True
    cache_views: int = field(default=4, metadata=within(1, 10_000))
    mosaic: float = field(default=0.0, metadata=within(0, 1))
    mosaic_of_all: bool = False
    text_checkpointing: bool = False
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    workers: int | None = field(default=None, metadata=within(0, MAX_WORKERS))
    seed: int = field(default=0, metadata=within(0, 2**63 - 1))
    augmentation_seed: int | None = field(default=None, metadata=within(0, 2**63 - 1))

    def conflicts(self) -> list[str]:
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
