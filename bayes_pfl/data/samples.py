"""Samples of a dataset as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from bayes_pfl.data.images import read_image, read_mask
from bayes_pfl.data.records import Sample
from bayes_pfl.data.transforms import InferenceTransform
from bayes_pfl.errors import DataError


def load_mask(sample: Sample, size: tuple[int, int]) -> np.ndarray:
    """The mask of a sample, bool (H, W); all false for normal pictures.

    It is all false for an anomalous picture without a mask too (image-level sets have such ones),
    and must not enter pixel metrics then.

    Args:
        size: (width, height) of the picture, as Pillow gives it.

    Raises:
        DataError: the size of the mask differs from the picture's.
        ImageReadError: the mask cannot be read.
    """
    width, height = size
    if sample.label == 0 or sample.mask is None:
        return np.zeros((height, width), bool)
    mask = read_mask(sample.mask)
    if mask.shape != (height, width):
        raise DataError(
            f"{sample.mask}: the mask is {mask.shape[1]}x{mask.shape[0]}, its image {sample.path} "
            f"is {width}x{height}; they must agree"
        )
    return mask


class SampleDataset(Dataset[dict[str, Any]]):
    """Samples as tensors for a DataLoader.

    Each item: "image" float32 (3, S, S); "mask" float32 (S, S) of 0 and 1; "label" 0 or 1;
    "has_mask" bool, false where an anomalous picture has none (its mask is then all 0);
    "index" into `samples`.

    Args:
        need_masks: whether an anomalous picture without a mask raises a DataError.
    """

    def __init__(
        self, samples: Sequence[Sample], transform: InferenceTransform, need_masks: bool = True
    ) -> None:
        self.samples, self.transform, self.need_masks = list(samples), transform, need_masks

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image, mask = self.load(index)
        return self._item(index, self.transform(image), self.transform.mask(mask))

    def load(self, index: int) -> tuple[Image.Image, np.ndarray]:
        """The picture (mode RGB) and its mask (bool (H, W)) at their own size.

        Raises:
            DataError: one of them is missing or cannot be read.
        """
        sample = self.samples[index]
        image = read_image(sample.path)
        if self.need_masks and sample.label and sample.mask is None:
            raise DataError(
                f"{sample.path}: anomalous, but it has no mask; add the mask, or ask for "
                "image-level results only"
            )
        return image, load_mask(sample, image.size)

    def _item(self, index: int, image: torch.Tensor, mask: torch.Tensor) -> dict[str, Any]:
        sample = self.samples[index]
        return {
            "image": image,
            "mask": mask,
            "label": sample.label,
            "has_mask": sample.label == 0 or sample.mask is not None,
            "index": index,
        }
