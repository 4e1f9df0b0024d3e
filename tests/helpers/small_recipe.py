"""The recipe of the embedded small CLIP at a size of seconds: settings, a renderer, weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from pretraining import PictureSource, PretrainConfig
from pretraining.lite_weights import TRUNK, LiteWeights, match_weights

TINY = PretrainConfig(
    image_size=64, pictures=8, views=2, text_width=8, text_heads=2, text_layers=1, steps=6,
    warmup=1, batch=6, class_names=4, unlock_steps=3, unlock_batch=4, places=2,
    validation_pictures=4, workers=0, threads=1,
)  # fmt: skip


@dataclass(frozen=True)
class Picture:
    image: np.ndarray
    mask: np.ndarray
    class_name: str
    defect: str
    caption: str


def draw(category: str, seed: int, index: int, *, size: int, defect: str) -> Picture:
    """A renderer of noise; a defect is a white square."""
    rng = np.random.default_rng((len(category), seed, index))
    image = rng.integers(0, 120, (size, size, 3)).astype(np.uint8)
    mask = np.zeros((size, size), bool)
    if defect != "good":
        mask[size // 4 : size // 2, size // 4 : size // 2] = True
        image[mask] = 255
    return Picture(image, mask, category.replace("_", " "), defect, f"a {category}, {defect}")


SOURCE = PictureSource(
    draw,
    {"metal_nut": ("hole", "crack"), "wood": ("hole",)},
    {"felt": ("hole",), "granite": ("crack",)},
)


def random_weights() -> LiteWeights:
    """Of the image tower; batch norm scales are positive, as trained ones are."""
    import timm

    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = timm.create_model(TRUNK, num_classes=1000).state_dict()
    return match_weights(state)
