"""Per-image overlap: AUPIMO, one figure for each anomalous image.

Source: Bertoldo et al., "AUPIMO: Redefining Visual Anomaly Detection Benchmarks with High Speed
and Low Tolerance" (BMVC 2024), as in the anomalib library. The false positive rate is measured on
normal images only (mean of their rates), the overlap is the true positive rate of the one image,
and the area is taken over the logarithm of a false positive rate from 1e-5 to 1e-4.

The overlap at a rate f is the largest one with which the rate stays at or below f. So the curve is
a step function, no threshold between the scores is invented, and the area is a finite sum.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bayes_pfl.errors import ConfigError
from bayes_pfl.metrics.histogram import DEFAULT_BINS, PagedHistogram
from bayes_pfl.metrics.inputs import ArrayLike, check_images
from bayes_pfl.metrics.keys import to_keys
from bayes_pfl.metrics.ranking import NAN, Result

DEFAULT_FPR_RANGE = (1e-5, 1e-4)


class PerImageMetrics:
    """AUPIMO, updated batch by batch; every image with an empty mask is a normal one.

    Args:
        fpr_range: the two false positive rates between which the area is taken.
        scores_kept: scores kept of each anomalous image: above that number of anomalous pixels
            their quantiles stand for them, and an overlap is off by 1 / scores_kept at most. 4
            bytes each.
        bins: bins at most for the scores of normal pixels; see histogram.py. Anomalous pixels that
            share the bin of a threshold count as missed.
    """

    def __init__(
        self,
        fpr_range: tuple[float, float] = DEFAULT_FPR_RANGE,
        scores_kept: int = 4096,
        bins: int = DEFAULT_BINS,
    ) -> None:
        if not 0 < fpr_range[0] < fpr_range[1] <= 1:
            raise ConfigError(
                f"fpr_range={fpr_range!r}: must rise, inside (0, 1]; (1e-5, 1e-4) is usual"
            )
        if scores_kept < 1:
            raise ConfigError(f"scores_kept={scores_kept!r}: must be at least 1")
        self.fpr_range, self.scores_kept = fpr_range, scores_kept
        self._normal = PagedHistogram({"rate": np.float64}, bins)
        self._normal_images = 0
        self._normal_pixels = 0
        self._anomalous: list[tuple[str, np.ndarray]] = []  # name, ascending keys

    def update(
        self, maps: ArrayLike, masks: ArrayLike, names: Sequence[str] | str | None = None
    ) -> None:
        """Count maps and masks, both (B,H,W) or (H,W); errors as in PixelMetrics.update."""
        seen = self._normal_images + len(self._anomalous)
        for scores, mask, name in zip(*check_images(maps, masks, names, seen), strict=True):
            if mask.any():
                self._anomalous.append((name, self._quantiles(to_keys(scores[mask]))))
            elif mask.size:
                weights = np.full(mask.size, 1.0 / mask.size)
                self._normal.add("rate", self._normal.locate(to_keys(scores.reshape(-1))), weights)
                self._normal_images += 1
                self._normal_pixels += mask.size

    def merge(self, other: PerImageMetrics) -> PerImageMetrics:
        """Add what another process has counted, its images behind the own ones; returns self."""
        if (other.fpr_range, other.scores_kept) != (self.fpr_range, self.scores_kept):
            raise ConfigError("per-image metrics of other settings: make both with the same ones")
        self._normal.merge(other._normal)
        self._normal_images += other._normal_images
        self._normal_pixels += other._normal_pixels
        self._anomalous += other._anomalous
        return self

    def compute(self) -> Result:
        """{"aupimo": mean, "per_image": [(name, value), ...], "reason": {key: text}}."""
        reason = self._reason()
        if reason is not None:
            return {"aupimo": NAN, "per_image": [], "reason": {"aupimo": reason}}
        tops, widths = self._steps()
        values = []
        for name, keys in self._anomalous:
            found = 1.0 - np.searchsorted(keys, tops, side="right") / len(keys)
            values.append((name, float(np.dot(found, widths))))
        mean = float(np.mean([value for _, value in values]))
        return {"aupimo": mean, "per_image": values, "reason": {}}

    def _reason(self) -> str | None:
        if not self._anomalous:
            return "undefined without anomalous images: every mask is empty"
        if self._normal_pixels * self.fpr_range[1] < 1:
            return (
                f"undefined with {self._normal_pixels} pixels of normal images: "
                f"a false positive rate of {self.fpr_range[1]:g} needs {1 / self.fpr_range[1]:.0f}"
            )
        return None

    def _steps(self) -> tuple[np.ndarray, np.ndarray]:
        """For each step of the rate: the highest key (n,) still excluded, the share of the area.

        While the rate is below that of a level, only scores above the whole level are found.
        """
        low, high = self.fpr_range
        keys, sums = self._normal.levels("rate")
        rates = np.cumsum(sums["rate"]) / self._normal_images
        edges = np.log(np.clip(np.concatenate([[low], rates]), low, high))
        widths = np.diff(edges) / np.log(high / low)
        inside = widths > 0
        tops = keys.astype(np.int64) + (1 << self._normal.shift) - 1
        return tops[inside], widths[inside]

    def _quantiles(self, keys: np.ndarray) -> np.ndarray:
        keys = np.sort(keys)
        if len(keys) <= self.scores_kept:
            return keys
        middle = (np.arange(self.scores_kept) + 0.5) * (len(keys) / self.scores_kept)
        return keys[middle.astype(np.intp)]


def aupimo(
    maps: ArrayLike, masks: ArrayLike, fpr_range: tuple[float, float] = DEFAULT_FPR_RANGE
) -> Result:
    """AUPIMO of maps and masks (B,H,W) in one call: see PerImageMetrics."""
    metrics = PerImageMetrics(fpr_range)
    metrics.update(maps, masks)
    return metrics.compute()
