"""Bootstrap intervals: images are drawn again, those of each label among themselves.

An image is the unit that is drawn, with all its pixels: pixels of one image are no independent
observations. Categories are not drawn: intervals are for these categories, with other images.

AUROC, AP and AUPRO are those of ``bayes_pfl.metrics``, of many resamples at once: there is one row
of counts for each. A figure that is undefined in a resample is NaN there.

Source: Efron & Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13 (percentile
interval). Symbols: I images, R resamples, n levels, the highest score first.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

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

    def figures(rows: np.ndarray) -> dict[str, np.ndarray]:
        drawn = rows[:, order]
        counts = [
            np.add.reduceat(drawn * (labels[order] == label), starts, axis=1) for label in (1, 0)
        ]
        return {"auroc": auroc(*counts), "ap": average_precision(*counts)}

    return _in_chunks(weights, len(labels), figures)


def pixel_replicates(
    counts: Sequence[np.ndarray], weights: np.ndarray, fpr_limit: float
) -> dict[str, np.ndarray]:
    """AUROC, AUPRO and AP of all pixels in every resample, (R,) each.

    A resample is a weighted sum of the images' counts: three matrix products for all of them.

    Args:
        counts: as :meth:`PixelCounter.counts` returns them.
    """
    *parts, number = (part.astype(np.float64) for part in counts)

    def figures(rows: np.ndarray) -> dict[str, np.ndarray]:
        drawn = rows.astype(np.float64)
        positives, negatives, overlap = (drawn @ part for part in parts)
        return {
            "auroc": auroc(positives, negatives),
            "aupro": aupro(negatives, overlap, drawn @ number, fpr_limit),
            "ap": average_precision(positives, negatives),
        }

    return _in_chunks(weights, parts[0].shape[1], figures)


def interval(replicates: np.ndarray, confidence: float) -> tuple[float, float] | None:
    """Percentiles of the defined values among (R,); None if there are none."""
    defined = replicates[~np.isnan(replicates)]
    if not len(defined):
        return None
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(defined, [tail, 100 - tail])
    return float(low), float(high)


def _in_chunks(
    weights: np.ndarray, width: int, figures: Callable[[np.ndarray], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """The figures of all resamples (R, I), computed of some at once; ``width`` counts for each."""
    size = max(1, _NUMBERS_AT_ONCE // max(1, width))
    starts = range(0, max(1, len(weights)), size)
    parts = [figures(weights[start : start + size]) for start in starts]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def auroc(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """Counts (R, n) -> (R,); ties count half."""
    below = np.cumsum(positives, axis=1) - positives / 2
    pairs = positives.sum(axis=1) * negatives.sum(axis=1)
    return _divide((below * negatives).sum(axis=1), pairs)


def average_precision(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """Counts (R, n) -> (R,): sum of precision times the step in recall."""
    found = np.cumsum(positives, axis=1)
    predicted = found + np.cumsum(negatives, axis=1)
    precision = found / np.maximum(predicted, 1)
    return _divide((precision * positives).sum(axis=1), positives.sum(axis=1))


def aupro(
    negatives: np.ndarray, overlap: np.ndarray, regions: np.ndarray, limit: float
) -> np.ndarray:
    """Area under the PRO curve up to a false positive rate, over that rate: (R,).

    Args:
        negatives: (R, n).
        overlap: (R, n), sum over regions of the share of the region that the level holds.
        regions: (R,).
        limit: in (0, 1]; the curve is interpolated there.
    """
    rate = _from_zero(_divide(np.cumsum(negatives, axis=1), negatives.sum(axis=1)[:, None]))
    found = _from_zero(_divide(np.cumsum(overlap, axis=1), regions[:, None]))
    step, rise = np.diff(rate, axis=1), np.diff(found, axis=1)
    inside = np.clip(limit - rate[:, :-1], 0, step)
    share = np.divide(inside, step, out=np.zeros_like(step), where=step > 0)
    area = (inside * (found[:, :-1] + rise * share / 2)).sum(axis=1)
    return np.minimum(area / limit, 1.0)


def _from_zero(values: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros((len(values), 1)), values], axis=1)


def _divide(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(below > 0, above / below, np.nan)
