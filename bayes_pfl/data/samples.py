"""Samples of a dataset as tensors."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset, get_worker_info

from bayes_pfl.data.images import SEVERAL, TURN, read_image, read_mask_file
from bayes_pfl.data.records import DatasetWarning, Sample
from bayes_pfl.data.transforms import InferenceTransform
from bayes_pfl.errors import DataError
from bayes_pfl.support.error_text import printable

_TOLD: set[tuple[str, str]] = set()
"""Dataset and kind of each doubt of which a warning was given."""


def load_mask(sample: Sample, image: Image.Image) -> np.ndarray:
    """The mask of a sample, bool (H, W); all false for normal pictures.

    It is all false for an anomalous picture without a mask too (image-level sets have such ones),
    and must not enter pixel metrics then. Warns of `mask_and_doubts`, see `warn_of_first`.

    Args:
        image: the picture, as `read_image` gives it.

    Raises:
        DataError: the size of the mask differs from the picture's.
        ImageReadError: the mask cannot be read.
    """
    mask, doubts = mask_and_doubts(sample, image)
    warn_of_first(sample, doubts)
    return mask


def mask_and_doubts(sample: Sample, image: Image.Image) -> tuple[np.ndarray, dict[str, str]]:
    """The mask of a sample as `load_mask` gives it, and what is doubtful in it: a line by its kind.

    Doubtful is how a mask lies on a picture that EXIF turns, where the size does not tell (see
    `MaskFile.laid_on`). Grey values are another doubt: see `read_mask_file`. So are several pages
    in the picture's file: the first one is the picture.
    """
    width, height = image.size
    doubts = doubts_of_picture(sample, image)
    if sample.label == 0 or sample.mask is None:
        return np.zeros((height, width), bool), doubts
    file, turn = read_mask_file(sample.mask), image.info.get(TURN)
    mask, doubtful = file.laid_on(turn, lambda mask: mask.shape == (height, width))
    if doubtful:
        doubts["EXIF"] = (
            f"{sample.mask}: EXIF turns its image {sample.path.name}; the mask has no EXIF and is "
            "turned like it (if it was drawn on the upright image, save that image without EXIF)"
        )
    if mask.shape != (height, width):
        exif = ", turned by EXIF," if turn is not None else ""
        raise DataError(
            f"{sample.mask}: the mask is {mask.shape[1]}x{mask.shape[0]}, its image {sample.path}"
            f"{exif} is {width}x{height}; they must agree"
        )
    if file.highest is not None:
        doubts["grey"] = (
            f"{sample.mask}: holds more than two grey values; those above half of the highest, "
            f"{file.highest:g}, count as anomalous, the others as noise or soft edges"
        )
    return mask, doubts


def doubts_of_picture(sample: Sample, image: Image.Image) -> dict[str, str]:
    """What is doubtful in a picture: a line by its kind."""
    if several := image.info.get(SEVERAL):
        line = f"{sample.path}: holds several {several}, of which a dataset has the first"
        return {several: line}
    return {}


def warn_of_first(sample: Sample, doubts: Mapping[str, str]) -> None:
    """Give a DatasetWarning for the first file of a dataset with each kind of doubt.

    Of several worker processes, the first one alone warns.
    """
    worker = get_worker_info()
    for kind, line in doubts.items() if worker is None or worker.id == 0 else ():
        if (sample.dataset, kind) not in _TOLD:
            _TOLD.add((sample.dataset, kind))
            text = f"{line}; further files of {sample.dataset} like it are not named"
            warnings.warn(printable(text), DatasetWarning, stacklevel=3)


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
        return image, load_mask(sample, image)

    def _item(self, index: int, image: torch.Tensor, mask: torch.Tensor) -> dict[str, Any]:
        sample = self.samples[index]
        return {
            "image": image,
            "mask": mask,
            "label": sample.label,
            "has_mask": sample.label == 0 or sample.mask is not None,
            "index": index,
        }
