"""From pictures and masks to the tensors that the model takes; augmentation for training."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from bayes_pfl.errors import DataError

Pair = tuple[np.ndarray, np.ndarray]
"""An image, uint8 (H, W, 3), and its mask, bool (H, W)."""


class InferenceTransform:
    """A picture -> float32 (3, S, S), as CLIP sees it.

    Resized to S×S without keeping the aspect (Pillow's bicubic filter, which is antialiased),
    divided by 255, normalised per channel.

    Args:
        image_size: S, pixels.
        mean, std: per channel, RGB, of pixels in [0, 1]; those of the backbone.
    """

    def __init__(self, image_size: int, mean: Sequence[float], std: Sequence[float]) -> None:
        self.image_size = image_size
        self.mean = tuple(float(value) for value in mean)
        self.std = tuple(float(value) for value in std)

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Image of mode RGB, any size -> float32 (3, S, S)."""
        return self.normalise(resize_image(image, self.image_size))

    def mask(self, mask: np.ndarray) -> torch.Tensor:
        """Bool (H, W) -> float32 (S, S) of 0 and 1, nearest neighbour."""
        return torch.from_numpy(resize_mask(mask, self.image_size).astype(np.float32))

    def normalise(self, pixels: np.ndarray) -> torch.Tensor:
        """Pixels uint8 (S, S, 3) -> float32 (3, S, S)."""
        values = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).float() / 255
        mean = torch.tensor(self.mean).view(3, 1, 1)
        return (values - mean) / torch.tensor(self.std).view(3, 1, 1)

    def __repr__(self) -> str:
        return f"InferenceTransform(image_size={self.image_size}, mean={self.mean}, std={self.std})"


class TrainTransform:
    """The augmentation of the paper, image and mask together, the same for the same seed.

    Resizing as at inference, then: rotation by up to 30 degrees (the border mirrored, so that no
    black corner looks like a defect), right angles, brightness and contrast, noise, and blur or
    colour jitter. No global random state is read or changed: each call is given its seed.

    Args: as `InferenceTransform`.
    """

    def __init__(self, image_size: int, mean: Sequence[float], std: Sequence[float]) -> None:
        self.inference = InferenceTransform(image_size, mean, std)
        self._pipeline: Any = None

    def __call__(
        self, image: np.ndarray, mask: np.ndarray, seed: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Image uint8 (H, W, 3) and mask (H, W) -> float32 (3, S, S) and float32 (S, S) of 0, 1."""
        size = self.inference.image_size
        pixels = resize_image(Image.fromarray(image), size)
        area = resize_mask(mask, size).astype(np.uint8)
        if self._pipeline is None:
            self._pipeline = _pipeline()
        _reseed(self._pipeline, np.random.default_rng(seed))
        done = self._pipeline(image=pixels, mask=area)
        return self.inference.normalise(done["image"]), torch.from_numpy(done["mask"]).float()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pipeline": None}  # each worker process builds its own


def mosaic(items: Sequence[Pair]) -> Pair:
    """Four images and masks as one 2×2 mosaic of the size of the first.

    Raises:
        DataError: another number of items.
    """
    if len(items) != 4:
        raise DataError(f"a mosaic is made of 4 images, not {len(items)}")
    height, width = items[0][1].shape
    image = np.empty((height, width, 3), np.uint8)
    mask = np.empty((height, width), bool)
    rows, columns = (0, height // 2, height), (0, width // 2, width)
    for k, (picture, area) in enumerate(items):
        top, bottom = rows[k // 2 : k // 2 + 2]
        left, right = columns[k % 2 : k % 2 + 2]
        size = (right - left, bottom - top)
        cell = Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC)
        image[top:bottom, left:right] = np.asarray(cell)
        mask[top:bottom, left:right] = _nearest(area, size)
    return image, mask


def resize_image(image: Image.Image, size: int) -> np.ndarray:
    """Mode RGB, any size -> uint8 (size, size, 3), bicubic with antialias."""
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))


def resize_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """(H, W), anomalous above 0 -> bool (size, size), nearest neighbour."""
    return _nearest(mask, (size, size))


def _nearest(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    picture = Image.fromarray((np.asarray(mask) > 0).astype(np.uint8))
    return np.asarray(picture.resize(size, Image.Resampling.NEAREST)) > 0


def _pipeline() -> Any:
    # Imported late: it takes seconds, only training needs it, and it would call home.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations as A
    import cv2

    mirror = {"border_mode": cv2.BORDER_REFLECT_101, "interpolation": cv2.INTER_CUBIC}
    return A.Compose(
        [
            A.Rotate(limit=30, p=0.5, **mirror),
            A.RandomRotate90(p=0.5),
            A.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=0.2, p=0.5),
            A.GaussNoise(std_range=(0.01, 0.05), p=0.3),
            A.OneOf(
                [
                    A.GaussianBlur(blur_limit=(3, 5), p=1),
                    A.ColorJitter((0.9, 1.1), (0.9, 1.1), (0.8, 1.2), (-0.05, 0.05), p=1),
                ],
                p=0.3,
            ),
        ]
    )


def _reseed(transform: Any, generator: np.random.Generator) -> None:
    # One by one: the library's own way gives all of them one seed, and so one and the same draw.
    transform.set_random_seed(int(generator.integers(2**31)))
    for child in getattr(transform, "transforms", ()):
        if hasattr(child, "set_random_seed"):
            _reseed(child, generator)
