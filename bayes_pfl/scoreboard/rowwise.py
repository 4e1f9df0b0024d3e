"""AUROC, AP and AUPRO of many resamples at once: one row of counts for each.

The definitions are those of ``bayes_pfl.metrics``. Symbols: R resamples, n levels, the highest
score first. A figure that is undefined in a resample is NaN there.
"""

from __future__ import annotations

import numpy as np


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
