"""Fast procedural noise: every field is float32 (S, S), made from small random grids and OpenCV.

All lengths are fractions of the picture's side unless a name ends in ``_px``, so that a material
looks the same at 128 and at 512 pixels. No function keeps state: the random generator is an
argument of each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import cv2
import numpy as np

Field = np.ndarray
"""float32 (S, S), one value a pixel."""
Rng = np.random.Generator
"""The random generator that every drawing function takes; draws follow its order of calls."""
T = TypeVar("T")


def pick(rng: Rng, options: Sequence[T]) -> T:
    """One of a few options, unchanged (``Generator.choice`` would make it a NumPy scalar)."""
    return options[int(rng.integers(len(options)))]


def white(rng: Rng, size: int) -> Field:
    """Independent standard-normal values, one a pixel."""
    return rng.standard_normal((size, size), dtype=np.float32)


def grain(rng: Rng, size: int, width_px: float = 1.0) -> Field:
    """Unit-variance speckle whose blobs are about ``width_px`` pixels wide."""
    field = white(rng, size)
    if width_px <= 1.0:
        return field
    blurred = cv2.GaussianBlur(field, (0, 0), 0.5 * width_px)
    return blurred * np.float32(1.0 / (float(blurred.std()) + 1e-6))


def value_noise(
    rng: Rng, size: int, cell: float, stretch: float = 1.0, angle: float = 0.0
) -> Field:
    """Smooth noise with features of ``cell``, drawn out ``stretch`` times along ``angle``."""
    if stretch == 1.0:
        count = min(size, max(2, round(1.0 / cell) + 1))
        grid = rng.standard_normal((count, count), dtype=np.float32)
        return cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
    span = 1.45
    columns = min(2 * size, max(3, round(span / (cell * stretch)) + 2))
    rows = min(2 * size, max(3, round(span / cell) + 2))
    grid = rng.standard_normal((rows, columns), dtype=np.float32)
    return _lay(grid, size, span, angle)


def _lay(grid: Field, size: int, span: float, angle: float) -> Field:
    """Turn a grid that spans ``span`` sides by ``angle`` and cut the middle (S, S) out of it."""
    rows, columns = grid.shape
    wide, high = min(columns * 4, int(span * size)), min(rows * 4, int(span * size))
    # warpAffine interpolates in steps of 1/32 pixel, so the grid is enlarged before it is turned.
    grid = cv2.resize(grid, (max(wide, columns), max(high, rows)), interpolation=cv2.INTER_CUBIC)
    rows, columns = grid.shape
    across, down = columns / (span * size), rows / (span * size)
    c, s, half = math.cos(angle), math.sin(angle), 0.5 * size
    matrix = np.array(
        [
            [c * across, s * across, columns / 2 - (c + s) * half * across],
            [-s * down, c * down, rows / 2 - (c - s) * half * down],
        ]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(
        grid, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_REFLECT_101
    )


def fbm(
    rng: Rng,
    size: int,
    cell: float,
    octaves: int = 4,
    gain: float = 0.5,
    stretch: float = 1.0,
    angle: float = 0.0,
) -> Field:
    """Sum of octaves, each half the size and ``gain`` times the height of the last; variance 1."""
    total, amplitude, energy = None, 1.0, 0.0
    for _ in range(octaves):
        layer = value_noise(rng, size, cell, stretch, angle)
        total = amplitude * layer if total is None else total + amplitude * layer
        energy += amplitude * amplitude
        amplitude, cell = amplitude * gain, cell * 0.5
        if cell * size < 1.0:
            break
    # Interpolation lowers the variance of each layer to about one half.
    return total * np.float32(1.0 / math.sqrt(0.55 * energy))


def ridges(rng: Rng, size: int, cell: float, octaves: int = 3) -> Field:
    """Thin crests on flat ground, in [0, 1]: 1 on the crest."""
    return np.exp(-3.0 * np.abs(fbm(rng, size, cell, octaves)))


def cells(rng: Rng, size: int, count: int, jitter: float = 1.0) -> tuple[Field, Field, Field]:
    """Voronoi cells: (distance to the seed, distance to the border, one value in [0, 1] a cell).

    Distances are in units of the mean cell spacing. ``jitter`` 0 gives a regular lattice.
    """
    side = max(2, round(math.sqrt(count)))
    lattice = (np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1) + 0.5).astype(np.float32)
    points = lattice + jitter * (rng.random(lattice.shape, dtype=np.float32) - 0.5)
    pixels = np.clip((points.reshape(-1, 2) * (size / side)).astype(int), 0, size - 1)
    ground = np.full((size, size), 255, np.uint8)
    ground[pixels[:, 1], pixels[:, 0]] = 0
    near, labels = cv2.distanceTransformWithLabels(
        ground, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    inner = np.full((size, size), 255, np.uint8)
    inner[:, :-1][labels[:, 1:] != labels[:, :-1]] = 0
    inner[:-1, :][labels[1:, :] != labels[:-1, :]] = 0
    border = cv2.distanceTransform(inner, cv2.DIST_L2, 3)
    values = rng.random(int(labels.max()) + 1, dtype=np.float32)[labels]
    scale = np.float32(side / size)
    return near * scale, border * scale, values


def warp(field: np.ndarray, dx_px: Field, dy_px: Field) -> np.ndarray:
    """Move every pixel of an (S, S) or (S, S, 3) array by a displacement field in pixels."""
    size = field.shape[0]
    x, y = pixel_grid(size)
    return cv2.remap(
        field, x + dx_px, y + dy_px, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )


def wobble(
    rng: Rng, field: np.ndarray, cell: float, amount_px: float, octaves: int = 2
) -> np.ndarray:
    """Warp by smooth noise of ``amount_px`` pixels, which makes straight lines slightly uneven."""
    size = field.shape[0]
    dx = fbm(rng, size, cell, octaves) * np.float32(amount_px)
    dy = fbm(rng, size, cell, octaves) * np.float32(amount_px)
    return warp(field, dx, dy)


def shifted(field: Field, dx_px: float, dy_px: float) -> Field:
    """Move an (S, S) field by one displacement in pixels; zeros come in at the edges."""
    matrix = np.array([[1, 0, dx_px], [0, 1, dy_px]], np.float32)
    return cv2.warpAffine(field, matrix, (field.shape[1], field.shape[0]))


def pixel_grid(size: int) -> tuple[Field, Field]:
    """The x and the y of every pixel, float32 (S, S)."""
    axis = np.arange(size, dtype=np.float32)
    return np.broadcast_to(axis[None, :], (size, size)), np.broadcast_to(
        axis[:, None], (size, size)
    )


def axes(
    size: int, angle: float = 0.0, shift: tuple[float, float] = (0.0, 0.0)
) -> tuple[Field, Field]:
    """Coordinates in [-1, 1] about the centre, turned by ``angle`` radians and shifted."""
    x, y = pixel_grid(size)
    scale = 2.0 / size
    x, y = (x + 0.5) * scale - 1.0 - shift[0], (y + 0.5) * scale - 1.0 - shift[1]
    c, s = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    return c * x + s * y, c * y - s * x


def smoothstep(low: float, high: float, field: Field) -> Field:
    """0 below ``low``, 1 above ``high``, smooth between (``low`` > ``high`` reverses it)."""
    field = np.asarray(field, np.float32)
    t = np.clip((field - np.float32(low)) * np.float32(1.0 / (high - low)), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def scatter(
    rng: Rng, size: int, count: int, low_px: float, high_px: float, squash: float = 0.6
) -> Field:
    """``count`` small ellipses of random place, size and turn; coverage in [0, 1]."""
    canvas = np.zeros((size, size), np.uint8)
    places = rng.random((count, 2)) * size * 16
    high_px = max(low_px, high_px)
    radii = np.exp(rng.uniform(math.log(low_px), math.log(high_px), count)) * 16
    flat = rng.uniform(squash, 1.0, count)
    turns = rng.uniform(0, 180, count)
    for (x, y), radius, ratio, turn in zip(places, radii, flat, turns, strict=True):
        # cv2.ellipse takes fixed-point coordinates with 4 fractional bits here.
        size16 = (max(8, int(radius)), max(8, int(radius * ratio)))
        cv2.ellipse(canvas, (int(x), int(y)), size16, turn, 0, 360, 255, -1, cv2.LINE_AA, 4)
    return canvas.astype(np.float32) * np.float32(1 / 255)
