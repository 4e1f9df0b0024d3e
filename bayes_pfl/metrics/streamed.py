"""Image and pixel metrics over a stream: updated batch by batch, merged, saved.

What both share is a store of scores and its settings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np

from bayes_pfl.errors import ConfigError
from bayes_pfl.metrics.curves import (
    Levels,
    auroc,
    auroc_bound,
    average_precision,
    average_precision_bound,
    best_f1,
    best_f1_bounds,
    one_class_reason,
    sampled_curves,
)
from bayes_pfl.metrics.inputs import ArrayLike, check_images, check_scores
from bayes_pfl.metrics.pro import DEFAULT_FPR_LIMIT, aupro, aupro_bound, pro_reason, region_weights
from bayes_pfl.metrics.stores import DEFAULT_BINS, BinnedStore, ExactStore, Mode, State

Metrics = TypeVar("Metrics", bound="StreamedMetrics")
Result = dict[str, Any]
"""The metrics by key, and "reason" and "bound", two dicts by the same keys."""
NAN = float("nan")

_CHUNK = 2**20  # pixels counted at once: bounds the temporary arrays, about 40 bytes a pixel


class StreamedMetrics:
    """What image and pixel metrics share."""

    _SETTINGS: ClassVar[tuple[str, ...]] = ("mode", "bins")
    _COUNTERS: ClassVar[tuple[str, ...]] = ("images",)
    _RANKING: ClassVar[tuple[str, ...]] = ("auroc", "ap", "f1_max", "f1_max_threshold")
    _WEIGHTED: ClassVar[bool] = False
    """Whether the positive scores carry weights."""

    def __init__(self, mode: Mode = "exact", bins: int = DEFAULT_BINS) -> None:
        if mode not in ("binned", "exact"):
            raise ConfigError(
                f"mode={mode!r}: allowed are 'binned' (bounded memory) and 'exact' (small data)"
            )
        self.mode, self.bins = mode, bins
        weighted, exact = self._WEIGHTED, mode == "exact"
        self._store: Any = ExactStore(weighted) if exact else BinnedStore(bins, weighted)
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


class ImageMetrics(StreamedMetrics):
    """AUROC, AP, F1-max and its threshold over images: one score and one label for each.

    Args:
        mode: "exact" keeps the scores (9 bytes an image); "binned" counts them in bounded memory,
            see PixelMetrics.
        bins: bins at most in binned mode, a power of two.

    Raises:
        ConfigError: a setting that is not allowed.
    """

    def update(
        self, scores: ArrayLike, labels: ArrayLike, names: Sequence[str] | str | None = None
    ) -> None:
        """Count scores and labels, both (n,) or both single numbers; names are for error messages.

        Raises:
            DataError: shapes that differ, a NaN or infinite score (its image is named), or labels
                other than 0 and 1.
        """
        scores, labels = check_scores(scores, labels, names, self.images)
        self._store.add(scores, labels, None)
        self._counts["images"] += len(scores)

    def compute(self) -> Result:
        """{"auroc", "ap", "f1_max", "f1_max_threshold"} -> float, NaN where undefined.

        "reason" says why a value is NaN, "bound" how far it can be from the exact one; both by key.
        """
        return self._ranking(self.levels(), "images")


class PixelMetrics(StreamedMetrics):
    """AUROC, AP, F1-max, its threshold, IoU there and AUPRO over all pixels, in one pass.

    Images may differ in size. The result does not depend on the order of the images, nor on how
    they are split in batches or processes.

    Args:
        mode: "binned" counts pixels in a histogram over the leading bits of their float32 scores:
            any finite range, memory independent of the number of images (24 bytes a bin).
            `compute` returns how far each figure can be from the exact one at most, under "bound".
            "exact" keeps and sorts all scores.
        bins: bins at most in binned mode, a power of two; see stores.py for their resolution.
        fpr_limit: false positive rate up to which AUPRO integrates, in (0, 1].

    Raises:
        ConfigError: a setting that is not allowed.
    """

    _SETTINGS = ("mode", "bins", "fpr_limit")
    _COUNTERS = ("images", "regions")
    _RANKING = (*StreamedMetrics._RANKING, "iou")
    _WEIGHTED = True

    def __init__(
        self,
        mode: Mode = "binned",
        bins: int = DEFAULT_BINS,
        fpr_limit: float = DEFAULT_FPR_LIMIT,
    ) -> None:
        super().__init__(mode, bins)
        self.fpr_limit = _checked_limit(fpr_limit)

    @property
    def regions(self) -> int:
        """How many 8-connected anomalous regions have been counted."""
        return self._counts["regions"]

    def update(
        self, maps: ArrayLike, masks: ArrayLike, names: Sequence[str] | str | None = None
    ) -> None:
        """Count maps (B,H,W) or (H,W) with masks of the same shape (bool, or 0 and 1).

        Arrays and tensors of any device are fine; names are for error messages.

        Raises:
            DataError: shapes that differ, a NaN or infinite score (its image is named), or mask
                values other than 0 and 1. Nothing of the batch is counted then.
        """
        maps, masks = check_images(maps, masks, names, self.images)
        for some_maps, some_masks in _chunks(maps, masks):
            weights, counts = zip(*map(region_weights, some_masks), strict=True)
            self._count(some_maps.reshape(-1), some_masks.reshape(-1), np.concatenate(weights))
            self._counts["regions"] += sum(counts)
        self._counts["images"] += len(maps)

    def _count(self, scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> None:
        """Count pixels (n,) with the weights of the positive ones; of one large map in parts."""
        for start in range(0, len(scores), _CHUNK):
            part = slice(start, start + _CHUNK)
            own, weights = np.split(weights, [np.count_nonzero(labels[part])])
            self._store.add(scores[part], labels[part], own)

    def compute(self, fpr_limit: float | None = None) -> Result:
        """{"auroc", "ap", "f1_max", "f1_max_threshold", "iou", "aupro"} -> float, NaN if undefined.

        "reason" says why a value is NaN, "bound" how far it can be from the exact one; both by key
        (the threshold has no bound). F1-max counts scores >= threshold as anomalous, IoU scores >
        threshold: see curves.BestF1.

        Args:
            fpr_limit: replaces the limit for AUPRO that was set at construction.
        """
        limit = self.fpr_limit if fpr_limit is None else _checked_limit(fpr_limit)
        levels = self.levels()
        result, reason = self._ranking(levels, "pixels"), pro_reason(levels)
        if reason is not None:
            result["aupro"], result["reason"]["aupro"] = NAN, reason
            return result
        result["aupro"] = aupro(levels, limit)
        result["bound"]["aupro"] = 0.0 if self.mode == "exact" else aupro_bound(levels, limit)
        return result


def image_metrics(scores: ArrayLike, labels: ArrayLike, mode: Mode = "exact") -> Result:
    """Metrics of scores and labels (n,) in one call: see ImageMetrics."""
    metrics = ImageMetrics(mode)
    metrics.update(scores, labels)
    return metrics.compute()


def pixel_metrics(
    maps: ArrayLike,
    masks: ArrayLike,
    mode: Mode = "exact",
    fpr_limit: float = DEFAULT_FPR_LIMIT,
) -> Result:
    """Metrics of maps and masks (B,H,W) in one call: see PixelMetrics."""
    metrics = PixelMetrics(mode, fpr_limit=fpr_limit)
    metrics.update(maps, masks)
    return metrics.compute()


def _checked_limit(limit: float) -> float:
    if not 0 < limit <= 1:
        raise ConfigError(f"fpr_limit={limit!r}: must be above 0 and at most 1, 0.3 is usual")
    return float(limit)


def _chunks(maps: np.ndarray, masks: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    size = max(1, _CHUNK // max(1, maps[0].size)) if len(maps) else 1
    for start in range(0, len(maps), size):
        yield maps[start : start + size], masks[start : start + size]
