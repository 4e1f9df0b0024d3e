"""Shapes of faults: jagged paths, smooth curves, patches; all as opacity fields in [0, 1]."""

from __future__ import annotations

import math

import cv2
import numpy as np

from bayes_pfl.rendering.noise import Field, Rng, cells, fbm, pick, smoothstep

_OVERSAMPLING = 2


class Pen:
    """Draws lines of fractional width: twice the size, then averaged down."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._canvas = np.zeros((size * _OVERSAMPLING, size * _OVERSAMPLING), np.uint8)

    def path(self, points: np.ndarray, widths: np.ndarray, opacity: float = 1.0) -> None:
        """Join points (n, 2) in pixels by segments of widths (n - 1,) in pixels."""
        fixed = np.int32(np.clip(points, -4 * self.size, 5 * self.size) * (_OVERSAMPLING * 16))
        thick = np.maximum(1, np.round(widths * _OVERSAMPLING)).astype(int)
        # Runs of equal width are one polyline: far fewer calls than one line a segment.
        starts = np.flatnonzero(np.r_[True, thick[1:] != thick[:-1]])
        for first, last in zip(starts, np.r_[starts[1:], len(thick)], strict=True):
            run, width = [fixed[first : last + 1]], int(thick[first])
            cv2.polylines(self._canvas, run, False, int(255 * opacity), width, cv2.LINE_AA, 4)

    def field(self) -> Field:
        """What has been drawn: coverage in [0, 1], (S, S)."""
        side = (self.size, self.size)
        small = cv2.resize(self._canvas, side, interpolation=cv2.INTER_AREA)
        return small.astype(np.float32) * np.float32(1 / 255)


def jagged(rng: Rng, start: np.ndarray, end: np.ndarray, rough: float, levels: int) -> np.ndarray:
    """A broken line by midpoint displacement, (2**levels + 1, 2)."""
    points = np.stack([start, end]).astype(np.float64)
    for level in range(levels):
        steps = points[1:] - points[:-1]
        sideways = np.stack([-steps[:, 1], steps[:, 0]], 1)
        shift = rng.normal(0, rough * (1.0 if level else 0.6), (len(steps), 1))
        middles = points[:-1] + steps * rng.uniform(0.35, 0.65, (len(steps), 1)) + sideways * shift
        joined = np.empty((len(points) + len(middles), 2))
        joined[0::2], joined[1::2] = points, middles
        points = joined
    return points


def crack_lines(rng: Rng, size: int, centre: np.ndarray, length: float, width: float) -> Field:
    """A branching crack through ``centre`` (x, y), ``length`` and ``width`` in pixels."""
    pen = Pen(size)
    turn, rough = rng.uniform(0, 2 * math.pi), rng.uniform(0.06, 0.22)
    half = 0.5 * length * np.array([math.cos(turn), math.sin(turn)])
    _branch(rng, pen, centre - half, centre + half, width, rough, depth=0)
    return pen.field()


def _branch(
    rng: Rng, pen: Pen, start: np.ndarray, end: np.ndarray, width: float, rough: float, depth: int
) -> None:
    length = float(np.hypot(*(end - start)))
    levels = int(np.clip(math.log2(max(length, 4) / 3.0), 2, 8))
    points = jagged(rng, start, end, rough, levels)
    count = len(points) - 1
    along = np.linspace(0, 1, count)
    taper = np.clip(
        np.minimum(along if depth == 0 else 1.0, 1 - along) * rng.uniform(3, 12), 0.3, 1
    )
    slow = np.interp(along, np.linspace(0, 1, 7), rng.uniform(0.4, 1.5, 7))
    pen.path(points, width * taper * slow, 1.0 if depth == 0 else rng.uniform(0.6, 1.0))
    if depth >= 2:
        return
    for _ in range(int(rng.poisson(1.3 if depth == 0 else 0.5))):
        at = points[int(rng.integers(1, count))]
        heading = math.atan2(*(end - start)[::-1]) + pick(rng, [-1, 1]) * rng.uniform(0.3, 1.3)
        reach = length * rng.uniform(0.12, 0.55)
        tip = at + reach * np.array([math.cos(heading), math.sin(heading)])
        _branch(rng, pen, at, tip, width * rng.uniform(0.35, 0.8), rough, depth + 1)


def crack_network(rng: Rng, size: int, centre: np.ndarray, radius: float, width: float) -> Field:
    """Crazing: the borders of irregular cells, within a patch."""
    spacing = max(6.0, rng.uniform(0.2, 0.7) * radius)
    _, border, _ = cells(rng, size, int((size / spacing) ** 2), 1.0)
    spread = size / max(2, round(size / spacing))
    lines = smoothstep(0.5 * width + 0.9, 0.5 * width, border * spread)
    dx = fbm(rng, size, 0.04, 2) * np.float32(0.01 * size)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    lines = cv2.remap(lines, x + dx, y + cv2.flip(dx, 0), cv2.INTER_LINEAR)
    return lines * smoothstep(0.35, 0.6, patch(rng, size, centre, radius, 0.4))


def curve(
    rng: Rng, start: np.ndarray, length: float, turn: float, bend: float, points: int = 48
) -> np.ndarray:
    """A smooth wandering line, (points, 2), that turns by about ``bend`` radians."""
    knots = rng.normal(0, bend, 5)
    turns = turn + np.interp(np.linspace(0, 4, points), np.arange(5), knots)
    steps = np.stack([np.cos(turns), np.sin(turns)], 1) * (length / points)
    return start + np.cumsum(steps, 0)


def patch(
    rng: Rng,
    size: int,
    centre: np.ndarray,
    radius: float,
    rough: float = 0.35,
    soft: float = 0.3,
    squash: float = 1.0,
    octaves: int = 4,
) -> Field:
    """An irregular blob: 1 inside, 0 outside, ``soft`` of its radius between."""
    window = _window(size, centre, radius * 2.2)
    if window is None:
        return np.zeros((size, size), np.float32)
    top, left, side = window
    axis = np.arange(side, dtype=np.float32)
    x, y = axis[None, :] + np.float32(left - centre[0]), axis[:, None] + np.float32(top - centre[1])
    turn = rng.uniform(0, math.pi)
    c, s = math.cos(turn), math.sin(turn)
    u, v = (c * x + s * y) / np.float32(radius), (c * y - s * x) / np.float32(radius * squash)
    cell = float(np.clip(rng.uniform(0.5, 1.2) * radius / side, 0.02, 1.0))
    edge = np.sqrt(u * u + v * v) + np.float32(rough * 0.5) * fbm(rng, side, cell, octaves, 0.55)
    local = smoothstep(1.0 + 0.5 * soft + 1.0 / radius, 1.0 - 0.5 * soft, edge)
    whole = np.zeros((size, size), np.float32)
    y0, x0, y1, x1 = max(0, top), max(0, left), min(size, top + side), min(size, left + side)
    whole[y0:y1, x0:x1] = local[y0 - top : y1 - top, x0 - left : x1 - left]
    return whole


def _window(size: int, centre: np.ndarray, reach: float) -> tuple[int, int, int] | None:
    """A square round ``centre`` that holds the blob: (top, left, side), or None if outside."""
    side = int(2 * reach) + 3
    top, left = int(centre[1] - side / 2), int(centre[0] - side / 2)
    if top >= size or left >= size or top + side <= 0 or left + side <= 0:
        return None
    return top, left, side


def log_uniform(rng: Rng, low: float, high: float) -> float:
    """Every factor equally likely; ``low`` itself if ``high`` is not above it."""
    return float(math.exp(rng.uniform(math.log(low), math.log(max(low, high)))))
