"""The region of interest of an export: pictures are cropped to it, and nothing outside counts.

Symbols: h×w pixels of the mask, W×H of a picture, S the model's image side.
"""

# This file is copied into the folders of `bayes-pfl export`, so that it imports nothing of
# bayes_pfl; the tests compare both, row by row.

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


class Interest:
    """A mask, bool (h, w), true inside, which is stretched over each picture.

    A part of a picture is inside where any pixel of the mask that it touches is.
    """

    def __init__(self, mask: np.ndarray) -> None:
        self.shape = mask.shape
        counted = np.pad(np.asarray(mask, bool), ((1, 0), (1, 0)))
        self._counts = counted.cumsum(0, np.int32).cumsum(1, np.int32)  # of pixels above and left
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        self.bounds = [int(x) for x in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)]

    @classmethod
    def read(cls, path: Path) -> Interest:
        """The mask in a picture: what is not black is inside."""
        with Image.open(path, formats=["PNG"]) as image:
            return cls(np.asarray(image) > 0)

    def inside(
        self, size: tuple[int, int], box: tuple[int, int, int, int], shape: tuple[int, int]
    ) -> np.ndarray:
        """A rectangle of a picture of (W, H) pixels, stretched: bool of a shape (rows, columns)."""
        columns, rows = (
            _spans(box[axis], box[axis + 2], size[axis], self.shape[1 - axis], shape[1 - axis])
            for axis in (0, 1)
        )
        above, below = (self._counts[ends] for ends in rows)
        within: np.ndarray = below - above  # up to each column, in each part of the rows
        return within[:, columns[1]] > within[:, columns[0]]


def _spans(
    begin: int, end: int, whole: int, pixels: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Where ``count`` parts of an edge begin and end in pixels of the mask."""
    place = (begin * count + np.arange(count + 1, dtype=np.int64) * (end - begin)) * pixels
    return place[:-1] // (whole * count), -(-place[1:] // (whole * count))


class Spot:
    """What of a picture of (W, H) pixels is looked at: a rectangle; all of it without a region."""

    def __init__(self, interest: Interest | None, size: tuple[int, int]) -> None:
        self.interest, self.whole = interest, size
        self.box = (0, 0, *size)
        if interest:
            (high, wide), (left, top, right, bottom) = interest.shape, interest.bounds
            self.box = (
                left * size[0] // wide,
                top * size[1] // high,
                -(-right * size[0] // wide),
                -(-bottom * size[1] // high),
            )

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the rectangle."""
        return self.box[2] - self.box[0], self.box[3] - self.box[1]

    def crop(self, picture: Image.Image) -> Image.Image:
        """The rectangle of the picture."""
        return picture if self.size == picture.size else picture.crop(self.box)

    def inside(self, shape: tuple[int, int]) -> np.ndarray:
        """The rectangle, stretched: bool of a shape (rows, columns)."""
        return self._part(self.box, shape)

    def touches(self, left: int, top: int, side: int) -> bool:
        """Whether a tile of the rectangle shows any of the region."""
        return bool(self._part(self._of_tile(left, top, side), (1, 1))[0, 0])

    def of_tile(self, left: int, top: int, side: int, image_side: int) -> np.ndarray:
        """A tile of the rectangle as the model sees it, bool (S, S), mirrored as the tile is."""
        box = self._of_tile(left, top, side)
        wide, high = box[2] - box[0], box[3] - box[1]
        shape = image_side, image_side
        if wide == high == side:
            return self._part(box, shape)
        beyond = ((0, side - high), (0, side - wide))
        mirrored = np.pad(self._part(box, (high, wide)), beyond, mode="symmetric")
        if not mirrored.any():
            return np.zeros(shape, bool)
        return Interest(mirrored).inside((side, side), (0, 0, side, side), shape)

    def put_back(self, values: np.ndarray) -> np.ndarray:
        """The map of the rectangle as that of the picture, float32 (H, W): 0 outside."""
        if self.interest is None:
            return values
        left, top, right, bottom = self.box
        found = np.zeros(self.whole[::-1], np.float32)
        found[top:bottom, left:right] = values * self.inside(values.shape)
        return found

    def _of_tile(self, left: int, top: int, side: int) -> tuple[int, int, int, int]:
        """A tile of the rectangle in pixels of the picture, without what lies beyond its edges."""
        x, y = self.box[0] + left, self.box[1] + top
        return x, y, min(x + side, self.box[2]), min(y + side, self.box[3])

    def _part(self, box: tuple[int, int, int, int], shape: tuple[int, int]) -> np.ndarray:
        if self.interest is None:
            return np.ones(shape, bool)
        return self.interest.inside(self.whole, box, shape)
