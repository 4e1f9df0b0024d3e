"""Pixel-level metrics over a stream of anomaly maps and masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from bayes_pfl.errors import ConfigError
from bayes_pfl.metrics.bounds import aupro_bound
from bayes_pfl.metrics.histogram import DEFAULT_BINS
from bayes_pfl.metrics.inputs import ArrayLike, check_images
from bayes_pfl.metrics.pro import DEFAULT_FPR_LIMIT, aupro, pro_reason, region_weights
from bayes_pfl.metrics.stores import Mode
from bayes_pfl.metrics.streamed import NAN, Result, StreamedMetrics

_CHUNK = 2**20  # pixels counted at once: bounds the temporary arrays, about 40 bytes a pixel


class PixelMetrics(StreamedMetrics):
    """AUROC, AP, F1-max, its threshold, IoU there and AUPRO over all pixels, in one pass.

    Images may differ in size. The result does not depend on the order of the images, nor on how
    they are split in batches or processes.

    Args:
        mode: "binned" counts pixels in a histogram over the leading bits of their float32 scores:
            any finite range, memory independent of the number of images (24 bytes a bin).
            `compute` returns how far each figure can be from the exact one at most, under "bound".
            "exact" keeps and sorts all scores.
        bins: bins at most in binned mode, a power of two; see histogram.py for their resolution.
        fpr_limit: false positive rate up to which AUPRO integrates, in (0, 1].

    Raises:
        ConfigError: a setting that is not allowed.
    """

    _SETTINGS = ("mode", "bins", "fpr_limit")
    _COUNTERS = ("images", "regions")
    _RANKING = (*StreamedMetrics._RANKING, "iou")

    def __init__(
        self,
        mode: Mode = "binned",
        bins: int = DEFAULT_BINS,
        fpr_limit: float = DEFAULT_FPR_LIMIT,
    ) -> None:
        super().__init__(mode, bins, weighted=True)
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
            self._store.add(some_maps.reshape(-1), some_masks.reshape(-1), np.concatenate(weights))
            self._counts["regions"] += sum(counts)
        self._counts["images"] += len(maps)

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
