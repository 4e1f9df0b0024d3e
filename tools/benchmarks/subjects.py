"""What is measured: a model, its image tower, and pictures for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bayes_pfl.checkpoints.load import load_checkpoint, untrained_model
from bayes_pfl.config import BackboneConfig
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.rendering import TEST_CATEGORIES, render
from bayes_pfl.support.precision import autocast

CLASS_NAME = "metal nut"


@dataclass(frozen=True)
class BenchmarkedModel:
    """A checkpoint, or a backbone whose head has random weights: the time is the same."""

    checkpoint: str | None = None
    backbone: BackboneConfig | None = None
    device: str | None = None

    def model(self) -> BayesPFLNetwork:
        """The model in eval mode on its device; the caller's random state does not change."""
        if self.checkpoint is not None:
            return load_checkpoint(self.checkpoint, device=self.device)
        return untrained_model(self.backbone or BackboneConfig(), self.device)


def bare_tower(
    model: BayesPFLNetwork, images: Tensor, precision: str, compile: bool = False
) -> Callable[[], Tensor]:
    """open_clip's own image tower on normalised images, without anything of this package."""
    visual = model.backbone.visual  # the model itself runs a copy, made for speed
    tower = torch.compile(visual) if compile else visual

    @torch.no_grad()
    def run() -> Tensor:
        with autocast(model.device, precision):
            return tower(images)

    return run


def noise_pictures(count: int, side: int) -> list[np.ndarray]:
    """Noise, uint8 (S, S, 3): the time does not depend on the content."""
    values = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    return list(values)


def rendered_pictures(count: int, side: int) -> list[tuple[np.ndarray, np.ndarray, str]]:
    """Image uint8 (S, S, 3), mask bool (S, S) and class name of rendered objects with a defect."""
    found = []
    for index in range(count):
        name = TEST_CATEGORIES[index % len(TEST_CATEGORIES)]
        one = render(name, 0, index, size=side, defect="random")
        found.append((one.image, one.mask, one.class_name))
    return found
