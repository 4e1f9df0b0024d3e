"""Labelled samples as batches for the model; what cannot be read is listed, not raised.

Symbols: B images, S the model's image side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from bayes_pfl.data.decoding import decoding_loader
from bayes_pfl.data.images import read_image
from bayes_pfl.data.records import Sample
from bayes_pfl.data.samples import load_mask
from bayes_pfl.data.transforms import resize_image, resize_mask
from bayes_pfl.errors import DataError
from bayes_pfl.support.file_identity import stamp_or_unreadable


@dataclass(frozen=True)
class LabelledBatch:
    """Images that were read, with their samples; and those that could not be, with the reason.

    Attributes:
        pixels: uint8 (S, S, 3) of each image.
        masks: (B, S, S) bool.
    """

    pixels: list[np.ndarray]
    masks: np.ndarray
    samples: list[Sample] = field(default_factory=list)
    failures: list[tuple[Sample, str]] = field(default_factory=list)


class _Readable(Dataset[Any]):
    """(index, pixels, mask), or (index, why it cannot be read)."""

    def __init__(self, samples: Sequence[Sample], image_size: int) -> None:
        self.samples, self.image_size = samples, image_size

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        sample = self.samples[index]
        try:
            image = read_image(sample.path)
            mask = load_mask(sample, image.size)
        except DataError as error:
            return index, str(error)
        side = self.image_size
        return index, resize_image(image, side), resize_mask(mask, (side, side))


def read_batches(
    samples: Sequence[Sample], image_size: int, batch_size: int, workers: int
) -> Iterator[LabelledBatch]:
    """Read the samples in order, in ``workers`` other processes or (0) in this one.

    Args:
        image_size: S.
    """
    if not samples:
        return
    for items in decoding_loader(_Readable(samples, image_size), batch_size, workers):
        read = [item for item in items if len(item) == 3]
        failures = [(samples[item[0]], item[1]) for item in items if len(item) == 2]
        masks = np.stack([item[2] for item in read]) if read else np.empty((0, 0, 0), bool)
        found = [samples[item[0]] for item in read]
        yield LabelledBatch([item[1] for item in read], masks, found, failures)


def file_identity(sample: Sample) -> str:
    """Hash of the sample's files (path, size, time of change), label and prompt word."""
    parts = [*_stamp(sample.path), *_stamp(sample.mask), sample.label, sample.class_name]
    return hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "replace")).hexdigest()[:24]


def _stamp(path: Path | None) -> tuple[Any, ...]:
    return ("", 0, 0) if path is None else (path, *stamp_or_unreadable(path))
