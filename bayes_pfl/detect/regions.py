"""Anomalous regions of a map: outlines and boxes, in pixels of the user's image."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from bayes_pfl.errors import ConfigError


class Box(NamedTuple):
    """A rectangle in pixels, right and lower edge exclusive, as `PIL.Image.crop` takes it."""

    left: int
    top: int
    right: int
    bottom: int


def contours(anomaly_map: np.ndarray, threshold: float) -> list[np.ndarray]:
    """Closed outlines of the regions where map >= threshold, largest first.

    Outer outlines alone: holes have none. Pixels that touch at a corner are one region. See
    :meth:`bayes_pfl.AnomalyResult.contours`.

    Raises:
        ConfigError: a threshold that is no number.
    """
    area = _area(anomaly_map, threshold)
    found, _ = cv2.findContours(area, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    lines = [line[:, 0].astype(np.int32) for line in found]
    return sorted(lines, key=lambda line: -cv2.contourArea(line))


def boxes(anomaly_map: np.ndarray, threshold: float, min_area: int = 1) -> list[Box]:
    """Rectangles around these regions; see :meth:`bayes_pfl.AnomalyResult.boxes`.

    Raises:
        ConfigError: a threshold that is no number, or an area below 1.
    """
    if not min_area >= 1:
        raise ConfigError(f"min_area = {min_area!r}: a number of pixels, 1 at least")
    area = _area(anomaly_map, threshold)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(area, connectivity=8)
    found = []
    for region in range(1, count):
        left, top, width, height, pixels = (int(value) for value in stats[region])
        if pixels >= min_area:
            part = np.s_[top : top + height, left : left + width]
            peak = float(anomaly_map[part][labels[part] == region].max())
            found.append((peak, Box(left, top, left + width, top + height)))
    return [box for _, box in sorted(found, key=lambda entry: (-entry[0], entry[1]))]


def _area(anomaly_map: np.ndarray, threshold: float) -> np.ndarray:
    number = isinstance(threshold, int | float | np.number) and not isinstance(threshold, bool)
    if not number or not np.isfinite(threshold):
        raise ConfigError(f"threshold = {threshold!r}: give a value of the map, such as 0.5")
    return (anomaly_map >= threshold).astype(np.uint8)
