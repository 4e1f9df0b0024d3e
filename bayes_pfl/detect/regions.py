"""Regions: the connected parts of an anomaly map at or above a threshold, each with its figures.

Two thresholds may be known: a low one that says how far a region reaches, and a high one that its
peak must reach (hysteresis, as in Canny's edge detector, 1986). A low one alone finds parts of
normal pictures, where by its definition some pixels lie above it.

Symbols: H×W pixels of the map, n regions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from bayes_pfl.detect.settings import check_whole
from bayes_pfl.errors import ConfigError

PValues = Callable[[np.ndarray], np.ndarray]
"""From peaks (n,) to p-values (n,), such as :func:`bayes_pfl.fit.conformal.p_values`."""

_PIXELS_AT_ONCE = 2**20  # of a huge map, what is gathered for means and peaks stays small


class Box(NamedTuple):
    """A rectangle in pixels, right and lower edge exclusive, as `PIL.Image.crop` takes it."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class Region:
    """A connected part of a map (pixels that touch at a corner are connected).

    Attributes:
        area: in pixels.
        box: around it, in pixels of the map.
        peak: highest value of the map in it.
        peak_x, peak_y: where that is; the first such pixel, row by row.
        mean: of the map in it.
        p_value: share of normal pictures whose highest map value reaches the peak, in (0, 1]; None
            where none are known. Of a normal picture, the smallest p-value of all its regions is at
            most a with probability a at most, however many regions it has.
    """

    area: int
    box: Box
    peak: float
    peak_x: int
    peak_y: int
    mean: float
    p_value: float | None = None


@dataclass(frozen=True)
class RegionRule:
    """What counts as a region.

    Attributes:
        threshold: of the map; pixels at or above it belong to regions.
        min_area: regions of fewer pixels are left out.
        p_values: of peaks; None where no normal pictures are known.
        region_threshold: regions whose peak is lower are left out; None for all.

    Raises:
        ConfigError: a threshold that is no number, or an area below 1.
    """

    threshold: float
    min_area: int = 1
    p_values: PValues | None = None
    region_threshold: float | None = None

    def __post_init__(self) -> None:
        value = self.threshold
        number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if not number or not np.isfinite(value):
            raise ConfigError(f"threshold = {value!r}: give a value of the map, such as 0.5")
        check_whole("min_area", self.min_area, 1)

    def keeps(self, area: int, peak: float) -> bool:
        """Whether a region of this area, in pixels, and with this peak counts."""
        limit = self.region_threshold
        return area >= self.min_area and (limit is None or peak >= limit)


@dataclass(frozen=True, eq=False)
class FoundRegions:
    """The regions of a map, the most anomalous first, and their pixels.

    Attributes:
        regions: by falling peak; of equal peaks by their boxes.
        labels: int32 (h, w): k at the pixels of ``regions[k - 1]``, else 0; a cutting of the map
            that holds all regions.
        offset: (left, top) of the cutting in the map.
        shape: (H, W) of the map.
    """

    regions: tuple[Region, ...]
    labels: np.ndarray
    offset: tuple[int, int]
    shape: tuple[int, int]

    def mask(self) -> np.ndarray:
        """uint8 (H, W): 1 in regions, else 0."""
        whole = np.zeros(self.shape, np.uint8)
        (left, top), (height, width) = self.offset, self.labels.shape
        whole[top : top + height, left : left + width] = self.labels > 0
        return whole

    def part(self, number: int) -> np.ndarray:
        """uint8 (h, w): 1 at the pixels of ``regions[number]`` within its box, else 0."""
        left, top, right, bottom = self.regions[number].box
        x, y = self.offset
        labels = self.labels[top - y : bottom - y, left - x : right - x]
        inside: np.ndarray = labels == number + 1
        return inside.view(np.uint8)


def find_regions(anomaly_map: np.ndarray, rule: RegionRule) -> FoundRegions:
    """The regions of a map.

    Beside the map this needs a byte for each of its pixels, and four for each pixel of the
    rectangle around all regions.

    Args:
        anomaly_map: float (H, W).
    """
    height, width = anomaly_map.shape
    reached: np.ndarray = anomaly_map >= rule.threshold
    area = reached.view(np.uint8)
    left, top, wide, high = cv2.boundingRect(area)
    inside = np.s_[top : top + high, left : left + wide]
    if not wide:
        return FoundRegions((), np.zeros((0, 0), np.int32), (0, 0), (height, width))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(area[inside], connectivity=8)
    del reached, area
    peaks, places, means = _figures(labels, anomaly_map[inside], len(stats))
    rare = rule.p_values(peaks) if rule.p_values else None
    found = []
    for at, (x, y, w, h, pixels) in enumerate(stats.tolist()):
        peak = float(peaks[at])
        if at and rule.keeps(pixels, peak):
            row, column = divmod(int(places[at]), wide)
            box = Box(x + left, y + top, x + w + left, y + h + top)
            p_value = None if rare is None else float(rare[at])
            mean = float(means[at])
            one = Region(pixels, box, peak, column + left, row + top, mean, p_value)
            found.append((at, one))
    found.sort(key=lambda entry: (-entry[1].peak, entry[1].box))
    ranks = np.zeros(len(stats), np.int32)
    ranks[[at for at, _ in found]] = np.arange(1, len(found) + 1)
    for rows in _strips(labels):
        labels[rows] = ranks[labels[rows]]
    return FoundRegions(tuple(one for _, one in found), labels, (left, top), (height, width))


def _figures(
    labels: np.ndarray, values: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Peak, its place (counted row by row) and mean of each label from 1 to ``count`` - 1."""
    peaks = np.full(count, -np.inf, np.float32)
    places = np.zeros(count, np.int64)
    sums, pixels = np.zeros(count), np.zeros(count)
    for rows in _strips(labels):
        at = np.flatnonzero(labels[rows])
        label, value = labels[rows].ravel()[at], values[rows].ravel()[at]
        sums += np.bincount(label, value, count)
        pixels += np.bincount(label, minlength=count)
        before = peaks.copy()
        np.maximum.at(peaks, label, value)
        highest = (value == peaks[label]) & (value > before[label])
        which, first = np.unique(label[highest], return_index=True)
        places[which] = at[highest][first] + rows.start * labels.shape[1]
    return peaks, places, sums / np.maximum(pixels, 1)


def _strips(labels: np.ndarray) -> list[slice]:
    step = max(1, _PIXELS_AT_ONCE // labels.shape[1])
    return [slice(start, start + step) for start in range(0, len(labels), step)]
