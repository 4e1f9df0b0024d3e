"""Pixels of every image counted on one scale of levels, in bounded memory.

The scale is laid through the maps that come first: half of its steps hold equal numbers of their
normal pixels, half of their anomalous ones, so that both axes of every curve are divided evenly.
Maps that come later are counted on it at once and let go. Images should come in mixed order.

Symbols: H×W pixels of a map, n levels, I images.
"""

from __future__ import annotations

import numpy as np

from bayes_pfl.metrics.pro import region_weights

STEPS = 1024
"""Steps through the pixels of each class: the scale has at most twice as many."""
PILOTS = 32
"""Maps that the scale is laid through."""

_SEEN = 200_000  # pixels that the scale is laid through: more cost time and move no step


class PixelCounter:
    """Counts of each image; the first ``PILOTS`` maps are held until the scale is laid."""

    def __init__(self, steps: int = STEPS, pilots: int = PILOTS) -> None:
        self.steps, self.pilots = steps, pilots
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []
        self._scale: np.ndarray | None = None
        self._rows: list[tuple[np.ndarray, np.ndarray, np.ndarray, int]] = []

    def add(self, anomaly_map: np.ndarray, mask: np.ndarray) -> None:
        """Count a map (H, W) with its mask (H, W) bool."""
        if self._scale is not None:
            self._rows.append(_counted(self._scale, anomaly_map, mask))
            return
        self._waiting.append((anomaly_map, mask))
        if len(self._waiting) == self.pilots:
            self._lay_scale()

    def counts(self) -> list[np.ndarray]:
        """What has been counted, in the order in which it came, levels from the highest.

        Returns:
            Positives and negatives (I, n) int32; overlap (I, n) float32, summed over the image's
            regions: the share in the level; the number of regions (I,).
        """
        if self._scale is None:
            self._lay_scale()
        return [np.stack(parts) for parts in zip(*self._rows, strict=True)]

    def _lay_scale(self) -> None:
        maps, masks = (np.stack(x) for x in zip(*self._waiting, strict=True))
        parts = [_even_steps(maps[masks == wanted], self.steps) for wanted in (True, False)]
        scale = np.unique(np.concatenate(parts))
        self._rows = [_counted(scale, *pair) for pair in self._waiting]
        self._scale, self._waiting = scale, []


def _counted(
    scale: np.ndarray, anomaly_map: np.ndarray, mask: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Positives, negatives and overlap of a map at each level, highest first; its regions."""
    # Level i holds scores from scale[i - 1] up to below scale[i]; turned round at the end.
    levels = np.searchsorted(scale, anomaly_map.ravel(), side="right")
    size = len(scale) + 1
    inside = levels[mask.ravel()]
    weights, regions = region_weights(mask)
    positives = np.bincount(inside, minlength=size)
    negatives = np.bincount(levels, minlength=size) - positives
    overlap = np.bincount(inside, weights, minlength=size)
    small = (positives.astype(np.int32), negatives.astype(np.int32), overlap.astype(np.float32))
    return small[0][::-1], small[1][::-1], small[2][::-1], regions


def _even_steps(scores: np.ndarray, steps: int) -> np.ndarray:
    """At most ``steps`` scores, with equal numbers of ``scores`` (k,) between them."""
    if scores.size == 0:
        return scores
    scores = np.sort(scores[:: max(1, scores.size // _SEEN)])
    places = np.linspace(0, scores.size - 1, min(steps, scores.size)).astype(np.intp)
    return scores[places]
