"""The region of interest of pictures: what lies outside of it is not judged.

It is a mask of any size, stretched over each picture; a picture is cropped to the rectangle around
it before the model sees it. A pixel that the region touches belongs to it.

Symbols: h×w pixels of a mask, W×H of a picture, S the model's image side.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from bayes_pfl.data.tiles import Tile
from bayes_pfl.errors import DataError

_MAX_SIDE = 2**20
_LONG = 32  # pixels that are looked at one after the other

Box: TypeAlias = "tuple[int, int, int, int]"
"""Left, top, right and bottom in pixels of a picture, the last two exclusive."""


class Roi:
    """A region for pictures of any size.

    Args:
        mask: bool (h, w), true inside.
        source: where it was read from, for messages and summaries.

    Attributes:
        key: hash of the mask.

    Raises:
        DataError: no pixel is inside, or too long a side.
    """

    def __init__(self, mask: np.ndarray, source: str = "") -> None:
        self.mask, self.source = np.ascontiguousarray(mask, bool), source
        name = source or "the region of interest"
        if self.mask.ndim != 2 or max(self.mask.shape) > _MAX_SIDE:
            raise DataError(f"{name}: of shape {mask.shape}; give (h, w), {_MAX_SIDE} a side")
        if not self.mask.any():
            raise DataError(f"{name}: no pixel is inside; mark what is to be judged")
        rows, columns = (np.flatnonzero(self.mask.any(axis)) for axis in (1, 0))
        self._bounds = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        packed = f"{self.mask.shape}".encode() + np.packbits(self.mask).tobytes()
        self.key = hashlib.sha256(packed).hexdigest()[:32]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Roi) and other.key == self.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __deepcopy__(self, _: object) -> Roi:
        return self  # never changed

    def __reduce__(self) -> tuple[Any, ...]:
        # One travels with each picture that another process decodes: a mask of megabytes as a few
        # thousand bytes.
        packed = zlib.compress(np.packbits(self.mask).tobytes(), 1)
        return _unpacked, (packed, self.mask.shape, self.source)

    def __repr__(self) -> str:
        return f"Roi({self.source or self.key!r})"

    @property
    def identity(self) -> str:
        """What a run that is resumed must share."""
        return self.key

    def box(self, size: tuple[int, int]) -> Box:
        """The rectangle around it in a picture of (W, H) pixels."""
        lows = [
            int(at) * size[axis] // self.mask.shape[1 - axis]
            for axis, at in enumerate(self._bounds[:2])
        ]
        highs = [
            -(-int(at) * size[axis] // self.mask.shape[1 - axis])
            for axis, at in enumerate(self._bounds[2:])
        ]
        return lows[0], lows[1], highs[0], highs[1]

    def inside(self, size: tuple[int, int], box: Box, shape: tuple[int, int]) -> np.ndarray:
        """A rectangle of a picture of (W, H) pixels, stretched: bool of a shape (rows, columns)."""
        return _stretched(self.mask, size, box, shape)


def _unpacked(packed: bytes, shape: tuple[int, int], source: str) -> Roi:
    """The region that :meth:`Roi.__reduce__` packed."""
    bits = np.frombuffer(zlib.decompress(packed), np.uint8)
    return Roi(np.unpackbits(bits, count=shape[0] * shape[1]).reshape(shape), source)


def _stretched(
    mask: np.ndarray, size: tuple[int, int], box: Box, shape: tuple[int, int]
) -> np.ndarray:
    """As :meth:`Roi.inside`; a mask may be empty."""
    rows = _spans(box[1], box[3], size[1], mask.shape[0], shape[0])
    columns = _spans(box[0], box[2], size[0], mask.shape[1], shape[1])
    (top, bottom), (left, right) = ((span[0][0], span[1][-1]) for span in (rows, columns))
    found = _any(mask[top:bottom, left:right], rows[0] - top, rows[1] - top, 0)
    return _any(found, columns[0] - left, columns[1] - left, 1)


def _spans(
    begin: int, end: int, whole: int, pixels: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Where the parts of an edge of the picture begin and end in pixels of the mask.

    Args:
        begin, end: of the edge of ``whole`` pixels, which is cut into ``count`` parts.
    """
    place = (begin * count + np.arange(count + 1, dtype=np.int64) * (end - begin)) * pixels
    return place[:-1] // (whole * count), -(-place[1:] // (whole * count))


def _any(mask: np.ndarray, starts: np.ndarray, ends: np.ndarray, axis: int) -> np.ndarray:
    """Whether there is a true value from each start to its end along an axis."""
    longest = int((ends - starts).max())
    if longest == 1 and len(starts) == mask.shape[axis]:
        return mask
    if longest > _LONG:
        beyond = ((0, 1), (0, 0)) if axis == 0 else ((0, 0), (0, 1))  # an end may be the length
        pairs = np.stack([starts, ends], axis=1).ravel()
        found = np.maximum.reduceat(np.pad(mask.view(np.uint8), beyond), pairs, axis=axis)
        return (found[::2] if axis == 0 else found[:, ::2]).astype(bool)
    found = mask.take(starts, axis=axis)
    for step in range(1, longest):
        found |= mask.take(np.minimum(starts + step, ends - 1), axis=axis)
    return found


@dataclass(frozen=True)
class PictureRoi:
    """The region of one picture.

    Attributes:
        size: (W, H) of the picture.
        box: the rectangle around the region, which the picture is cropped to.
    """

    roi: Roi
    size: tuple[int, int]
    box: Box

    @classmethod
    def of(cls, roi: Roi, size: tuple[int, int]) -> PictureRoi:
        """The region of a picture of (W, H) pixels."""
        return cls(roi, size, roi.box(size))

    @property
    def crop_size(self) -> tuple[int, int]:
        """Width and height of the rectangle."""
        return self.box[2] - self.box[0], self.box[3] - self.box[1]

    def crop(self, picture: Image.Image) -> Image.Image:
        """The rectangle of the picture."""
        return picture if self.crop_size == picture.size else picture.crop(self.box)

    def inside(self, shape: tuple[int, int]) -> np.ndarray:
        """The rectangle, stretched: bool of a shape (rows, columns)."""
        return self.roi.inside(self.size, self.box, shape)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Some rows of the rectangle, bool (rows, width)."""
        left, top, right, _ = self.box
        return self.roi.inside(
            self.size, (left, top + start, right, top + stop), (stop - start, right - left)
        )

    def of_tile(self, tile: Tile, side: int) -> np.ndarray:
        """A tile of the rectangle as the model sees it, bool (S, S), mirrored as the tile is."""
        right, bottom = self._end(tile)
        wide, high = right - tile.left, bottom - tile.top
        left, top = self.box[0] + tile.left, self.box[1] + tile.top
        part = left, top, left + wide, top + high
        if wide == high == tile.side:
            return self.roi.inside(self.size, part, (side, side))
        beyond = ((0, tile.side - high), (0, tile.side - wide))
        whole = np.pad(self.roi.inside(self.size, part, (high, wide)), beyond, mode="symmetric")
        square = tile.side, tile.side
        return _stretched(whole, square, (0, 0, *square), (side, side))

    def touches(self, tile: Tile) -> bool:
        """Whether a tile of the rectangle shows any of the region."""
        right, bottom = self._end(tile)
        left, top = self.box[:2]
        part = left + tile.left, top + tile.top, left + right, top + bottom
        return bool(self.roi.inside(self.size, part, (1, 1))[0, 0])

    def _end(self, tile: Tile) -> tuple[int, int]:
        """Where a tile ends within the rectangle."""
        width, height = self.crop_size
        return min(tile.left + tile.side, width), min(tile.top + tile.side, height)

    def whole(self, size: tuple[int, int]) -> np.ndarray:
        """The whole picture at a size of (width, height): bool (height, width)."""
        return self.roi.inside(size, (0, 0, *size), size[::-1])
