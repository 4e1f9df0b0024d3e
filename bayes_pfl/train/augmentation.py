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
        mosaic_of_all: also a normal image becomes, with that probability, a mosaic of four
            anomalous images of its category, as in the published code.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        transform: TrainTransform,
        *,
        seed: int = 0,
        mosaic: float = 0.0,
        mosaic_of_all: bool = False,
    ) -> None:
        super().__init__(samples, transform.inference)
        self.augment = transform
        self.seed = seed
        self.epoch = 0
        self.mosaic, self.mosaic_of_all = mosaic, mosaic_of_all
        self._partners: dict[str, list[int]] = {}
        for index, sample in enumerate(self.samples):
            if sample.label:
                self._partners.setdefault(sample.category, []).append(index)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; call this before the DataLoader starts its workers."""
        self.epoch = epoch

    def __getitem__(self, index: int) -> dict[str, Any]:
        generator = np.random.default_rng([self.seed, self.epoch, index])
        cells = [self._pair(i) for i in self._mosaic_of(index, generator)]
        image, mask = mosaic(cells) if cells else self._pair(index)
        pixels, area = self.augment(image, mask, int(generator.integers(2**31)))
        item = self._item(index, pixels, area)
        return item | {"label": 1, "has_mask": True} if cells else item

    def _mosaic_of(self, index: int, generator: np.random.Generator) -> list[int]:
        """Indices of the four images that take the place of one; mostly there are none."""
        sample = self.samples[index]
        anomalous = self._partners.get(sample.category)
        if anomalous is None or not (sample.label or self.mosaic_of_all):
            return []
        if generator.random() >= self.mosaic:
            return []
        own = [index] if sample.label else []
        chosen = own + generator.choice(anomalous, 4 - len(own)).tolist()
        return [chosen[k] for k in generator.permutation(4)]

    def _pair(self, index: int) -> ImageAndMask:
        image, mask = self.load(index)
        return np.asarray(image), mask


class TrainTransform:
    """The augmentation of the published code, applied to image and mask together.

    Applies at random, at the picture's own size: rotation by up to 30 degrees (the border is
    mirrored, so that no black corner looks like a defect), rotation by right angles, brightness and
    contrast, noise of 3.2 to 7.1 grey levels, and blur or colour jitter. Then resizes: the picture
    as at inference, the mask by :func:`bayes_pfl.data.transforms.smooth_mask`. The same seed gives
    the same result; global random state is neither read nor changed.

    Args: those of :class:`bayes_pfl.data.transforms.InferenceTransform`.
    """

    def __init__(self, image_size: int, mean: Sequence[float], std: Sequence[float]) -> None:
        self.inference = InferenceTransform(image_size, mean, std)

    def __call__(
        self, image: np.ndarray, mask: np.ndarray, seed: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Image uint8 (H, W, 3) and mask (H, W) -> float32 (3, S, S) and float32 (S, S) of 0, 1."""
        pipeline = _pipeline()
        _reseed(pipeline, np.random.default_rng(seed))
        done = pipeline(image=image, mask=mask.astype(np.uint8))
        pixels = resize_image(Image.fromarray(done["image"]), self.inference.image_size)
        return self.inference.normalise(pixels), self.inference.mask(done["mask"])


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
            A.GaussNoise(std_range=(10**0.5 / 255, 50**0.5 / 255), p=0.5),
            A.OneOf(
                [
                    A.Blur(blur_limit=(3, 3), p=1),
                    A.GaussianBlur(blur_limit=(3, 7), p=1),
                    A.ColorJitter((0.8, 1.2), (0.8, 1.2), (0.8, 1.2), (-0.2, 0.2), p=1),
                ],
                p=0.5,
            ),
        ]
    )


def _reseed(transform: Any, generator: np.random.Generator) -> None:
    # One by one, because the library gives all of them the same seed, and so the same draw.
    transform.set_random_seed(int(generator.integers(2**31)))
    for child in getattr(transform, "transforms", ()):
        if hasattr(child, "set_random_seed"):
            _reseed(child, generator)
