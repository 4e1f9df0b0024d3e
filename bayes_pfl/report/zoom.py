"""Pictures at full resolution beside a report, for its zoom: one JPEG file, or tiles of many.

A picture of up to 4096 pixels a side is one file. A larger one is cut into tiles of 1024 pixels, at
its own size and at halves of that until one tile holds it all: level 0 is the picture itself, level
k is 2^k times smaller. The page computes the same levels from the size.
"""

from __future__ import annotations

import contextlib
import io
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from bayes_pfl.detect.regions import Box
from bayes_pfl.errors import ConfigError
from bayes_pfl.report.crops import Cut
from bayes_pfl.support.files import raising_not_written, reason_unless_disk_full, write_picture

FOLDER = "report/zoom"
"""Below the run's folder; holds a folder for each picture."""

SINGLE, TILE = 4096, 1024
"""Longest side of a picture that is one file; side of the tiles of others. In pixels."""

MAX_SIDE = 2**15
"""Of a picture with a longer side there is no copy: a row of its tiles takes half a gigabyte."""

MAX_BYTES = 4 * 2**30
"""Of all copies of a run; when they are that many, no more are made."""

_QUALITY = 88
_STEM, _FILE = re.compile(r"[0-9a-f]{24}"), re.compile(r"\d+-\d+-\d+\.jpg")


def zoom_path(name: str) -> str:
    """Folder of a picture's copy, relative to the page, for a name of ``picture_name``.

    >>> zoom_path("a1f37b487bab1a419398fa71.webp")
    'report/zoom/a1f37b487bab1a419398fa71'
    """
    return f"{FOLDER}/{name.removesuffix('.webp')}"


def last_file(size: tuple[int, int]) -> str:
    """Name of the file of a copy that is written last: it holds all of the picture, small.

    >>> last_file((4096, 100)), last_file((4097, 100))
    ('0-0-0.jpg', '3-0-0.jpg')
    """
    return f"{_top_level(size)}-0-0.jpg"


class ZoomFolder:
    """Writes the copies of a run; several threads may do so at once."""

    def __init__(self, out: Path, max_bytes: int = MAX_BYTES) -> None:
        self.out, self.max_bytes, self.used = out, max_bytes, 0
        self._counting = threading.Lock()

    def prepare(self, resume: bool) -> None:
        """Remove the copies of an earlier run, or count them where the run is resumed.

        Raises:
            ConfigError: they cannot be removed.
        """
        folder = self.out / FOLDER
        with raising_not_written(folder, "choose another output folder", ConfigError):
            for place in folder.iterdir() if folder.is_dir() else ():
                own = place.iterdir() if _STEM.fullmatch(place.name) and place.is_dir() else ()
                for path in own:
                    if resume:
                        self.used += path.stat().st_size
                    elif _FILE.fullmatch(path.name):
                        path.unlink()
                if not resume:
                    with contextlib.suppress(OSError):  # holds files of others
                        place.rmdir()

    def write(self, name: str, cut: Cut, size: tuple[int, int]) -> str | None:
        """Write one picture, a band of it at a time.

        There is no copy where the run's copies fill ``max_bytes`` already.

        Args:
            name: as :func:`bayes_pfl.report.pictures.picture_name` gives it.
            cut: gives parts of the picture, see :data:`bayes_pfl.report.crops.Cut`.
            size: (width, height) of the picture.

        Returns:
            Why it was not written; None if it was.

        Raises:
            OSError: the disk is full.
        """
        if self.used >= self.max_bytes or max(size) > MAX_SIDE:
            return None
        folder, side = self.out / zoom_path(name), _tile_side(size)
        try:
            bands = _bands(cut, size, side)
            for level in range(_top_level(size) + 1):
                bands = self._written(folder, level, bands, side)
            for _ in bands:
                pass
        except Exception as error:  # one picture must not end a run over thousands of images
            return f"full picture of the report not written: {reason_unless_disk_full(error)}"
        return None

    def _written(
        self, folder: Path, level: int, bands: Iterator[np.ndarray], side: int
    ) -> Iterator[np.ndarray]:
        """Write the tiles of a level's bands; gives the bands of the next level."""
        waiting: list[np.ndarray] = []
        for row, band in enumerate(bands):
            for column, left in enumerate(range(0, band.shape[1], side)):
                data = _jpeg(band[:, left : left + side])
                write_picture(folder / f"{level}-{column}-{row}.jpg", data)
                with self._counting:
                    self.used += len(data)
            waiting.append(_halved(band))
            if len(waiting) == 2:
                yield np.concatenate(waiting)
                waiting = []
        yield from waiting


def _tile_side(size: tuple[int, int]) -> int:
    return max(size) if max(size) <= SINGLE else TILE


def _top_level(size: tuple[int, int]) -> int:
    """The level at which one tile holds the whole picture."""
    level = 0
    while max(size) > _tile_side(size) << level:
        level += 1
    return level


def _bands(cut: Cut, size: tuple[int, int], side: int) -> Iterator[np.ndarray]:
    """Parts of the picture as wide as itself, from its top, uint8 (side or fewer, W, 3)."""
    width, height = size
    for top in range(0, height, side):
        yield np.asarray(cut(Box(0, top, width, min(top + side, height))))


def _halved(band: np.ndarray) -> np.ndarray:
    """Means of two by two pixels; the last row or column of an odd number counts twice."""
    height, width = band.shape[:2]
    if height % 2 or width % 2:
        band = cv2.copyMakeBorder(band, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    size = band.shape[1] // 2, band.shape[0] // 2
    return cv2.resize(band, size, interpolation=cv2.INTER_AREA)


def _jpeg(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
