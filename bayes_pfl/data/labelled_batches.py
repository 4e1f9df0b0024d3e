"""Labelled samples as batches for the model; what cannot be read is listed, not raised.

Symbols: B images, S the model's image side, H×W pixels of a picture.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bayes_pfl.data.decoding import Decoded, decoding_loader
from bayes_pfl.data.images import read_image
from bayes_pfl.data.pages import Picture
from bayes_pfl.data.records import Sample
from bayes_pfl.data.samples import mask_and_doubts, warn_of_first
from bayes_pfl.data.tiles import TileSettings, tiles_of
from bayes_pfl.data.transforms import resize_image, resize_mask, smooth_mask
from bayes_pfl.errors import DataError
from bayes_pfl.support.file_identity import stamp_or_unreadable


@dataclass(frozen=True)
class LabelledBatch:
    """Images that were read, with their samples; and those that could not be, with the reason.

    Attributes:
        pixels: uint8 (S, S, 3) of each image.
        masks: (B, S, S) bool; of a picture at its own size (1, H, W).
        pictures: of :func:`read_pictures`, with their tiles; else none.
    """

    pixels: list[np.ndarray]
    masks: np.ndarray
    samples: list[Sample]
    failures: list[tuple[Sample, str]]
    pictures: Sequence[Decoded] = ()


def read_batches(
    samples: Sequence[Sample], image_size: int, batch_size: int, workers: int, smooth: bool = False
) -> Iterator[LabelledBatch]:
    """Read the samples in order, in ``workers`` other processes or (0) in this one.

    Args:
        image_size: S.
        smooth: whether masks are resized by :func:`smooth_mask`, not to the nearest pixel.
    """
    read = functools.partial(_read, image_size=image_size, smooth=smooth)
    for items in decoding_loader(samples, read, batch_size, workers) if samples else ():
        found = [item for item in items if len(item) == 4]
        masks = np.stack([item[2] for item in found]) if found else np.empty((0, 0, 0), bool)
        failures = [item for item in items if len(item) == 2]
        for sample, _, _, doubts in found:  # here, because each worker would warn for itself
            warn_of_first(sample, doubts)
        yield LabelledBatch(
            [item[1] for item in found], masks, [item[0] for item in found], failures
        )


def read_pictures(
    samples: Sequence[Sample], image_size: int, tiles: TileSettings | None, workers: int
) -> Iterator[LabelledBatch]:
    """As :func:`read_batches`, each picture by itself, with its tiles and its mask at its own size.

    Args:
        tiles: how large pictures are cut; None to score whole images only.
    """
    read = functools.partial(_read_whole, image_size=image_size, tiles=tiles)
    for (item,) in decoding_loader(samples, read, 1, workers) if samples else ():
        if len(item) == 2:
            yield LabelledBatch([], np.empty((0, 0, 0), bool), [], [item])
            continue
        sample, picture, mask, doubts = item
        warn_of_first(sample, doubts)
        yield LabelledBatch([picture.pixels], mask[None], [sample], [], [picture])


def _read_whole(sample: Sample, image_size: int, tiles: TileSettings | None) -> tuple[Any, ...]:
    """(sample, picture, mask, its doubts), or (sample, why it cannot be read)."""
    try:
        image = read_image(sample.path)
        mask, doubts = mask_and_doubts(sample, image)
    except DataError as error:
        return sample, str(error)
    pixels, cut = resize_image(image, image_size), tiles_of(image, tiles)
    return sample, Decoded(Picture(sample.path), image.size, pixels, None, "", *cut), mask, doubts


def _read(sample: Sample, image_size: int, smooth: bool) -> tuple[Any, ...]:
    """(sample, pixels, mask, its doubts), or (sample, why it cannot be read)."""
    try:
        image = read_image(sample.path)
        mask, doubts = mask_and_doubts(sample, image)
    except DataError as error:
        return sample, str(error)
    size = (image_size, image_size)
    small = smooth_mask(mask, image_size) if smooth else resize_mask(mask, size)
    return sample, resize_image(image, image_size), small, doubts


def file_identity(sample: Sample) -> str:
    """Hash of the sample's files (path, size, time of change), label and prompt word."""
    parts = [*_stamp(sample.path), *_stamp(sample.mask), sample.label, sample.class_name]
    return hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "replace")).hexdigest()[:24]


def _stamp(path: Path | None) -> tuple[Any, ...]:
    return ("", 0, 0) if path is None else (path, *stamp_or_unreadable(path))
