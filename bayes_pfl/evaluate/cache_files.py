"""The files of an evaluation's cache: a category's record, and a batch that it has yet to count."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from bayes_pfl.evaluate.records import CategoryRecord, Counted, ImageRow
from bayes_pfl.metrics import PixelMetrics

_COLUMNS = [column.name for column in fields(ImageRow)]


def packed_record(record: CategoryRecord) -> bytes:
    """A file with the rows of a record and its pixel counts."""
    counts = {f"pixel/{name}": value for name, value in record.pixel.state().items()}
    return _packed(np.savez_compressed, record.levels, record.rows, record.unread, counts)


def packed_batch(levels: tuple[str, ...], batch: Counted) -> bytes:
    """A file with the rows of a batch, its maps and its masks."""
    pixels = {}
    if batch.maps is not None and batch.masks is not None:
        pixels = {"maps": batch.maps, "masks": np.packbits(batch.masks, axis=-1)}
    return _packed(np.savez, levels, batch.rows, batch.unread, pixels)


def read_record(path: Path, category: str, levels: tuple[str, ...]) -> CategoryRecord | None:
    """The record in a file; None if there is none for these levels. A damaged file raises."""
    if (found := _read(path, levels)) is None:
        return None
    rows, unread, arrays = found
    state = {name.removeprefix("pixel/"): value for name, value in arrays.items()}
    pixel = PixelMetrics.from_state(state)
    return CategoryRecord(category, levels, pixel, rows, unread=set(unread))


def read_batch(path: Path, levels: tuple[str, ...]) -> Counted | None:
    """The batch in a file; None if there is none for these levels, or if it is damaged."""
    try:
        found = _read(path, levels)
    except Exception:  # a power cut can tear the file, and a torn one can raise anything
        return None
    if found is None:
        return None
    rows, unread, arrays = found
    maps, masks = arrays.get("maps"), arrays.get("masks")
    if maps is not None and masks is not None:
        masks = np.unpackbits(masks, axis=-1, count=maps.shape[-1]).astype(bool)
    return Counted(tuple(rows), tuple(unread), maps, masks)


def _packed(
    save: Callable[..., None],
    levels: tuple[str, ...],
    rows: Iterable[ImageRow],
    unread: Iterable[str],
    pixels: dict[str, np.ndarray],
) -> bytes:
    columns: dict[str, Any] = {name: [getattr(row, name) for row in rows] for name in _COLUMNS}
    buffer = io.BytesIO()
    save(buffer, levels=levels, unread=sorted(unread), **columns, **pixels)
    return buffer.getvalue()


def _read(
    path: Path, levels: tuple[str, ...]
) -> tuple[list[ImageRow], list[str], dict[str, np.ndarray]] | None:
    """Rows, identities of unread images, and the other arrays of a file; None if there is none."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except FileNotFoundError:
        return None
    if tuple(arrays.pop("levels").tolist()) != levels:
        return None
    columns = [arrays.pop(name).tolist() for name in _COLUMNS]
    rows = [ImageRow(*values) for values in zip(*columns, strict=True)]
    return rows, arrays.pop("unread").tolist(), arrays
