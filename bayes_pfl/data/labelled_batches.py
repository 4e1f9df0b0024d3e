"""Labelled samples as batches for the model; what cannot be read is told, not raised.

Symbols: B images, S the model's image side.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bayes_pfl.data.records import Sample
from bayes_pfl.data.samples import SampleDataset
from bayes_pfl.data.transforms import InferenceTransform
from bayes_pfl.errors import DataError


@dataclass(frozen=True)
class Batch:
    """Images that were read, with their samples; and those that could not be, with the reason.

    Attributes:
        images: (B, 3, S, S) float32, normalised.
        masks: (B, S, S) bool.
    """

    images: Tensor
    masks: np.ndarray
    samples: list[Sample] = field(default_factory=list)
    failures: list[tuple[Sample, str]] = field(default_factory=list)


class _Readable(Dataset[Any]):
    """(index, image, mask), or (index, why it cannot be read)."""

    def __init__(self, samples: Sequence[Sample], transform: InferenceTransform) -> None:
        self.inner = SampleDataset(samples, transform, missing_mask="none")

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        try:
            item = self.inner[index]
        except DataError as error:
            return index, str(error)
        return index, item["image"].numpy(), item["mask"].numpy() > 0.5


def read_batches(
    transform: InferenceTransform, samples: Sequence[Sample], batch_size: int, workers: int
) -> Iterator[Batch]:
    """Read the samples in order, in ``workers`` other processes or (0) in this one."""
    if not samples:
        return
    loader = DataLoader(
        _Readable(samples, transform),
        batch_size=batch_size,
        num_workers=workers,
        # Arrays go through a pipe; tensors need shared memory, of which containers have little.
        collate_fn=list,
        worker_init_fn=_start_worker,
        # Without one of its own, a loader draws from the global random state.
        generator=torch.Generator().manual_seed(0),
    )
    for items in loader:
        read = [item for item in items if len(item) == 3]
        failures = [(samples[item[0]], item[1]) for item in items if len(item) == 2]
        images = torch.from_numpy(np.stack([item[1] for item in read])) if read else torch.empty(0)
        masks = np.stack([item[2] for item in read]) if read else np.empty((0, 0, 0), bool)
        yield Batch(images, masks, [samples[item[0]] for item in read], failures)


def _start_worker(_: int) -> None:
    # A pool of threads does not survive the fork: OpenCV would wait for it for ever.
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(0)


def file_identity(sample: Sample) -> str:
    """Hash of the sample's files (path, size, time of change), label and prompt word."""
    parts = [*_stamp(sample.path), *_stamp(sample.mask), sample.label, sample.class_name]
    return hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "replace")).hexdigest()[:24]


def _stamp(path: Path | None) -> tuple[Any, ...]:
    if path is None:
        return ("", 0, 0)
    try:
        status = os.stat(path)
    except OSError:
        return (path, -1, 0)
    return (path, status.st_size, status.st_mtime_ns)
