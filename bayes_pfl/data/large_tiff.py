"""A page of a TIFF file that is too large to be decoded at once, read a part at a time.

Symbols: W×H pixels of the page, S model's image side.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from bayes_pfl.data.opening import reading
from bayes_pfl.data.pixels import array_to_rgb, from_depth
from bayes_pfl.data.roi import Box, PictureRoi
from bayes_pfl.data.tiff_values import codecs_named
from bayes_pfl.data.tiles import Cutting, Tiling, cut
from bayes_pfl.errors import DataError

MAX_SIDE = 2**20
"""Longest side of a page, in pixels."""

_OVERVIEW = 2048
_KEPT = 2**28  # bytes of decoded segments that are kept for the next tile
_LARGEST_SEGMENT = 2**28  # pixels: a file of one segment is no better than decoding it all
_COLOURS = {"MINISBLACK": 1, "RGB": 3, "YCBCR": 3}


@dataclass(frozen=True)
class LargeTiff:
    """Where the page lies.

    Attributes:
        page: its number in the file, from 1; None for the first.
    """

    path: Path
    page: int | None = None

    def pixels(self) -> int:
        """W * H; 0 where the file cannot be read."""
        from tifffile import TiffFile

        try:
            with _quiet(), TiffFile(self.path) as file:
                page: Any = file.pages[(self.page or 1) - 1]
                return int(page.imagewidth) * int(page.imagelength)
        except Exception:  # decoding it will say what is wrong
            return 0

    def overview(self, box: Box | None = None, highest: float = 0.0) -> Overview:
        """The page made small, in one pass over it.

        Args:
            box: a rectangle of the page, of which alone the picture is; None for all of it.
            highest: value of the page, where it is known.

        Raises:
            DataError: a page that cannot be read a part at a time, or is damaged.
        """
        with reading(self.path, self.page), _Reader(self) as reader:
            left, above, right, below = box or (0, 0, *reader.size)
            width, height = right - left, below - above
            scale = min(1.0, _OVERVIEW / max(width, height))
            across = max(1, round(width * scale))
            rows: list[np.ndarray] = []
            for top in range(0, height, reader.band):
                band = reader.read(left, above + top, width, min(reader.band, height - top))
                highest = max(highest, float(band.max()))
                down = max(1, round((top + len(band)) * scale) - round(top * scale))
                rows.append(cv2.resize(band, (across, down), interpolation=cv2.INTER_AREA))
            values = np.concatenate(rows).reshape(-1, across, reader.colours)
            picture = Image.fromarray(_as_rgb(values, highest))
            return Overview(LargePage(self, reader.size, highest), picture)


class Overview(NamedTuple):
    """A large page, and a small picture of it or of a rectangle of it.

    Attributes:
        picture: mode RGB, its longer side about 2048 pixels.
    """

    page: LargePage
    picture: Image.Image


@dataclass(frozen=True)
class LargePage:
    """A large page, read through once, so that its parts can be read as they are asked for.

    Attributes:
        size: (W, H).
        highest: value of the page; says its depth.
    """

    source: LargeTiff
    size: tuple[int, int]
    highest: float

    def part(self, box: Box) -> Image.Image:
        """A rectangle of the page, mode RGB.

        Raises:
            DataError: it is damaged.
        """
        left, top, right, bottom = box
        with reading(self.source.path, self.source.page), _Reader(self.source) as reader:
            values = reader.read(left, top, right - left, bottom - top)
        return Image.fromarray(_as_rgb(values, self.highest))

    def small(self, box: Box | None = None) -> Image.Image:
        """The page, or a rectangle of it, as :class:`Overview` has it."""
        return self.source.overview(box, self.highest).picture

    def tiles(self, tiling: Tiling, image_side: int, roi: PictureRoi | None = None) -> LargeTiles:
        """The tiles of the page, or of its region of interest."""
        return LargeTiles(self, tiling, image_side, roi)


@dataclass(frozen=True)
class LargeTiles:
    """The tiles of a page, each read from the file when its turn comes."""

    page: LargePage
    tiling: Tiling
    image_side: int
    roi: PictureRoi | None = None

    def __iter__(self) -> Iterator[Cutting]:
        with _Reader(self.page.source) as reader:
            left, top, right, bottom = self.roi.box if self.roi else (0, 0, *reader.size)
            for tile in self.tiling.tiles((right - left, bottom - top)):
                if self.roi and not self.roi.touches(tile):
                    continue
                x, y = left + tile.left, top + tile.top
                width, height = min(tile.side, right - x), min(tile.side, bottom - y)
                part = _as_rgb(reader.read(x, y, width, height), self.page.highest)
                yield tile, cut(part, tile._replace(left=0, top=0), self.image_side)


def _as_rgb(values: np.ndarray, highest: float) -> np.ndarray:
    """(h, w, 1 or 3) of any depth -> uint8 (h, w, 3)."""
    if values.dtype != np.uint8:
        values = from_depth(values, highest)
    return np.asarray(array_to_rgb(values))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Within, tifffile logs nothing of this thread: what is damaged is an error that names it."""
    thread, logger = threading.get_ident(), logging.getLogger("tifffile")

    def of_others(record: logging.LogRecord) -> bool:
        return record.thread != thread

    logger.addFilter(of_others)
    try:
        yield
    finally:
        logger.removeFilter(of_others)


class _Reader:
    """An open page, whose segments (tiles or strips of the file) are decoded one by one."""

    def __init__(self, source: LargeTiff) -> None:
        from tifffile import TiffFile

        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self._bytes = 0
        with contextlib.ExitStack() as opened:
            opened.enter_context(_quiet())
            self._file = opened.enter_context(TiffFile(source.path))
            page: Any = self._file.pages[(source.page or 1) - 1]
            self._page = page
            self.size = (int(page.imagewidth), int(page.imagelength))
            self._check()
            self._open = opened.pop_all()  # closed here where it cannot be read
        self.colours = _COLOURS[page.photometric.name]
        tiled = page.is_tiled
        self._wide = int(page.tilewidth) if tiled else self.size[0]
        self._high = int(page.tilelength) if tiled else int(page.rowsperstrip)
        self.band = max(1, min(self._high, self.size[1]))

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _check(self) -> None:
        page: Any = self._page
        turn = page.tags.valueof("Orientation", 1)
        if turn != 1:
            raise DataError(
                f"{self.size[0]}x{self.size[1]}, turned by its tag Orientation ({turn}): pages as "
                "large as this are read as they are stored; save it upright"
            )
        kind = page.photometric.name
        many = page.samplesperpixel > 1 and page.planarconfig.name != "CONTIG"
        if kind not in _COLOURS or many or page.dtype not in (np.uint8, np.uint16):
            raise DataError(
                f"{self.size[0]}x{self.size[1]}: pages as large as this are read in grey or RGB, "
                f"of 8 or 16 bits, this one is {kind.lower()} of {page.dtype}; convert it"
            )
        segment = page.tilewidth * page.tilelength or self.size[0] * page.rowsperstrip
        if max(self.size) > MAX_SIDE or segment > _LARGEST_SEGMENT:
            raise DataError(
                f"{self.size[0]}x{self.size[1]} in parts of {segment} pixels: cannot be read a "
                "part at a time; save it as a tiled TIFF"
            )

    def read(self, left: int, top: int, width: int, height: int) -> np.ndarray:
        """A part of the page, (height, width, 1 or 3)."""
        found = np.zeros((height, width, self.colours), self._page.dtype)
        columns = -(-self.size[0] // self._wide)
        for row in range(top // self._high, -(-(top + height) // self._high)):
            for column in range(left // self._wide, -(-(left + width) // self._wide)):
                segment = self._segment(row * columns + column)
                y, x = row * self._high, column * self._wide
                y0, x0 = max(y, top), max(x, left)
                part = segment[y0 - y : top + height - y, x0 - x : left + width - x]
                found[y0 - top :, x0 - left :][: part.shape[0], : part.shape[1]] = part
        return found

    def _segment(self, index: int) -> np.ndarray:
        """Decoded segment, (h, w, 1 or 3); zeros where the file holds none."""
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._kept[index]
        page: Any = self._page
        if index >= min(len(page.dataoffsets), len(page.databytecounts)):
            raise DataError("damaged or cut short")
        self._file.filehandle.seek(page.dataoffsets[index])
        data = self._file.filehandle.read(page.databytecounts[index])
        if len(data) != page.databytecounts[index]:
            raise DataError("damaged or cut short")
        with codecs_named(page):
            values, _, _ = page.decode(data, index, jpegtables=page.jpegtables)
        shape = (self._high, self._wide, self.colours)
        segment = np.zeros(shape, page.dtype) if values is None else values[0, ..., : self.colours]
        self._kept[index] = segment
        self._bytes += segment.nbytes
        while self._bytes > _KEPT and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return segment
