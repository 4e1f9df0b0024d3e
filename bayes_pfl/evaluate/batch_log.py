"""A log of scored batches: what was scored since the pixel counts were last written.

The pixel counts of a category are too large to be written after every batch. So each batch is
appended to a file: its rows, and its maps and masks, from which the same counts can be computed
again. When the counts are written the file is removed. Each block has its length and checksum in
front; one that was not written whole is ignored.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from bayes_pfl.evaluate.records import Counted, ImageRow

MOST_BYTES = 256 * 2**20
"""A log of this size takes no more batches until the counts are written."""

_MAGIC, _HEAD = b"BPL1", struct.Struct("<4sQI")
_COLUMNS = tuple(f.name for f in fields(ImageRow) if f.name not in ("identity", "path"))


class BatchLog:
    """The file of one category.

    Args:
        path: of the file; the first batch makes it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, start: int, levels: Sequence[str], batch: Counted) -> None:
        """Add a batch.

        Args:
            start: number of rows of the record before this batch.

        Raises:
            OSError: it cannot be written.
        """
        if self._size() > MOST_BYTES:
            return
        arrays: dict[str, Any] = {"start": np.array(start), "levels": np.array(levels)}
        arrays |= row_arrays(batch.rows) | {"unread": np.array(batch.unread, "U24")}
        if batch.maps is not None and batch.masks is not None:
            arrays |= {"maps": batch.maps, "masks": np.packbits(batch.masks, axis=-1)}
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        data = buffer.getvalue()
        with self.path.open("ab", buffering=0) as file:
            place = file.tell()
            try:
                _write(file, _HEAD.pack(_MAGIC, len(data), zlib.crc32(data)) + data)
            except BaseException:
                file.truncate(place)
                raise

    def batches(self, rows: int, levels: Sequence[str]) -> Iterator[Counted]:
        """The batches that come after the first ``rows`` rows of a record, in order.

        A last block that was not written whole is cut off.

        Raises:
            ValueError, KeyError: a whole block that holds no batch.
        """
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        end = 0
        with file:
            while data := _block(file):
                end = file.tell()
                with np.load(io.BytesIO(data), allow_pickle=False) as found:
                    arrays = {name: found[name] for name in found.files}
                if tuple(arrays["levels"].tolist()) != tuple(levels):
                    return
                start = int(arrays["start"])
                if start < rows:  # stopped between writing the counts and removing this file
                    continue
                if start > rows:
                    return
                batch = _batch(arrays)
                rows += len(batch.rows)
                yield batch
        if self._size() > end:  # the next block must follow a whole one
            os.truncate(self.path, end)

    def clear(self) -> None:
        """Forget all batches."""
        self.path.unlink(missing_ok=True)

    def _size(self) -> int:
        try:
            return os.stat(self.path).st_size
        except OSError:
            return 0


def row_arrays(rows: Sequence[ImageRow]) -> dict[str, np.ndarray]:
    """Rows as one array for each column."""
    arrays = {
        "identity": np.array([row.identity for row in rows], "U24"),
        "path": np.array([row.path for row in rows], np.str_),
    }
    return arrays | {name: np.array([getattr(row, name) for row in rows]) for name in _COLUMNS}


def rows_in(arrays: dict[str, np.ndarray]) -> list[ImageRow]:
    """The rows that :func:`row_arrays` was given."""
    names = ("identity", "path", *_COLUMNS)
    columns = (arrays[name].tolist() for name in names)
    return [ImageRow(**dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]


def _batch(arrays: dict[str, np.ndarray]) -> Counted:
    rows, unread = tuple(rows_in(arrays)), tuple(arrays["unread"].tolist())
    if "maps" not in arrays:
        return Counted(rows, unread)
    maps = arrays["maps"]
    masks = np.unpackbits(arrays["masks"], axis=-1, count=maps.shape[-1]).astype(bool)
    return Counted(rows, unread, maps, masks)


def _block(file: io.BufferedReader) -> bytes:
    """The next block; empty at the end, or where one was not written whole."""
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return b""
    magic, length, checksum = _HEAD.unpack(head)
    if magic != _MAGIC or length > 4 * MOST_BYTES:
        return b""
    data = file.read(length)
    return data if len(data) == length and zlib.crc32(data) == checksum else b""


def _write(file: Any, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) or 0 :]
