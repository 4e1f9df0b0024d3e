"""Where scores are kept until a metric is computed: all of them (exact), or counts (binned).

Both stores hold scores of two classes, and have the same methods. `add` counts scores (n,), finite,
with labels (n,) bool, true where positive; in a weighted store each positive score comes with a
weight (1 / area of its region). `merge` adds what another store of the same settings holds.
`levels` returns the counts by score, highest first, and `regions` with them. `load` restores a
store from the plain arrays that `state` returned.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from bayes_pfl.metrics.curves import Levels
from bayes_pfl.metrics.histogram import PagedHistogram, from_keys, to_keys

Mode = Literal["binned", "exact"]
State = dict[str, np.ndarray]


class ExactStore:
    """Keeps every score: 4 to 8 bytes each, and 8 more for weighted positives."""

    def __init__(self, weighted: bool) -> None:
        self._weighted = weighted
        self._parts: dict[str, list[np.ndarray]] = {"positive": [], "negative": [], "weight": []}

    def add(self, scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None) -> None:
        self._parts["positive"].append(scores[labels])
        self._parts["negative"].append(scores[~labels])
        if weights is not None:
            self._parts["weight"].append(weights)

    def merge(self, other: Any) -> None:
        for name, parts in self._parts.items():
            parts.extend(other._parts[name])

    def levels(self, regions: int) -> Levels:
        positive, negative = self._joined("positive"), self._joined("negative")
        scores = np.concatenate([positive, negative])
        order = np.argsort(scores)[::-1]
        scores = scores[order]
        ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], [True] * (scores.size > 0)))
        tp = np.cumsum(order < len(positive))[ends]
        overlap = None
        if self._weighted:
            weights = np.append(self._joined("weight"), np.zeros(len(negative)))
            overlap = np.diff(np.cumsum(weights[order])[ends], prepend=0.0)
        positives = np.diff(tp, prepend=0)
        negatives = np.diff(ends + 1, prepend=0) - positives
        return Levels(scores[ends].astype(np.float64), positives, negatives, overlap, regions)

    def state(self) -> State:
        return {name: self._joined(name) for name in self._parts}

    def load(self, state: State) -> None:
        self._parts = {name: [np.asarray(state[name])] for name in self._parts}

    def _joined(self, name: str) -> np.ndarray:
        parts = self._parts[name]
        return np.concatenate(parts) if parts else np.empty(0, np.float32)


class BinnedStore(PagedHistogram):
    """Counts scores in bins: 8 bytes per bin and channel, for any number of scores."""

    def __init__(self, bins: int, weighted: bool) -> None:
        channels: dict[str, type] = {"all": np.int64, "positive": np.int64}
        super().__init__(channels | ({"region": np.float64} if weighted else {}), bins)

    def add(self, scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None) -> None:
        where = self.locate(to_keys(scores))
        self.count("all", where)
        if labels.any():
            where = where[labels]
            self.count("positive", where)
            if weights is not None:
                self.count("region", where, weights)

    def levels(self, regions: int) -> Levels:
        keys, sums = self.filled("all")
        thresholds = from_keys(keys).astype(np.float64)
        negatives = sums["all"] - sums["positive"]
        return Levels(thresholds, sums["positive"], negatives, sums.get("region"), regions)
