"""Where scores are kept until a metric is computed: all of them (exact), or counts (binned).

Both stores hold scores of two classes, and have the same methods. `add` counts scores (n,), finite,
with labels (n,) bool, true where positive; in a weighted store each positive score comes with a
weight (1 / area of its region). `merge` adds what another store of the same settings holds.
`levels` returns the counts by score, highest first, and `regions` with them. `load` restores a
store from the plain arrays that `state` returned.

The bins take scores of any finite range, in any order. Scores become 32-bit keys. An IEEE-754
float32 read as a sign-magnitude integer already sorts like the number it stands for; flipping the
sign bit of positive numbers and all bits of negative ones makes that order the order of uint32. So
bins over the leading bits of the key have a constant *relative* width, and need no knowledge of the
range of the scores.

A key is split into a page (leading 16 bits) and a place in the page. Only pages that hold data take
room, each with 2**(16 - shift) bins. `shift` is the smallest one for which all pages fit into the
allowed bins. It can only grow while data arrive, growing means adding up neighbouring bins, and its
final value depends on the set of pages alone: so the result depends neither on the order of the
data nor on how they were split between processes.

A bin spans 2**shift neighbouring float32 numbers, a relative width of 2**(shift - 23). With the
default 2**20 bins that is at worst 2**-11 (scores spread over every page, from -3e38 to 3e38), and
usually 2**-16 to 2**-14 for probabilities; scores inside a narrow interval (1000.0 to 1000.1) lose
nothing.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from bayes_pfl.errors import ConfigError
from bayes_pfl.metrics.curves import Levels

Mode = Literal["binned", "exact"]
State = dict[str, np.ndarray]

PAGE_BITS = 16
DEFAULT_BINS = 2**20

_SIGN = np.int32(-(2**31))
_LARGEST = float(np.finfo(np.float32).max)


def to_keys(scores: np.ndarray) -> np.ndarray:
    """Finite scores (n,) of any real dtype -> keys (n,) uint32, in the same order; -0.0 equals 0.0.

    Wider dtypes are rounded to float32, which keeps the order but may create ties; values beyond
    the range of float32 become its largest number.
    """
    if scores.dtype != np.float32:
        scores = np.clip(scores, -_LARGEST, _LARGEST).astype(np.float32)
    bits = (scores + np.float32(0)).view(np.int32)
    return (bits ^ ((bits >> 31) | _SIGN)).view(np.uint32)


def from_keys(keys: np.ndarray) -> np.ndarray:
    """Keys (n,) uint32 -> the float32 scores that they stand for."""
    bits = keys.astype(np.uint32).view(np.int32)
    return np.where(bits < 0, bits ^ _SIGN, ~bits).astype(np.int32).view(np.float32)


class ExactStore:
    """Keeps every score: 4 to 8 bytes each, and 8 more for weighted positives."""

    def __init__(self, weighted: bool) -> None:
        self._weighted = weighted
        self._parts: dict[str, list[np.ndarray]] = {"positive": [], "negative": [], "weight": []}

    def add(self, scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None) -> None:
        self._parts["positive"].append(scores[labels])
        self._parts["negative"].append(scores[~labels])
        if weights is not None:
            self._parts["weight"].append(weights)

    def merge(self, other: Any) -> None:
        for name, parts in self._parts.items():
            parts.extend(other._parts[name])

    def levels(self, regions: int) -> Levels:
        positive, negative = self._joined("positive"), self._joined("negative")
        scores = np.concatenate([positive, negative])
        order = np.argsort(scores)[::-1]
        scores = scores[order]
        ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], [True] * (scores.size > 0)))
        tp = np.cumsum(order < len(positive))[ends]
        overlap = None
        if self._weighted:
            weights = np.append(self._joined("weight"), np.zeros(len(negative)))
            overlap = np.diff(np.cumsum(weights[order])[ends], prepend=0.0)
        positives = np.diff(tp, prepend=0)
        negatives = np.diff(ends + 1, prepend=0) - positives
        return Levels(scores[ends].astype(np.float64), positives, negatives, overlap, regions)

    def state(self) -> State:
        return {name: self._joined(name) for name in self._parts}

    def load(self, state: State) -> None:
        self._parts = {name: [np.asarray(state[name])] for name in self._parts}

    def _joined(self, name: str) -> np.ndarray:
        parts = self._parts[name]
        return np.concatenate(parts) if parts else np.empty(0, np.float32)


class BinnedStore:
    """Counts scores in bins: several sums per bin ("channels") over one set of bins.

    Args:
        bins: how many bins at most, a power of two from 2**16 to 2**24; 8 bytes each per channel.
    """

    def __init__(self, bins: int, weighted: bool) -> None:
        if bins not in [2**b for b in range(16, 25)]:
            raise ConfigError(f"bins={bins!r}: allowed are powers of two from 65536 to 16777216")
        self.bins = bins
        self.shift = 0
        self._pages = np.empty(0, np.int64)  # page number of each slot, in order of arrival
        self._slot = np.full(2**PAGE_BITS, -1, np.int32)  # slot of each page, -1 where empty
        channels = ("all", "positive")
        self._sums: dict[str, np.ndarray] = {name: np.zeros(bins, np.int64) for name in channels}
        if weighted:
            self._sums["region"] = np.zeros(bins)

    def add(self, scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None) -> None:
        where = self._locate(to_keys(scores))
        self._count("all", where)
        if labels.any():
            where = where[labels]
            self._count("positive", where)
            if weights is not None:
                self._count("region", where, weights)

    def _locate(self, keys: np.ndarray) -> np.ndarray:
        """Keys (n,) uint32 -> bin of each (n,), making room for pages not seen before.

        The bins returned are valid until the next call of `_locate` or `merge`.
        """
        pages = (keys >> PAGE_BITS).astype(np.intp)
        slots = self._slot.take(pages)
        if slots.size and slots.min() < 0:
            self._open(np.unique(pages[slots < 0]))
            slots = self._slot.take(pages)
        width = PAGE_BITS - self.shift
        places = (keys & np.uint32(2**PAGE_BITS - 1)) >> np.uint32(self.shift)
        return (slots.astype(np.intp) << width) + places.astype(np.int32)

    def _count(self, channel: str, bins: np.ndarray, weights: np.ndarray | None = None) -> None:
        """Add 1, or `weights` (n,), to the bins (n,) of a channel."""
        if bins.size == 0:
            return
        sums = self._sums[channel]
        low, high = int(bins.min()), int(bins.max()) + 1
        counts = np.bincount(bins - low, weights, minlength=high - low)
        sums[low:high] += counts.astype(sums.dtype, copy=False)

    def merge(self, other: BinnedStore) -> None:
        """Add what another store of the same bins and channels holds."""
        # With the pages of both, the bins become at least as coarse as the other's are.
        self._open(np.sort(other._pages[self._slot[other._pages] < 0]))
        width = 2 ** (PAGE_BITS - self.shift)
        rows = self._slot[other._pages]
        for name, sums in self._sums.items():
            sums.reshape(-1, width)[rows] += other._folded(name, width)

    def levels(self, regions: int) -> Levels:
        order = np.argsort(self._pages)[::-1]
        sums = {name: self._rows(name)[order, ::-1].reshape(-1) for name in self._sums}
        places = np.arange(2 ** (PAGE_BITS - self.shift), dtype=np.int64)[::-1] << self.shift
        filled = np.flatnonzero(sums["all"])
        row, place = np.divmod(filled, len(places))
        keys = (self._pages[order][row] << PAGE_BITS) + places[place]  # the lowest of each bin
        found = {name: values[filled] for name, values in sums.items()}
        thresholds = from_keys(keys.astype(np.uint32)).astype(np.float64)
        negatives = found["all"] - found["positive"]
        return Levels(thresholds, found["positive"], negatives, found.get("region"), regions)

    def state(self) -> dict[str, np.ndarray]:
        """Plain arrays from which `load` restores the counts; pages in ascending order."""
        order = np.argsort(self._pages)
        arrays = {f"sum_{name}": self._rows(name)[order] for name in self._sums}
        return {"pages": self._pages[order], "shift": np.array(self.shift), **arrays}

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Replace the content by that of `state`, made by a store of the same settings."""
        self._pages = np.asarray(state["pages"], np.int64).copy()
        self.shift = int(state["shift"])
        self._slot[:] = -1
        self._slot[self._pages] = np.arange(len(self._pages))
        for name, sums in self._sums.items():
            sums[:] = 0
            self._rows(name)[:] = state[f"sum_{name}"]

    def _rows(self, channel: str) -> np.ndarray:
        width = 2 ** (PAGE_BITS - self.shift)
        return self._sums[channel][: len(self._pages) * width].reshape(len(self._pages), width)

    def _open(self, pages: np.ndarray) -> None:
        shift, needed = self.shift, len(self._pages) + len(pages)
        while needed << (PAGE_BITS - shift) > self.bins:
            shift += 1
        if shift > self.shift:
            self._coarsen(shift)
        self._slot[pages] = np.arange(len(self._pages), needed)
        self._pages = np.concatenate([self._pages, pages])

    def _coarsen(self, shift: int) -> None:
        width = 2 ** (PAGE_BITS - shift)
        for name in self._sums:
            # One channel at a time, so that no more than one of them is held twice.
            folded = self._folded(name, width).ravel()
            fresh = np.zeros_like(self._sums[name])
            fresh[: len(folded)] = folded
            self._sums[name] = fresh
        self.shift = shift

    def _folded(self, channel: str, width: int) -> np.ndarray:
        """Sums of a channel in coarser (or the same) bins: (pages, width)."""
        rows = self._rows(channel)
        return rows.reshape(len(rows), width, rows.shape[1] // width).sum(axis=2)
