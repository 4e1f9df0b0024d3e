"""What one method found in one category, and the figures with intervals that it becomes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bayes_pfl.metrics import ImageMetrics, PixelMetrics
from bayes_pfl.metrics.pro import DEFAULT_FPR_LIMIT
from bayes_pfl.scoreboard.pixel_counts import PixelCounter
from bayes_pfl.scoreboard.resampling import (
    BootstrapSettings,
    image_replicates,
    image_weights,
    interval,
    pixel_replicates,
)

PIXEL_KEYS = ("auroc", "aupro", "ap")
IMAGE_KEYS = ("auroc", "ap")
LEVEL_KEYS = {"pixel": PIXEL_KEYS, "image": IMAGE_KEYS}


@dataclass(frozen=True)
class Figure:
    """One number of the scoreboard.

    Attributes:
        value: in [0, 1]; None where undefined.
        reason: why it is undefined.
        replicates: its values in the resamples, (R,); empty without a bootstrap.
    """

    value: float | None
    reason: str | None = None
    replicates: np.ndarray = field(default_factory=lambda: np.empty(0))

    def ends(self, confidence: float) -> tuple[float, float] | None:
        """The ends of the interval; None where the figure or the interval is undefined."""
        return interval(self.replicates, confidence) if self.value is not None else None

    def as_dict(self, confidence: float) -> dict[str, Any]:
        """{"value", "low", "high"}, null where undefined, and then "reason"."""
        low, high = self.ends(confidence) or (None, None)
        entry: dict[str, Any] = {"value": self.value, "low": low, "high": high}
        return entry | ({} if self.reason is None else {"reason": self.reason})


Figures = dict[str, dict[str, Figure]]
"""By level ("pixel", "image") and key."""


class Tally:
    """Scores of the images of a category, and counts of their pixels.

    Args:
        no_pixels: why there can be no pixel figures; None if there can.
        no_images: likewise for image figures.
    """

    def __init__(self, no_pixels: str | None = None, no_images: str | None = None) -> None:
        self.no_pixels, self.no_images = no_pixels, no_images
        self._scores: list[float] = []
        self._labels: list[int] = []
        self._pixels = PixelMetrics()
        self._counter = PixelCounter()

    def add(
        self,
        scores: np.ndarray,
        maps: np.ndarray | None,
        labels: Sequence[int],
        masks: np.ndarray,
        names: Sequence[str],
    ) -> None:
        """Scores (B,), maps (B, S, S), labels and masks (B, S, S) bool of a batch."""
        if self.no_pixels is None and maps is not None:
            self._pixels.update(maps, masks, names)
            for anomaly_map, mask in zip(maps, masks, strict=True):
                self._counter.add(anomaly_map, mask)
        self._scores += scores.tolist()
        self._labels += labels

    def figures(self, settings: BootstrapSettings, stream: str = "") -> Figures:
        """Values over all images, and in every resample of them.

        Args:
            stream: name of the category: see :func:`image_weights`.
        """
        labels = np.asarray(self._labels, np.int64)
        weights = image_weights(labels, settings, stream)
        return {"pixel": self._pixel_figures(weights), "image": self._image_figures(weights)}

    def _image_figures(self, weights: np.ndarray) -> dict[str, Figure]:
        if self.no_images is not None:
            return {key: Figure(None, self.no_images) for key in IMAGE_KEYS}
        scores, labels = np.asarray(self._scores), np.asarray(self._labels, np.int64)
        metrics = ImageMetrics()
        metrics.update(scores, labels)
        computed = metrics.compute()
        if computed["reason"]:
            return _figures(computed, IMAGE_KEYS, {})
        return _figures(computed, IMAGE_KEYS, image_replicates(scores, labels, weights))

    def _pixel_figures(self, weights: np.ndarray) -> dict[str, Figure]:
        if self.no_pixels is not None:
            return {key: Figure(None, self.no_pixels) for key in PIXEL_KEYS}
        computed = self._pixels.compute()
        if computed["reason"]:
            return _figures(computed, PIXEL_KEYS, {})
        replicates = pixel_replicates(self._counter.counts(), weights, DEFAULT_FPR_LIMIT)
        return _figures(computed, PIXEL_KEYS, replicates)


def mean_figures(parts: Sequence[Figures]) -> Figures:
    """Mean of each figure over those (categories, sets) where it is defined."""
    return {
        level: {key: _mean([part[level][key] for part in parts]) for key in keys}
        for level, keys in LEVEL_KEYS.items()
    }


def _mean(figures: Sequence[Figure]) -> Figure:
    defined = [figure for figure in figures if figure.value is not None]
    if not defined:
        reasons = list(dict.fromkeys(figure.reason for figure in figures))
        return Figure(None, reasons[0] if len(reasons) == 1 else "undefined in every part")
    value = sum(figure.value or 0.0 for figure in defined) / len(defined)
    # A resample in which one part is undefined is so in the mean.
    return Figure(value, None, np.mean([figure.replicates for figure in defined], axis=0))


def _figures(
    computed: dict[str, Any], keys: Sequence[str], replicates: dict[str, np.ndarray]
) -> dict[str, Figure]:
    found = {}
    for key in keys:
        if math.isnan(computed[key]):
            found[key] = Figure(None, computed["reason"].get(key, "undefined"))
        else:
            found[key] = Figure(float(computed[key]), None, replicates.get(key, np.empty(0)))
    return found
