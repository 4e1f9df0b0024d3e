"""Per-region overlap: the weights of pixels, and the area under the PRO curve.

Source: Bergmann et al., "Uninformed Students" (CVPR 2020), section 4, and "The MVTec Anomaly
Detection Dataset" (IJCV 2021). PRO at a threshold is the mean, over all ground truth regions, of
the fraction of the region that is found; the curve runs over the false positive rate of all normal
pixels.

The mean over regions is a sum over pixels, each weighted by 1 / (area of its region). So one
weighted histogram holds all that is needed, whatever the number of regions.
"""

from __future__ import annotations

import cv2
import numpy as np

from bayes_pfl.metrics.curves import Levels

DEFAULT_FPR_LIMIT = 0.3


def region_weights(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Mask (H,W) bool -> (1 / area of the region of each True pixel, number of regions).

    Regions are 8-connected. The weights (pixels,) float64 are in the order of
    `mask.ravel().nonzero()`.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size == 0:
        return np.empty(0), 0
    # Defects are small: label only the rows and columns that hold one.
    columns = np.flatnonzero(mask.any(axis=0))
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    box = np.ascontiguousarray(box)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(box.view(np.uint8), connectivity=8)
    weights = 1.0 / np.maximum(stats[:, cv2.CC_STAT_AREA], 1)
    return weights[labels[box]], count - 1


def pro_reason(levels: Levels) -> str | None:
    """Why AUPRO is undefined; None where it is defined."""
    if levels.regions == 0:
        return "undefined without regions: every mask is empty"
    if levels.n_negative == 0:
        return "undefined without normal pixels: the false positive rate has no denominator"
    return None


def pro_curve(levels: Levels) -> tuple[np.ndarray, np.ndarray]:
    """False positive rates and PRO values (n + 1,), from (0, 0) to (1, 1)."""
    assert levels.overlap is not None  # pixel metrics always count it
    fpr = np.concatenate([[0.0], levels.false_positives / levels.n_negative])
    pro = np.concatenate([[0.0], np.cumsum(levels.overlap) / levels.regions])
    return fpr, pro


def aupro(levels: Levels, limit: float) -> float:
    """Area under the PRO curve from 0 to the false positive rate `limit`, over it: in [0, 1].

    The curve has straight pieces, and is interpolated at the limit, in (0, 1]: so the result is
    continuous in the limit.
    """
    fpr, pro = pro_curve(levels)
    inside = int(np.searchsorted(fpr, limit, side="right"))
    area = np.dot(np.diff(fpr[:inside]), pro[1:inside] + pro[: inside - 1]) / 2
    if inside < len(fpr):
        rest, step = limit - fpr[inside - 1], fpr[inside] - fpr[inside - 1]
        rise = (pro[inside] - pro[inside - 1]) * rest / step
        area += rest * (pro[inside - 1] + rise / 2)
    return float(min(area / limit, 1.0))


def aupro_authors(levels: Levels) -> float:
    """The estimate behind the published AUPRO, in [0, 1], to be compared with published figures.

    A pixel is found where its score is above a threshold. Of 200 thresholds in equal steps, from
    the lowest score on, those with a false positive rate below 0.3 are kept, and these rates are
    stretched to [0, 1]. NaN where AUPRO is undefined or the rates are equal.
    """
    if pro_reason(levels):
        return float("nan")
    lowest, highest = levels.thresholds[-1], levels.thresholds[0]
    steps = np.linspace(highest, lowest, 201)[1:]
    above = np.searchsorted(-levels.thresholds, -steps)  # levels above each step
    fpr, pro = (curve[above] for curve in pro_curve(levels))
    kept = int(np.searchsorted(fpr, DEFAULT_FPR_LIMIT))
    widths = np.diff(fpr[:kept])  # as weights they need no stretching
    if not widths.any():
        return float("nan")
    return float(np.average((pro[1:kept] + pro[: kept - 1]) / 2, weights=widths))


def aupro_bound(levels: Levels, limit: float) -> float:
    """How far a binned AUPRO can be from the exact one; for the idea see curves.py.

    The bin that contains the limit counts with its whole rectangle up to it.
    """
    fpr, pro = pro_curve(levels)
    rises, widths = np.diff(pro), np.diff(fpr.clip(max=limit))
    cut = fpr[1:] > limit
    return float(np.dot(rises, np.where(cut, widths, widths / 2)) / limit)
