"""Time and memory of a training step, with the image tower and from cached features, in turns."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bayes_pfl.clip.frozen_clip import ImageFeatures
from bayes_pfl.config import TrainConfig
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.model.sampling import PromptNoise
from bayes_pfl.support.environment import environment
from bayes_pfl.support.precision import autocast, half_dtype
from bayes_pfl.train.feature_cache import FeatureCache
from bayes_pfl.train.parameter_groups import parameter_groups, set_stage
from bayes_pfl.train.step import TrainingStep
from benchmarks.memory import peak_bytes
from benchmarks.subjects import CLASS_NAME, BenchmarkedModel, bare_tower
from benchmarks.timing import interleaved, medians


@dataclass(frozen=True)
class TrainingSettings:
    """How to run; ``repeats``: timed rounds, after one that is not."""

    batch_size: int = 8
    precision: str = "float32"
    text_checkpointing: bool = False
    repeats: int = 3


def benchmark_training(subject: BenchmarkedModel, settings: TrainingSettings) -> dict[str, Any]:
    """Seconds of one step of stage 1: losses, gradients, Adam. Augmentation is not in it.

    The cached step reads its rows from a feature cache on disk, checksums verified, as training
    does after the first epochs.

    Returns:
        {"backbone_seconds", "step_seconds", "cached_step_seconds" (each per batch; medians),
        "cached_ratio" (cached / plain), "overhead" (plain / backbone), "images_per_second",
        "cached_images_per_second", "peak_memory_bytes", "cached_peak_memory_bytes" (weights
        included; None where unknown), "settings", "seconds", "environment"}
    """
    half_dtype(settings.precision)  # refused before any work
    with tempfile.TemporaryDirectory() as folder:
        bench = _Bench(subject.model(), settings, Path(folder))
        device = bench.model.device
        works: dict[str, Callable[[], object]] = {
            "backbone": bare_tower(bench.model, bench.images, settings.precision),
            "step": lambda: bench.step({"image": bench.images, **bench.targets}),
            "cached": lambda: bench.step(bench.cached()),
        }
        peaks = [peak_bytes(works[name], device) for name in ("step", "cached")]  # and a warm-up
        taken = interleaved(works, settings.repeats, device, warmup=0)
    seconds = medians(taken)
    return {
        "backbone_seconds": seconds["backbone"],
        "step_seconds": seconds["step"],
        "cached_step_seconds": seconds["cached"],
        "cached_ratio": seconds["cached"] / seconds["step"],
        "overhead": seconds["step"] / seconds["backbone"],
        "images_per_second": settings.batch_size / seconds["step"],
        "cached_images_per_second": settings.batch_size / seconds["cached"],
        "peak_memory_bytes": peaks[0],
        "cached_peak_memory_bytes": peaks[1],
        "settings": bench.settings(),
        "seconds": taken,
        "environment": environment(device.type),
    }


class _Bench:
    """A model in training, a batch of noise, and the same batch in a cache."""

    def __init__(self, model: BayesPFLNetwork, settings: TrainingSettings, folder: Path) -> None:
        self.model, self.chosen = model.train(), settings
        set_stage(model, 1)
        config = TrainConfig()
        self.module = TrainingStep(model, config.flow_weight, settings.text_checkpointing)
        self.optimizer = torch.optim.Adam(parameter_groups(model, config), betas=config.betas)
        count, size = settings.batch_size, model.backbone.image_size
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randn(count, 3, size, size, generator=generator).to(model.device)
        masks = torch.zeros(count, size, size)
        masks[::2, size // 4 : size // 2, size // 4 : size // 2] = 1
        targets = {"mask": masks, "label": masks.amax((1, 2)).long()}
        self.targets = {name: value.to(model.device) for name, value in targets.items()}
        self.noise = PromptNoise.draw(1, model.backbone.embed_dim, generator, count)
        self.cache = FeatureCache(folder, count, 1, model.backbone)
        self.cache.write(0, torch.arange(count), self._features(generator), targets)

    def _features(self, generator: torch.Generator) -> ImageFeatures:
        """Noise in the shape of features: as slow to read as those of images."""
        backbone, count = self.model.backbone, self.chosen.batch_size
        patches = backbone.grid[0] * backbone.grid[1]
        tokens = tuple(
            torch.randn(count, patches, width, generator=generator)
            for width in backbone.vision_widths
        )
        pooled = torch.randn(count, backbone.embed_dim, generator=generator)
        return ImageFeatures(pooled, tokens, backbone.grid)

    def step(self, batch: dict[str, Any]) -> None:
        """One step of stage 1."""
        noise = self.noise.to(self.model.device)
        names = [CLASS_NAME] * self.chosen.batch_size
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(self.model.device, self.chosen.precision):
            draws = (noise.specific, noise.normal, noise.abnormal)
            losses = self.module(batch, names, draws, 0, 1)
        losses["total"].backward()
        self.optimizer.step()

    def cached(self) -> dict[str, Any]:
        """The batch as training reads it."""
        batch = self.cache.read(0, range(self.chosen.batch_size))
        return {name: self._to_device(value) for name, value in batch.items()}

    def _to_device(self, value: Tensor | tuple[Tensor, ...]) -> Any:
        if isinstance(value, Tensor):
            return value.to(self.model.device)
        return tuple(one.to(self.model.device) for one in value)

    def settings(self) -> dict[str, Any]:
        """What was measured."""
        return {
            "backbone": self.model.config.backbone.name,
            "image_size": self.model.backbone.image_size,
            "batch_size": self.chosen.batch_size,
            "precision": self.chosen.precision,
            "text_checkpointing": self.chosen.text_checkpointing,
            "repeats": self.chosen.repeats,
        }
