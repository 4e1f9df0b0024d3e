"""What image and pixel metrics share: a store of scores, merged and saved with its settings."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

import numpy as np

from bayes_pfl.errors import ConfigError
from bayes_pfl.metrics.bounds import auroc_bound, average_precision_bound, best_f1_bounds
from bayes_pfl.metrics.curves import (
    Levels,
    auroc,
    average_precision,
    best_f1,
    one_class_reason,
    sampled_curves,
)
from bayes_pfl.metrics.histogram import DEFAULT_BINS
from bayes_pfl.metrics.stores import Mode, State, make_store

Metrics = TypeVar("Metrics", bound="StreamedMetrics")
Result = dict[str, Any]
"""The metrics by key, and "reason" and "bound", two dicts by the same keys."""
NAN = float("nan")


class StreamedMetrics:
    """Metrics that are updated batch by batch, and merged between processes.

    Args:
        mode: "exact" or "binned".
        bins: bins at most in binned mode, a power of two.
        weighted: whether the positive scores carry weights.
    """

    _SETTINGS: ClassVar[tuple[str, ...]] = ("mode", "bins")
    _COUNTERS: ClassVar[tuple[str, ...]] = ("images",)
    _RANKING: ClassVar[tuple[str, ...]] = ("auroc", "ap", "f1_max", "f1_max_threshold")

    def __init__(self, mode: Mode, bins: int = DEFAULT_BINS, *, weighted: bool = False) -> None:
        self.mode, self.bins = mode, bins
        self._store: Any = make_store(mode, bins, weighted)
        self._counts = dict.fromkeys(self._COUNTERS, 0)

    @property
    def images(self) -> int:
        """How many images have been counted."""
        return self._counts["images"]

    def merge(self: Metrics, other: Metrics) -> Metrics:
        """Add what another process has counted; returns self.

        Raises:
            ConfigError: the other metrics were made with other settings.
        """
        mine, theirs = self._settings(), other._settings()
        if mine != theirs:
            raise ConfigError(
                f"{', '.join(mine)} {tuple(theirs.values())} cannot be merged into "
                f"{tuple(mine.values())}: make both with the same settings"
            )
        self._store.merge(other._store)
        for name, count in other._counts.items():
            self._counts[name] += count
        return self

    def curves(self, points: int = 1000) -> dict[str, np.ndarray]:
        """ROC, precision-recall and (of pixels) PRO curve for plots: see curves.sampled_curves."""
        return sampled_curves(self.levels(), points)

    def levels(self) -> Levels:
        """The counts at each distinct score (exact) or in each bin (binned), highest first."""
        return self._store.levels(self._counts.get("regions", 0))

    def _ranking(self, levels: Levels, unit: str) -> Result:
        """The ranking metrics, "reason" {key: text} where NaN, "bound" {key: error} elsewhere.

        The threshold has no bound: where F1 is flat, thresholds far apart are equally good.
        """
        keys = self._RANKING
        reason = one_class_reason(levels, unit)
        if reason is not None:
            return {**dict.fromkeys(keys, NAN), "reason": dict.fromkeys(keys, reason), "bound": {}}
        best = best_f1(levels)
        values = {"auroc": auroc(levels), "ap": average_precision(levels), "iou": best.iou}
        values |= {"f1_max": best.f1, "f1_max_threshold": best.threshold}
        bounds = dict.fromkeys(values, 0.0)
        if self.mode != "exact":
            bounds |= {"auroc": auroc_bound(levels), "ap": average_precision_bound(levels)}
            bounds["f1_max"], bounds["iou"] = best_f1_bounds(levels, best)
        bound = {key: bounds[key] for key in keys if key != "f1_max_threshold"}
        return {**{key: values[key] for key in keys}, "reason": {}, "bound": bound}

    def state(self) -> State:
        """Everything counted so far as plain arrays, to send to another process or to save."""
        own = {**self._counts, **self._settings()}
        return {**{key: np.array(value) for key, value in own.items()}, **self._store.state()}

    @classmethod
    def from_state(cls: type[Metrics], state: State) -> Metrics:
        """The metrics that `state` returned the arrays of."""
        metrics = cls(**{name: np.asarray(state[name]).item() for name in cls._SETTINGS})
        metrics._store.load(state)
        metrics._counts = {name: int(state[name]) for name in cls._COUNTERS}
        return metrics

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as its state: bins that hold nothing take no room."""
        return type(self).from_state, (self.state(),)

    def _settings(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self._SETTINGS}
