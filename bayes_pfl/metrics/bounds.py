"""How far a binned metric can be from the exact one, computed from the bins alone.

A bin hides the order of the scores in it. Each bound takes the best and the worst order of every
bin, so it holds for any data; scores that are truly equal make it larger than the real error.
"""

from __future__ import annotations

import numpy as np

from bayes_pfl.metrics.curves import BestF1, Levels
from bayes_pfl.metrics.pro import pro_curve


def auroc_bound(levels: Levels) -> float:
    """In a bin the ROC curve stays in a rectangle; its diagonal errs by half of that at most."""
    mixed = np.dot(levels.positives.astype(np.float64), levels.negatives)
    return float(mixed / (2 * levels.n_positive * levels.n_negative))


def average_precision_bound(levels: Levels) -> float:
    """Precision in a bin lies between those with all its negatives, or all its positives, first."""
    tp, fp = levels.true_positives, levels.false_positives
    here = tp / np.maximum(tp + fp, 1)
    fp_above = fp - levels.negatives
    highest = tp / np.maximum(tp + fp_above, 1)
    first = tp - levels.positives + 1
    lowest = first / (first + fp)
    wide = np.where(levels.positives > 1, here - lowest, 0.0)
    # A single positive without negatives in its bin is placed exactly.
    spread = np.maximum(highest - here, np.maximum(wide, 0.0))
    return float(np.dot(spread, levels.positives) / levels.n_positive)


def best_f1_bounds(levels: Levels, best: BestF1) -> tuple[float, float]:
    """How far F1-max and the IoU there can be from the exact ones.

    A bin may hold the exact best threshold only if, with its positives first, it reaches the F1
    found. The exact IoU then lies between those with all negatives, or all positives, of one such
    bin.
    """
    tp, fp, positives = levels.true_positives, levels.false_positives, levels.n_positive
    fp_above, tp_above = fp - levels.negatives, tp - levels.positives
    highest = 2 * tp / (tp + fp_above + positives)
    possible = highest >= best.f1
    largest = np.max(tp[possible] / (fp_above[possible] + positives))
    smallest = np.min(tp_above[possible] / (fp[possible] + positives))
    return float(np.max(highest) - best.f1), float(max(largest - best.iou, best.iou - smallest))


def aupro_bound(levels: Levels, limit: float) -> float:
    """As for AUROC; the bin that contains the limit counts with its whole rectangle up to it."""
    fpr, pro = pro_curve(levels)
    rises, widths = np.diff(pro), np.diff(fpr.clip(max=limit))
    cut = fpr[1:] > limit
    return float(np.dot(rises, np.where(cut, widths, widths / 2)) / limit)
