"""Augmentation for training: image and mask together, and mosaics of anomalous images."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from bayes_pfl.data.records import Sample
from bayes_pfl.data.samples import SampleDataset
from bayes_pfl.data.transforms import InferenceTransform, resize_image, resize_mask
from bayes_pfl.errors import DataError

ImageAndMask = tuple[np.ndarray, np.ndarray]
"""An image, uint8 (H, W, 3), and its mask, bool (H, W)."""


class AugmentedDataset(SampleDataset):
    """Augmented training samples; some anomalous ones are joined to mosaics of four.

    Item i of epoch e depends on (seed, e, i) alone, whatever the number of workers.

    Args:
        mosaic: probability that an anomalous image becomes one cell of a 2×2 mosaic with three
            other anomalous images of its category (0.4 in the paper, on MVTec-AD).
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        transform: TrainTransform,
        *,
        seed: int = 0,
        mosaic: float = 0.0,
    ) -> None:
        super().__init__(samples, transform.inference)
        self.augment = transform
        self.seed = seed
        self.epoch = 0
        self.mosaic = mosaic
        self._partners: dict[str, list[int]] = {}
        for index, sample in enumerate(self.samples):
            if sample.label:
                self._partners.setdefault(sample.category, []).append(index)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; call this before the DataLoader starts its workers."""
        self.epoch = epoch

    def __getitem__(self, index: int) -> dict[str, Any]:
        generator = np.random.default_rng([self.seed, self.epoch, index])
        image, mask = self._pair(index)
        if self.samples[index].label and generator.random() < self.mosaic:
            others = generator.choice(self._partners[self.samples[index].category], 3)
            cells = [(image, mask), *(self._pair(int(other)) for other in others)]
            image, mask = mosaic([cells[k] for k in generator.permutation(4)])
        pixels, area = self.augment(image, mask, int(generator.integers(2**31)))
        return self._item(index, pixels, area)

    def _pair(self, index: int) -> ImageAndMask:
        image, mask = self.load(index)
        return np.asarray(image), mask


class TrainTransform:
    """The augmentation of the paper, applied to image and mask together.

    Resizes as at inference, then applies at random: rotation by up to 30 degrees (the border is
    mirrored, so that no black corner looks like a defect), rotation by right angles, brightness and
    contrast, noise, and blur or colour jitter. The same seed gives the same result; global random
    state is neither read nor changed.

    Args: those of :class:`bayes_pfl.data.transforms.InferenceTransform`.
    """

    def __init__(self, image_size: int, mean: Sequence[float], std: Sequence[float]) -> None:
        self.inference = InferenceTransform(image_size, mean, std)

    def __call__(
        self, image: np.ndarray, mask: np.ndarray, seed: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Image uint8 (H, W, 3) and mask (H, W) -> float32 (3, S, S) and float32 (S, S) of 0, 1."""
        size = self.inference.image_size
        pixels = resize_image(Image.fromarray(image), size)
        area = resize_mask(mask, (size, size)).astype(np.uint8)
        pipeline = _pipeline()
        _reseed(pipeline, np.random.default_rng(seed))
        done = pipeline(image=pixels, mask=area)
        return self.inference.normalise(done["image"]), torch.from_numpy(done["mask"]).float()


def mosaic(items: Sequence[ImageAndMask]) -> ImageAndMask:
    """One 2×2 mosaic of four images and their masks, of the size of the first.

    Raises:
        DataError: there are not four items.
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
        mask[top:bottom, left:right] = resize_mask(area, size)
    return image, mask


@functools.cache
def _pipeline() -> Any:
    # Imported late, because it takes seconds; the variable stops its search for updates.
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
    # One by one, because the library gives all of them the same seed, and so the same draw.
    transform.set_random_seed(int(generator.integers(2**31)))
    for child in getattr(transform, "transforms", ()):
        if hasattr(child, "set_random_seed"):
            _reseed(child, generator)
