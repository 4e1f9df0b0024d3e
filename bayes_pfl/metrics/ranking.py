"""AUROC, AP and F1-max together: values, reasons where they are undefined, and error bounds."""

from __future__ import annotations

from typing import Any

from bayes_pfl.metrics.bounds import auroc_bound, average_precision_bound, best_f1_bounds
from bayes_pfl.metrics.curves import Levels, auroc, average_precision, best_f1

Result = dict[str, Any]  # the metrics by key, and "reason" and "bound", two dicts by the same keys
KEYS = ("auroc", "ap", "f1_max", "f1_max_threshold", "iou")
NAN = float("nan")


def ranking_result(levels: Levels, reason: str | None, exact: bool) -> Result:
    """The values of KEYS, "reason" {key: text} where NaN, "bound" {key: largest error} elsewhere.

    The threshold has no bound: where F1 is flat, thresholds far apart are equally good.
    """
    if reason is not None:
        return {**dict.fromkeys(KEYS, NAN), "reason": dict.fromkeys(KEYS, reason), "bound": {}}
    best = best_f1(levels)
    values = (auroc(levels), average_precision(levels), best.f1, best.threshold, best.iou)
    bound = dict.fromkeys(("auroc", "ap", "f1_max", "iou"), 0.0)
    if not exact:
        f1_bound, iou_bound = best_f1_bounds(levels, best)
        bounds = (auroc_bound(levels), average_precision_bound(levels), f1_bound, iou_bound)
        bound = dict(zip(bound, bounds, strict=True))
    return {**dict(zip(KEYS, values, strict=True)), "reason": {}, "bound": bound}
