"""Bootstrap intervals: images are drawn again, those of each label among themselves.

An image is the unit that is drawn, with all its pixels: pixels of one image are no independent
observations. Categories are not drawn: intervals are for these categories, with other images.

Source: Efron & Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13 (percentile
interval). Symbols: I images, R resamples, n levels.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bayes_pfl.scoreboard import rowwise

_NUMBERS_AT_ONCE = 100_000  # of counts: arrays on the way stay within a processor's cache


@dataclass(frozen=True)
class BootstrapSettings:
    """How intervals are made.

    Attributes:
        resamples: R; 0 for no intervals.
        confidence: share of the resamples inside the interval.
        seed: of the draws; they are the same for every method.
    """

    resamples: int = 1000
    confidence: float = 0.95
    seed: int = 0


def image_weights(labels: np.ndarray, settings: BootstrapSettings, stream: str = "") -> np.ndarray:
    """How often each image is in each resample, (R, I) int; the labels (I,) keep their numbers.

    Args:
        stream: categories of different names are drawn independently, methods on one category
            alike.
    """
    generator = np.random.default_rng([settings.seed, zlib.crc32(stream.encode())])
    weights = np.zeros((settings.resamples, len(labels)), np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        shares = np.full(len(members), 1 / len(members))
        weights[:, members] = generator.multinomial(len(members), shares, size=settings.resamples)
    return weights


def image_replicates(
    scores: np.ndarray, labels: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """AUROC and AP of images in every resample, (R,) each, exact."""
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.diff(scores[order]) != 0, True) if len(order) else np.empty(0, bool)
    starts = np.flatnonzero(np.append(True, ends[:-1])) if len(order) else np.empty(0, np.intp)
    found: dict[str, list[np.ndarray]] = {"auroc": [], "ap": []}
    for rows in _chunks(weights, len(labels)):
        drawn = rows[:, order]
        counts = [
            np.add.reduceat(drawn * (labels[order] == label), starts, axis=1) for label in (1, 0)
        ]
        found["auroc"].append(rowwise.auroc(*counts))
        found["ap"].append(rowwise.average_precision(*counts))
    return {key: np.concatenate(parts) for key, parts in found.items()}


@dataclass(frozen=True)
class PixelCounts:
    """Pixels of each image by level, highest first.

    Attributes:
        positives, negatives: (I, n) int32.
        overlap: (I, n) float32, summed over the image's regions: the share in the level.
        regions: (I,) number of regions.
    """

    positives: np.ndarray
    negatives: np.ndarray
    overlap: np.ndarray
    regions: np.ndarray


def pixel_replicates(
    counts: PixelCounts, weights: np.ndarray, fpr_limit: float
) -> dict[str, np.ndarray]:
    """AUROC, AUPRO and AP of all pixels in every resample, (R,) each.

    A resample is a weighted sum of the images' counts: three matrix products for all of them.
    """
    found: dict[str, list[np.ndarray]] = {"auroc": [], "aupro": [], "ap": []}
    parts = [x.astype(np.float64) for x in (counts.positives, counts.negatives, counts.overlap)]
    for rows in _chunks(weights, counts.positives.shape[1]):
        drawn = rows.astype(np.float64)
        positives, negatives, overlap = (drawn @ part for part in parts)
        found["auroc"].append(rowwise.auroc(positives, negatives))
        regions = drawn @ counts.regions
        found["aupro"].append(rowwise.aupro(negatives, overlap, regions, fpr_limit))
        found["ap"].append(rowwise.average_precision(positives, negatives))
    return {key: np.concatenate(values) for key, values in found.items()}


def interval(replicates: np.ndarray, confidence: float) -> tuple[float, float] | None:
    """Percentiles of the defined values among (R,); None if there are none."""
    defined = replicates[~np.isnan(replicates)]
    if not len(defined):
        return None
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(defined, [tail, 100 - tail])
    return float(low), float(high)


def _chunks(weights: np.ndarray, width: int) -> Iterator[np.ndarray]:
    size = max(1, _NUMBERS_AT_ONCE // max(1, width))
    for start in range(0, max(1, len(weights)), size):
        yield weights[start : start + size]
