"""Bootstrap intervals: images are drawn again, those of each label among themselves.

An image is the unit that is drawn, with all its pixels: pixels of one image are no independent
observations. Categories are not drawn: intervals are for these categories, with other images.

Pixels of every image are counted on one scale of levels, in bounded memory. The scale is laid
through the maps that come first: half of its steps hold equal numbers of their normal pixels, half
of their anomalous ones, so that both axes of every curve are divided evenly. Maps that come later
are counted on it at once and let go. Images should come in mixed order.

AUROC, AP and AUPRO are those of ``bayes_pfl.metrics``, of many resamples at once: there is one row
of counts for each. A figure that is undefined in a resample is NaN there.

Source: Efron & Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13 (percentile
interval). Symbols: I images, H×W pixels of a map, R resamples, n levels, the highest score first.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bayes_pfl.metrics.pro import region_weights

STEPS = 1024
"""Steps through the pixels of each class: the scale has at most twice as many."""
PILOTS = 32
"""Maps that the scale is laid through."""

_SEEN = 200_000  # pixels that the scale is laid through: more cost time and move no step
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


class PixelCounter:
    """Counts of each image; the first ``PILOTS`` maps are held until the scale is laid."""

    def __init__(self, steps: int = STEPS, pilots: int = PILOTS) -> None:
        self.steps, self.pilots = steps, pilots
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []
        self._scale: np.ndarray | None = None
        self._rows: list[tuple[np.ndarray, np.ndarray, np.ndarray, int]] = []

    def add(self, anomaly_map: np.ndarray, mask: np.ndarray) -> None:
        """Count a map (H, W) with its mask (H, W) bool."""
        if self._scale is not None:
            self._rows.append(_counted(self._scale, anomaly_map, mask))
            return
        self._waiting.append((anomaly_map, mask))
        if len(self._waiting) == self.pilots:
            self._lay_scale()

    def counts(self) -> list[np.ndarray]:
        """What has been counted, in the order in which it came, levels from the highest.

        Returns:
            Positives and negatives (I, n) int32; overlap (I, n) float32, summed over the image's
            regions: the share in the level; the number of regions (I,).
        """
        if self._scale is None:
            self._lay_scale()
        return [np.stack(parts) for parts in zip(*self._rows, strict=True)]

    def _lay_scale(self) -> None:
        maps, masks = (np.stack(x) for x in zip(*self._waiting, strict=True))
        parts = [_even_steps(maps[masks == wanted], self.steps) for wanted in (True, False)]
        scale = np.unique(np.concatenate(parts))
        self._rows = [_counted(scale, *pair) for pair in self._waiting]
        self._scale, self._waiting = scale, []


def _counted(
    scale: np.ndarray, anomaly_map: np.ndarray, mask: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Positives, negatives and overlap of a map at each level, highest first; its regions."""
    # Level i holds scores from scale[i - 1] up to below scale[i]; turned round at the end.
    levels = np.searchsorted(scale, anomaly_map.ravel(), side="right")
    size = len(scale) + 1
    inside = levels[mask.ravel()]
    weights, regions = region_weights(mask)
    positives = np.bincount(inside, minlength=size)
    negatives = np.bincount(levels, minlength=size) - positives
    overlap = np.bincount(inside, weights, minlength=size)
    small = (positives.astype(np.int32), negatives.astype(np.int32), overlap.astype(np.float32))
    return small[0][::-1], small[1][::-1], small[2][::-1], regions


def _even_steps(scores: np.ndarray, steps: int) -> np.ndarray:
    """At most ``steps`` scores, with equal numbers of ``scores`` (k,) between them."""
    if scores.size == 0:
        return scores
    scores = np.sort(scores[:: max(1, scores.size // _SEEN)])
    places = np.linspace(0, scores.size - 1, min(steps, scores.size)).astype(np.intp)
    return scores[places]


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
