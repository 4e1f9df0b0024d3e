"""Where the pages of a TIFF file lie, by their directories alone: no page is decoded."""

from __future__ import annotations

import functools
import io
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bayes_pfl.data.memory_file import MemoryFile, Source

MAX_PAGES = 10_000
"""Pages that are read of one file; one more is refused."""

TIFF_SUFFIXES = (".tif", ".tiff")
_SUBFILE_TYPE = 254
_COPY_OR_MASK = 1 | 4  # bits of that tag: a smaller copy of another page, a mask of one
_MOST_ENTRIES = 4096  # of a directory; those of cameras have some tens


@dataclass(frozen=True)
class TiffPages:
    """The pages of a file.

    Attributes:
        offsets: byte offset of the directory of each page, by its number from 1. Smaller copies of
            a page and masks have a number and are no pages.
        missing: number of the page from which none can be reached, because the file is cut short or
            has more than MAX_PAGES; None if all are there.
    """

    offsets: dict[int, int]
    missing: int | None

    @property
    def numbers(self) -> list[int]:
        """Numbers of the pages, and of the first that is missing; empty for a single page."""
        every = [*self.offsets, *([self.missing] if self.missing else [])]
        return every if len(every) > 1 else []


@dataclass(frozen=True)
class _Layout:
    """Byte order and widths: those of BigTIFF differ."""

    order: str
    big: bool

    @property
    def number(self) -> struct.Struct:
        return struct.Struct(self.order + ("Q" if self.big else "I"))

    @property
    def count(self) -> struct.Struct:
        return struct.Struct(self.order + ("Q" if self.big else "H"))

    @property
    def entry(self) -> int:
        return 20 if self.big else 12

    @property
    def place(self) -> int:
        """Where in the header the offset of the first directory stands."""
        return 8 if self.big else 4


_LAYOUTS = {
    b"II*\0": _Layout("<", False),
    b"MM\0*": _Layout(">", False),
    b"II+\0": _Layout("<", True),
    b"MM\0+": _Layout(">", True),
}


def is_tiff(path: Path) -> bool:
    """Whether a file begins as a TIFF does; not where it cannot be read."""
    try:
        if not path.is_file():  # reading a pipe waits
            return False
        with path.open("rb") as file:
            return file.read(4) in _LAYOUTS
    except OSError:
        return False


def tiff_pages(path: Source) -> TiffPages | None:
    """The pages of a TIFF file; None for a file of another kind.

    Raises:
        OSError: the file cannot be read.
    """
    if isinstance(path, MemoryFile):
        return pages_in(path.open())
    stat = path.stat()
    return _pages(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _pages(path: Path, size: int, changed: int) -> TiffPages | None:
    # Kept, so that reading page after page does not walk from the first one each time.
    with path.open("rb") as file:
        return pages_in(file)


def pages_in(file: BinaryIO) -> TiffPages | None:
    """As :func:`tiff_pages`, of an open file at its beginning."""
    head = file.read(16)
    layout = _LAYOUTS.get(head[:4])
    if layout is None:
        return None
    offsets: dict[int, int] = {}
    seen: set[int] = set()
    number = 0
    try:
        (offset,) = layout.number.unpack_from(head, layout.place)
        while offset:
            number += 1
            if offset in seen or number > MAX_PAGES:
                return TiffPages(offsets, number)
            seen.add(offset)
            is_page, following = _directory(file, offset, layout)
            if is_page or number == 1:
                offsets[number] = offset
            offset = following
    except (struct.error, ValueError, OverflowError):
        return TiffPages(offsets, max(number, 1))
    return TiffPages(offsets, None)


def _directory(file: BinaryIO, offset: int, layout: _Layout) -> tuple[bool, int]:
    """Whether a directory is a page of its own, and the offset of the next one; 0 for none."""
    file.seek(offset)
    (count,) = layout.count.unpack(file.read(layout.count.size))
    if count > _MOST_ENTRIES:
        raise ValueError(f"{count} entries")
    data = file.read(count * layout.entry + layout.number.size)
    (following,) = layout.number.unpack_from(data, count * layout.entry)
    for start in range(0, count * layout.entry, layout.entry):
        tag, kind = struct.unpack_from(layout.order + "HH", data, start)
        if tag == _SUBFILE_TYPE:
            form = layout.order + ("H" if kind == 3 else "I")
            (value,) = struct.unpack_from(form, data, start + 4 + layout.number.size)
            return not value & _COPY_OR_MASK, following
    return True, following


class TiffFrom(io.BufferedReader):
    """A TIFF file that seems to begin with one of its pages, for readers of first pages.

    Args:
        offset: of the directory of the page.
    """

    def __init__(self, path: Path, offset: int) -> None:
        super().__init__(io.FileIO(path))
        head = super().read(16)
        layout = _LAYOUTS[head[:4]]
        at, number = layout.place, layout.number
        self._head = head[:at] + number.pack(offset) + head[at + number.size :]
        super().seek(0, os.SEEK_SET)

    def read(self, size: int | None = -1, /) -> bytes:
        """As of the file, with the changed header."""
        at = self.tell()
        data = super().read(size)
        changed = self._head[at : at + len(data)]
        return changed + data[len(changed) :]
