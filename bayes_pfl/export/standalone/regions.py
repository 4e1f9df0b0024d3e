"""Regions of a map: its connected parts at or above a threshold, by NumPy alone.

Symbols: H×W pixels of the map, n runs of pixels, k regions.
"""

# This file is copied into the folders of `bayes-pfl export`, so that it imports nothing of
# bayes_pfl; the tests compare both, row by row.

from __future__ import annotations

from typing import Any

import numpy as np

COLUMNS = (
    *("path", "page", "number", "left", "top", "right", "bottom"),
    *("area", "peak", "peak_x", "peak_y", "mean", "p_value"),
)
"""Those of regions.csv."""

MOST = 1_000
"""Regions of a picture that are listed, the most anomalous."""


def regions_of(
    values: np.ndarray, threshold: float, least_peak: float | None = None
) -> list[dict[str, Any]]:
    """The regions of a map, float32 (H, W), by falling peak; pixels that touch are connected.

    Args:
        least_peak: regions with a lower peak are left out.
    """
    reached = values >= threshold
    if not reached.any():
        return []
    rows, starts, ends = _runs(reached)
    label = _connected(rows, starts, ends)  # (n,)
    names, label = np.unique(label, return_inverse=True)
    pixels = np.repeat(label, ends - starts)  # of each pixel, row by row
    area = np.bincount(pixels)  # (k,)
    ys, xs = np.nonzero(reached)
    value = values[reached]
    peak = np.zeros(len(names), np.float32)
    np.maximum.at(peak, pixels, value)
    (highest,) = np.nonzero(value == peak[pixels])
    first = highest[np.unique(pixels[highest], return_index=True)[1]]  # (k,), row by row
    mean = np.bincount(pixels, value) / area
    low = np.full((2, len(names)), max(values.shape))
    high = np.zeros_like(low)
    for axis, (begin, end) in enumerate(((starts, ends), (rows, rows + 1))):
        np.minimum.at(low[axis], label, begin)
        np.maximum.at(high[axis], label, end)
    columns = (*low, *high, area, peak, xs[first], ys[first], mean)
    found = [
        dict(zip(COLUMNS[3:], entry, strict=False))
        for entry in zip(*(column.tolist() for column in columns), strict=True)
    ]
    if least_peak is not None:
        found = [one for one in found if one["peak"] >= least_peak]
    return sorted(found, key=lambda one: (-one["peak"], *(one[x] for x in COLUMNS[3:7])))


def _runs(reached: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, first column and the column after the last of each run of true pixels, row by row."""
    edges = np.diff(np.pad(reached, ((0, 0), (1, 1))).view(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    return rows, starts, np.nonzero(edges == -1)[1]


def _connected(rows: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The same number for all runs of a region, (n,)."""
    # Runs as intervals of one line on which rows are far apart: those of the row below that touch
    # a run are neighbours there.
    far = int(ends.max()) + 2
    begin, end = rows * far + starts, rows * far + ends
    first = np.searchsorted(end, begin + far)
    count = np.searchsorted(begin, end + far, side="right") - first
    upper = np.repeat(np.arange(len(rows)), count)
    lower = np.arange(len(upper)) + np.repeat(first - np.cumsum(count) + count, count)
    label = np.arange(len(rows))
    while True:  # every run takes the least number of its neighbours, and of whom that one follows
        before = label.copy()
        least = np.minimum(before[upper], before[lower])
        for place in (upper, lower, before[upper], before[lower]):
            np.minimum.at(label, place, least)
        label = label[label]
        if np.array_equal(label, before):
            return label
