"""A large picture as overlapping tiles, and the tiles' maps as one map.

Symbols: W×H pixels of a picture, T side of a tile, S the model's image side.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import cv2
import numpy as np
from PIL import Image

from bayes_pfl.errors import ConfigError

MIN_TILE, MAX_TILE = 32, 8192
MAX_OVERLAP = 0.75
DEFAULT_OVERLAP = 0.25

_AUTO_MOST_ZOOM = 3.0
_AUTO_TILES = 256
_NARROW = 4


class Tile(NamedTuple):
    """A square part of a picture; beyond the edges of a narrow picture its mirror image.

    Attributes:
        left, top: in pixels of the picture.
        side: T.
    """

    left: int
    top: int
    side: int


@dataclass(frozen=True)
class Tiling:
    """How large pictures are cut.

    Attributes:
        side: T, in pixels of the picture.
        overlap: of neighbours, as a share of T, at least.

    Raises:
        ConfigError: a value out of range.
    """

    side: int
    overlap: float = DEFAULT_OVERLAP

    def __post_init__(self) -> None:
        whole = isinstance(self.side, int) and not isinstance(self.side, bool)
        if not whole or not MIN_TILE <= self.side <= MAX_TILE:
            raise ConfigError(
                f"tile = {self.side!r}: auto, or a number of pixels from {MIN_TILE} to {MAX_TILE}"
            )
        if isinstance(self.overlap, bool) or not 0 <= self.overlap <= MAX_OVERLAP:
            raise ConfigError(
                f"overlap = {self.overlap!r}: a share of the tile from 0 to {MAX_OVERLAP}"
            )

    def tiles(self, size: tuple[int, int]) -> list[Tile]:
        """The tiles of a picture of (W, H) pixels, row by row; none where T covers it all.

        They cover every pixel; the last of a row or column ends at the picture's edge.
        """
        if max(size) <= self.side:
            return []
        lefts, tops = self.starts(size[0]), self.starts(size[1])
        return [Tile(left, top, self.side) for top in tops for left in lefts]

    def starts(self, length: int) -> list[int]:
        """Where the tiles along one edge of the picture begin."""
        if length <= self.side:
            return [0]
        step = max(1, self.side - math.ceil(self.side * self.overlap))
        last = length - self.side
        return [*range(0, last, step), last]

    def sees_whole(self, size: tuple[int, int]) -> bool:
        """Whether the picture is also looked at as a whole: not where that would squeeze it to a
        quarter of its length or less."""
        return max(size) <= self.side or max(size) <= _NARROW * min(size)

    def weights(self, length: int) -> dict[int, np.ndarray]:
        """What each tile counts along one edge, float32 (T,), by where it begins.

        They rise from the tile's ends over the overlap, and add up to one at every pixel: maps
        blended with them show no seam. The product of both edges' weights is that of a pixel.
        """
        starts = self.starts(length)
        ramp = max(1.0, self.side * self.overlap)
        place = np.arange(self.side) + 0.5
        rise = np.minimum(1, np.minimum(place, self.side - place) / ramp)
        total = np.zeros(max(length, self.side))
        for start in starts:
            total[start : start + self.side] += rise
        return {
            start: (rise / total[start : start + self.side]).astype(np.float32) for start in starts
        }


@dataclass(frozen=True)
class TileSettings:
    """What a run was asked for.

    Attributes:
        tile: T in pixels, or "auto".
        overlap: see :class:`Tiling`.
        image_side: S.

    Raises:
        ConfigError: a value out of range.
    """

    tile: int | str
    overlap: float
    image_side: int

    def __post_init__(self) -> None:
        Tiling(MIN_TILE if self.tile == "auto" else self.tile, self.overlap)  # type: ignore[arg-type]

    def tiling(self, size: tuple[int, int]) -> Tiling:
        """How a picture of (W, H) pixels is cut."""
        if isinstance(self.tile, str):
            return auto_tiling(size, self.image_side, self.overlap)
        return Tiling(self.tile, self.overlap)


def auto_tiling(size: tuple[int, int], image_side: int, overlap: float) -> Tiling:
    """The tiling for pictures of about this size.

    A tile is as wide as the model's input, so that nothing is lost by making it smaller. Where that
    makes more than 256 tiles it is wider, up to three times as wide.

    Args:
        size: (W, H) of a picture.
        image_side: S.
    """
    side = image_side
    while side < _AUTO_MOST_ZOOM * image_side:
        if len(Tiling(side, overlap).tiles(size)) <= _AUTO_TILES:
            break
        side += max(1, image_side // 10)
    return Tiling(min(side, MAX_TILE), overlap)


def cut(picture: np.ndarray, tile: Tile, image_side: int) -> np.ndarray:
    """A tile as the model takes it: uint8 (H, W, 3) -> uint8 (S, S, 3), bicubic with antialias.

    What lies beyond the picture's edges is its mirror image.
    """
    left, top, side = tile
    part = picture[top : top + side, left : left + side]
    down, right = side - part.shape[0], side - part.shape[1]
    if down or right:
        part = np.pad(part, ((0, down), (0, right), (0, 0)), mode="symmetric")
    image = Image.fromarray(np.ascontiguousarray(part))
    return np.asarray(image.resize((image_side, image_side), Image.Resampling.BICUBIC))


Cutting: TypeAlias = "tuple[Tile, np.ndarray]"
"""A tile, and what the model sees of it, uint8 (S, S, 3)."""


def tiles_of(
    picture: Image.Image,
    settings: TileSettings | None,
    wanted: Callable[[Tile], bool] = lambda tile: True,
) -> tuple[Tiling | None, list[Cutting]]:
    """The tiling of a picture, mode RGB, and its tiles; None and nothing where it has none.

    Args:
        wanted: tiles for which it says no are left out.
    """
    tiling = settings.tiling(picture.size) if settings else None
    tiles = tiling.tiles(picture.size) if tiling else []
    if settings is None or not tiles:
        return None, []
    values = np.asarray(picture)
    side = settings.image_side
    return tiling, [(tile, cut(values, tile, side)) for tile in tiles if wanted(tile)]


class BlendedMap:
    """The map of a picture, filled in tile by tile.

    Args:
        size: (W, H) of the picture.
        out: zeros, float32 (H, W), to be filled; None for a new array.
    """

    def __init__(
        self, tiling: Tiling, size: tuple[int, int], out: np.ndarray | None = None
    ) -> None:
        self.size = size
        self.values = np.zeros(size[::-1], np.float32) if out is None else out
        self._across, self._down = tiling.weights(size[0]), tiling.weights(size[1])

    def add(self, tile: Tile, values: np.ndarray) -> None:
        """Add a tile's map, float32 (S, S), stretched over the tile."""
        left, top, side = tile
        width, height = min(side, self.size[0] - left), min(side, self.size[1] - top)
        stretched = cv2.resize(values, (side, side), interpolation=cv2.INTER_LINEAR)
        weight = np.outer(self._down[top][:height], self._across[left][:width])
        self.values[top : top + height, left : left + width] += stretched[:height, :width] * weight


def add_whole(values: np.ndarray, whole: np.ndarray, sigma: float) -> None:
    """Raise the map of the tiles, float32 (H, W), where the view of the whole says more.

    A fault that the tiles find is a blur in the small view of the whole, and has a halo there, from
    pixels that see it from afar. So a place of that view adds nothing if it is as high as the tiles
    are within the blur of a fault, or hangs together with such a place by values no lower.

    Args:
        whole: map of that view, float32 (S, S).
        sigma: of its smoothing, in its pixels.
    """
    seen = cv2.dilate(_highest(values, whole.shape[0]), blur_disc(sigma))
    explained = _grown(np.minimum(seen, whole), whole)
    raise_to(values, np.where(whole > explained, whole, np.float32(0)))


def _grown(marker: np.ndarray, within: np.ndarray) -> np.ndarray:
    """The highest level at which each pixel hangs together with the marker, float32 (S, S): a
    morphological reconstruction by dilation (Vincent 1993), pixels that touch being neighbours.

    Args:
        within: nowhere below the marker.
    """
    square = np.ones((3, 3), np.uint8)
    while True:
        wider: np.ndarray = np.minimum(cv2.dilate(marker, square), within)
        if np.array_equal(wider, marker):
            return marker
        marker = wider


def blur_disc(sigma: float) -> np.ndarray:
    """The disc, uint8 of 0 and 1, within which a fault is a blur in a map of this smoothing."""
    side = 2 * (1 + math.ceil(4 * sigma)) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))


def _highest(values: np.ndarray, side: int) -> np.ndarray:
    """The highest value in each of S x S equal parts of a map, float32 (S, S)."""
    down, across = (np.arange(side) * length // side for length in values.shape)
    found: np.ndarray = np.maximum.reduceat(np.maximum.reduceat(values, down, 0), across, 1)
    return found


def raise_to(values: np.ndarray, other: np.ndarray, rows_at_once: int = 512) -> None:
    """Raise a map, float32 (H, W), wherever another, float32 (S, S) stretched over it, is higher.

    A few rows are stretched at a time.
    """
    height, width = values.shape
    across = cv2.resize(other, (width, other.shape[0]), interpolation=cv2.INTER_LINEAR)
    place = (np.arange(height) + 0.5) * other.shape[0] / height - 0.5
    place = place.clip(0, other.shape[0] - 1)
    below = np.floor(place).astype(int)
    above = np.minimum(below + 1, other.shape[0] - 1)
    share = (place - below).astype(np.float32)[:, None]
    for start in range(0, height, rows_at_once):
        rows = slice(start, start + rows_at_once)
        mixed = across[below[rows]] * (1 - share[rows]) + across[above[rows]] * share[rows]
        np.maximum(values[rows], mixed, out=values[rows])
