"""Rendered pictures as a torch dataset, drawn when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from bayes_pfl.data.synthetic.catalog import CATEGORIES
from bayes_pfl.data.synthetic.render import Rendered, render
from bayes_pfl.errors import ConfigError

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

PairTransform = Callable[[np.ndarray, np.ndarray], "tuple[torch.Tensor, torch.Tensor]"]
"""(uint8 (H, W, 3), bool (H, W)) -> (float32 (3, S, S), float32 (S, S))."""


class SyntheticDataset(Dataset):
    """``length`` pictures that take their categories in turn, a share of them with a fault.

    Item: {"image": float32 (3, S, S), "mask": float32 (S, S) in {0, 1}, "label": 0 or 1,
    "has_mask": True, "index": int, "class_name": str, "defect": str, "caption": str}.

    ``transform`` takes image and mask together (see PairTransform); without it the picture is
    scaled to [0, 1] and normalised by ``mean`` and ``std``. Item i depends on ``seed`` and i
    alone; :meth:`set_epoch` moves on to fresh pictures.
    """

    def __init__(
        self,
        categories: Sequence[str],
        length: int,
        *,
        size: int = 256,
        seed: int = 0,
        anomalous: float = 0.5,
        transform: PairTransform | None = None,
        mean: Sequence[float] = CLIP_MEAN,
        std: Sequence[float] = CLIP_STD,
    ) -> None:
        unknown = [name for name in categories if name not in CATEGORIES]
        if unknown or not categories:
            allowed = ", ".join(sorted(CATEGORIES))
            raise ConfigError(f"unknown categories {unknown}: choose at least one of {allowed}")
        if length < 1 or not 0.0 <= anomalous <= 1.0:
            raise ConfigError(
                f"length {length} must be at least 1 and anomalous {anomalous} in [0, 1]"
            )
        self.categories, self.length, self.size, self.seed = tuple(categories), length, size, seed
        self.anomalous, self.transform, self.epoch = anomalous, transform, 0
        self._scale = (1.0 / (255.0 * np.asarray(std))).astype(np.float32)
        self._shift = (np.asarray(mean) / np.asarray(std)).astype(np.float32)

    def set_epoch(self, epoch: int) -> None:
        """Fresh pictures for every epoch, each epoch as repeatable as the first."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def rendered(self, index: int) -> Rendered:
        """The picture of item ``index`` before any transform."""
        if not 0 <= index < self.length:
            raise IndexError(index)
        number = self.epoch * self.length + index
        category = self.categories[number % len(self.categories)]
        # Low-discrepancy sequence: every stretch of items has its share of faults.
        turn = number // len(self.categories) + number % len(self.categories)
        faulty = (turn * 0.6180339887498949) % 1.0 < self.anomalous
        return render(
            category, self.seed, number, size=self.size, defect="random" if faulty else None
        )

    def __getitem__(self, index: int) -> dict:
        picture = self.rendered(index)
        image, mask = self._tensors(picture)
        return {
            "image": image,
            "mask": mask,
            "label": int(picture.defect != "good"),
            "has_mask": True,
            "index": index,
            "class_name": picture.class_name,
            "defect": picture.defect,
            "caption": picture.caption,
        }

    def _tensors(self, picture: Rendered) -> tuple[torch.Tensor, torch.Tensor]:
        if self.transform is not None:
            return self.transform(picture.image, picture.mask)
        channels = zip(cv2.split(picture.image), self._scale, self._shift, strict=True)
        planes = np.stack([plane * scale - shift for plane, scale, shift in channels])
        return torch.from_numpy(planes), torch.from_numpy(picture.mask.astype(np.float32))
