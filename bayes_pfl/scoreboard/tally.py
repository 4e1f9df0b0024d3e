"""What one method found in one category, and the figures with intervals that it becomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Any

import numpy as np
from torch import Tensor

from bayes_pfl.data.labelled_batches import LabelledBatch
from bayes_pfl.metrics import ImageMetrics, PixelMetrics
from bayes_pfl.metrics.pro import DEFAULT_FPR_LIMIT
from bayes_pfl.scoreboard.resampling import (
    BootstrapSettings,
    PixelCounter,
    image_replicates,
    image_weights,
    interval,
    pixel_replicates,
)

LEVEL_KEYS = {"pixel": ("auroc", "aupro", "ap"), "image": ("auroc", "ap")}


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
        reasons: by level, why there can be no figures; None where there can.
    """

    def __init__(self, reasons: Mapping[str, str | None]) -> None:
        self.reasons = reasons
        self._scores: list[float] = []
        self._labels: list[int] = []
        self._masked: list[bool] = []
        self._pixels = PixelMetrics()
        self._counter = PixelCounter()

    def add(self, scores: Tensor, maps: Tensor | None, batch: LabelledBatch) -> None:
        """Count the scores (B,) and maps (B, S, S) of a batch."""
        if self.reasons["pixel"] is None and maps is not None:
            known = [one.label == 0 or one.mask is not None for one in batch.samples]
            self._masked += known
            found, masks = maps.float().cpu().numpy()[known], batch.masks[known]
            names = [str(one.path) for one in compress(batch.samples, known)]
            self._pixels.update(found, masks, names)
            for anomaly_map, mask in zip(found, masks, strict=True):
                self._counter.add(anomaly_map, mask)
        self._scores += scores.double().tolist()
        self._labels += [sample.label for sample in batch.samples]

    def figures(self, settings: BootstrapSettings, stream: str = "") -> Figures:
        """Values over all images, and in every resample of them.

        Args:
            stream: name of the category: see :func:`image_weights`.
        """
        scores, labels = np.asarray(self._scores), np.asarray(self._labels, np.int64)
        weights, images = image_weights(labels, settings, stream), ImageMetrics()
        if self.reasons["image"] is None:
            images.update(scores, labels)
        return {
            "pixel": self._level(
                "pixel",
                self._pixels,
                lambda: pixel_replicates(
                    self._counter.counts(), weights[:, self._masked], DEFAULT_FPR_LIMIT
                ),
            ),
            "image": self._level(
                "image", images, lambda: image_replicates(scores, labels, weights)
            ),
        }

    def _level(
        self,
        level: str,
        metrics: ImageMetrics | PixelMetrics,
        replicates: Callable[[], dict[str, np.ndarray]],
    ) -> dict[str, Figure]:
        """The figures of a level; they are defined all, or none."""
        keys, reason = LEVEL_KEYS[level], self.reasons[level]
        if reason is not None:
            return {key: Figure(None, reason) for key in keys}
        computed = metrics.compute()
        if reasons := computed["reason"]:
            return {key: Figure(None, reasons[key]) for key in keys}
        found = replicates()
        return {key: Figure(float(computed[key]), None, found[key]) for key in keys}


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
