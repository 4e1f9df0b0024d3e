"""From counts at each score to ROC, precision-recall and F1.

`Levels` serves the exact and the binned mode alike: one entry for each distinct score
(exact) or for each bin that is not empty (binned), highest first. Scores of one level are tied:
they cross the threshold together, as in scikit-learn.

A bin hides the order of the scores in it. The bounds say how far a binned figure can be from the
exact one, from the bins alone: each takes the best and the worst order of every bin, so it holds
for any data. Scores that are truly equal make it larger than the real error.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True)
class Levels:
    """Counts at each level, highest score first.

    Attributes:
        thresholds: (n,) float64; scores >= thresholds[i] belong to level i or a higher one.
        positives: (n,) int64, how many positive scores the level holds.
        negatives: (n,) int64, how many negative scores the level holds.
        overlap: (n,) float64, sum over regions of the fraction of the region in the level; or None.
        regions: how many regions `overlap` was summed over.
    """

    thresholds: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray
    overlap: np.ndarray | None = None
    regions: int = 0

    @cached_property
    def true_positives(self) -> np.ndarray:
        """(n,) positives at or above each threshold."""
        return np.cumsum(self.positives)

    @cached_property
    def false_positives(self) -> np.ndarray:
        """(n,) negatives at or above each threshold."""
        return np.cumsum(self.negatives)

    @property
    def n_positive(self) -> int:
        """How many positive scores there are."""
        return int(self.true_positives[-1]) if len(self.positives) else 0

    @property
    def n_negative(self) -> int:
        """How many negative scores there are."""
        return int(self.false_positives[-1]) if len(self.negatives) else 0


class BestF1(NamedTuple):
    """The largest F1 over all thresholds, the lowest threshold with that F1, and the IoU there.

    The published protocol counts scores >= threshold in F1, as scikit-learn does, and scores >
    threshold in the IoU; so does this. The IoU at exactly the same pixels would be f1 / (2 - f1).
    """

    f1: float
    threshold: float
    iou: float


def one_class_reason(levels: Levels, unit: str) -> str | None:
    """Why ranking metrics are undefined (one class only, or no data); None if they are defined.

    Args:
        unit: what the scores are of, such as "images".
    """
    total = levels.n_positive + levels.n_negative
    if total == 0:
        return f"undefined without data: there are no {unit}"
    for count, kind in ((levels.n_positive, "anomalous"), (levels.n_negative, "normal")):
        if count == 0:
            return (
                f"undefined without both classes: there are no {kind} {unit} among {total} {unit}"
            )
    return None


def auroc(levels: Levels) -> float:
    """Area under the ROC curve by trapezoids: tied scores of both classes count half."""
    tp = levels.true_positives.astype(np.float64)
    below = tp - 0.5 * levels.positives  # positives above the level, and half of those in it
    return float(np.dot(below, levels.negatives) / (levels.n_positive * levels.n_negative))


def auroc_bound(levels: Levels) -> float:
    """In a bin the ROC curve stays in a rectangle; its diagonal errs by half of that at most."""
    mixed = np.dot(levels.positives.astype(np.float64), levels.negatives)
    return float(mixed / (2 * levels.n_positive * levels.n_negative))


def average_precision(levels: Levels) -> float:
    """Sum over levels of precision times the step in recall (scikit-learn's definition)."""
    predicted = levels.true_positives + levels.false_positives
    precision = levels.true_positives / np.maximum(predicted, 1)
    return float(np.dot(precision, levels.positives) / levels.n_positive)


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


def best_f1(levels: Levels) -> BestF1:
    """The largest F1 = 2 TP / (2 TP + FP + FN) of all levels; if equal, at the lowest threshold."""
    tp, fp = levels.true_positives, levels.false_positives
    f1 = 2 * tp / (tp + fp + levels.n_positive)
    best = len(f1) - 1 - int(np.argmax(f1[::-1]))
    tp_above, fp_above = tp[best] - levels.positives[best], fp[best] - levels.negatives[best]
    iou = tp_above / (fp_above + levels.n_positive)
    return BestF1(float(f1[best]), float(levels.thresholds[best]), float(iou))


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


def sampled_curves(levels: Levels, points: int) -> dict[str, np.ndarray]:
    """ROC, precision-recall and (with regions) PRO curve at `points` + 1 of the levels at most.

    The levels are chosen evenly along the ROC curve, its ends included. Keys: threshold, fpr, tpr,
    precision, recall and pro, each (k,) float64, highest threshold first. Rates of an empty class
    are NaN.
    """
    tp, fp = levels.true_positives, levels.false_positives
    with np.errstate(invalid="ignore", divide="ignore"):
        tpr, fpr = tp / np.float64(levels.n_positive), fp / np.float64(levels.n_negative)
    walked = np.nan_to_num(tpr) + np.nan_to_num(fpr)
    keep = np.empty(0, np.intp)
    if len(walked):
        stops = np.linspace(walked[0], walked[-1], points)
        last = len(tp) - 1
        keep = np.unique(np.append(np.searchsorted(walked, stops).clip(max=last), last))
    curves = {
        "threshold": levels.thresholds,
        "fpr": fpr,
        "tpr": tpr,
        "precision": tp / np.maximum(tp + fp, 1),
        "recall": tpr,
    }
    if levels.overlap is not None and levels.regions:
        curves["pro"] = np.cumsum(levels.overlap) / levels.regions
    return {name: values[keep] for name, values in curves.items()}
