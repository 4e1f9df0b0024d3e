"""Results of several seeds as one: the mean of each figure, and its standard deviation as "sd"."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from bayes_pfl.evaluate.records import LEVEL_KEYS


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
            keys_bound = {key for bound in bounds for key in bound}
            combined[level]["bound"] = {
                key: max(bound.get(key, 0.0) for bound in bounds) for key in sorted(keys_bound)
            }
        spreads = {key: statistics.stdev(column) for key, column in defined.items()}
        combined["sd"][level] = {**dict.fromkeys(keys), **spreads}
    return combined
