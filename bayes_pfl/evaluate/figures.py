"""The figures of metrics.json: of a category, their mean over categories and over seeds.

An entry has figures under "pixel" and "image"; those that are not defined are None, with a reason.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

PIXEL_KEYS = ("auroc", "aupro", "ap", "f1_max", "iou")
IMAGE_KEYS = ("auroc", "ap", "f1_max")
LEVEL_KEYS = {"pixel": PIXEL_KEYS, "image": IMAGE_KEYS}


def figures(computed: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """Metrics in the form of metrics.json: None for NaN, with "reason"; "bound" if binned."""
    values = {key: computed.get(key, math.nan) for key in (*keys, "f1_max_threshold")}
    chosen: dict[str, Any] = {k: None if math.isnan(v) else float(v) for k, v in values.items()}
    bounds = {key: float(computed["bound"][key]) for key in keys if computed["bound"].get(key)}
    reasons = {key: text for key, text in computed["reason"].items() if key in keys}
    return chosen | ({"bound": bounds} if bounds else {}) | ({"reason": reasons} if reasons else {})


def mean_figures(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means of entries with "pixel" and "image" figures, each over those where it is defined."""
    means: dict[str, Any] = {}
    for level, keys in LEVEL_KEYS.items():
        means[level] = {key: mean([entry[level][key] for entry in entries]) for key in keys}
        missing = [key for key in keys if means[level][key] is None]
        if missing:
            means[level]["reason"] = {key: _shared_reason(entries, level, key) for key in missing}
    return means


def mean(values: Sequence[float | None]) -> float | None:
    """Mean of the values that are defined; None if none is."""
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def _shared_reason(entries: Sequence[dict[str, Any]], level: str, key: str) -> str:
    reasons = {entry[level].get("reason", {}).get(key, "") for entry in entries}
    return reasons.pop() if len(reasons) == 1 else "undefined in every category"


def undefined(keys: Sequence[str], reason: str) -> dict[str, Any]:
    """The form of :func:`figures` where there are none."""
    empty: dict[str, Any] = dict.fromkeys((*keys, "f1_max_threshold"))
    return empty | {"reason": dict.fromkeys(keys, reason)}


def combine_seeds(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Results of one dataset under several seeds -> one of the same form.

    A figure is the mean over the seeds, and None where it is None for any seed. "sd", next to
    "pixel" and "image", holds the sample standard deviations (n - 1). The sd of a dataset's mean is
    computed from the mean of each seed; it is not the mean of the categories' sd. One result is
    returned unchanged.
    """
    if len(results) == 1:
        return results[0]
    names = results[0]["categories"]
    categories = {name: _combine([r["categories"][name] for r in results]) for name in names}
    return {"categories": categories, "mean": _combine([r["mean"] for r in results])}


def _combine(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    combined = dict(entries[0])
    combined["sd"] = {}
    for level, keys in LEVEL_KEYS.items():
        names = [key for key in (*keys, "f1_max_threshold") if key in entries[0][level]]
        columns = {key: [entry[level][key] for entry in entries] for key in names}
        defined = {key: column for key, column in columns.items() if None not in column}
        means = {key: statistics.fmean(column) for key, column in defined.items()}
        combined[level] = {**entries[0][level], **dict.fromkeys(names), **means}
        if "bound" in combined[level]:  # the largest bound of any seed holds for the mean
            bounds = [entry[level].get("bound", {}) for entry in entries]
            bound_keys = sorted(set().union(*bounds))
            largest = {key: max(bound.get(key, 0.0) for bound in bounds) for key in bound_keys}
            combined[level]["bound"] = largest
        spreads = {key: statistics.stdev(column) for key, column in defined.items()}
        combined["sd"][level] = {**dict.fromkeys(keys), **spreads}
    return combined
