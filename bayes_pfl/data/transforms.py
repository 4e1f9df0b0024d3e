"""Turns pictures and masks into the tensors that the model takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image


@dataclass(frozen=True)
class InferenceTransform:
    """A picture -> float32 (3, S, S), as CLIP sees it.

    Resized to S×S without keeping the aspect (Pillow's bicubic filter, which is antialiased),
    divided by 255, normalised per channel.

    Attributes:
        image_size: S, pixels.
        mean: of pixels in [0, 1], per channel (RGB); the backbone's.
        std: likewise.
    """

    image_size: int
    mean: Sequence[float]
    std: Sequence[float]

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Image of mode RGB, any size -> float32 (3, S, S)."""
        return self.normalise(resize_image(image, self.image_size))

    def mask(self, mask: np.ndarray) -> torch.Tensor:
        """Bool (H, W) -> float32 (S, S) of 0 and 1, see :func:`smooth_mask`."""
        return torch.from_numpy(smooth_mask(mask, self.image_size).astype(np.float32))

    def normalise(self, pixels: np.ndarray) -> torch.Tensor:
        """Pixels uint8 (S, S, 3) -> float32 (3, S, S)."""
        planes = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        return normalise(planes, self.mean, self.std)


def normalise(pixels: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Pixels uint8 (..., 3, H, W) -> float32 on their device: divided by 255, then normalised.

    Args:
        mean: of pixels in [0, 1], per channel (RGB).
        std: likewise.
    """
    centre, scale = (torch.tensor(x, device=pixels.device).view(3, 1, 1) for x in (mean, std))
    return (pixels.float() / 255 - centre) / scale


def resize_image(image: Image.Image, size: int) -> np.ndarray:
    """Mode RGB, any size -> uint8 (size, size, 3), bicubic with antialias."""
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))


def smooth_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """(H, W), anomalous above 0 -> bool (size, size): bilinear with antialias, then above 0.5.

    As the published code resizes masks. A line thinner than half a cell vanishes.
    """
    picture = Image.fromarray((np.asarray(mask) > 0).astype(np.uint8) * 255)
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR)) > 127


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W), anomalous above 0 -> bool of size (width, height), nearest neighbour."""
    picture = Image.fromarray((np.asarray(mask) > 0).astype(np.uint8))
    return np.asarray(picture.resize(size, Image.Resampling.NEAREST)) > 0
