"""Scores kept on disk while an evaluation runs, so that a stopped run can be resumed.

There is one file per category. Its folder is named by a hash of all that shapes a score: the
model's weights and settings (backbone included), samples R, seed, precision, kind of device and
version; so results of different settings never mix. A file holds the row of each image that was
scored, by the identity of its files and its word, and the pixel counts of exactly these images.

The pixel counts are too large to be written after every batch. So each batch scored since then is
a file of its own, in a folder next to it: its rows, and its maps and masks, from which the same
counts can be computed again. When the counts are written the folder is removed. Every file is
written whole or not at all.

Counts cannot be taken back: if an image that was counted has changed or is gone, the category is
scored again, or (strict) the run is refused. New images are added.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from bayes_pfl.data.labelled_batches import file_identity
from bayes_pfl.data.records import Sample
from bayes_pfl.detect.settings import ScoringSettings
from bayes_pfl.errors import DataError
from bayes_pfl.evaluate.records import CategoryRecord, Counted, ImageRow
from bayes_pfl.metrics import PixelMetrics
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.support.files import not_written, write_atomically
from bayes_pfl.support.version import __version__

logger = logging.getLogger(__name__)

CACHE_FORMAT = 3
MOST_BYTES = 256 * 2**20
"""Maps of this size, together, are kept; later batches wait until the counts are written."""

_COLUMNS = [column.name for column in fields(ImageRow)]
_WITH_REFERENCES = ("score", "words_score", "memory_score")
_NO_ROOM = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


class DatasetCache:
    """The files of one dataset, one model and one set of settings.

    Args:
        folder: of the whole cache; it is made when something is written.
        key: as :func:`cache_key` returns it.
        seconds: least time between two writings of the counts of a category.
        strict: raise an error for images that have changed or are gone since they were scored.
    """

    def __init__(
        self, folder: Path, key: str, dataset: str, seconds: float = 10.0, strict: bool = False
    ) -> None:
        self.folder = folder / key / quote(dataset, safe="")
        self.seconds, self.strict = seconds, strict
        self._warned = False
        self._next = time.monotonic() + seconds
        self._bytes = 0  # of the maps since the counts were written

    def load(
        self, category: str, samples: Sequence[Sample], levels: tuple[str, ...]
    ) -> CategoryRecord | None:
        """The record of an earlier run; None if there is none that fits the images as they are now.

        Raises:
            DataError: strict, and an image has changed or is gone; or the disk is full.
        """
        record = self._read(category, levels)
        known = {file_identity(sample) for sample in samples} if record else set()
        changed = [row.path for row in record.rows if row.identity not in known] if record else []
        if changed and self.strict:
            raise DataError(
                f"{changed[0]}: has changed or is gone since it was scored; restore it, or leave "
                f"--resume out: then category {category} is scored again"
            )
        if changed:
            logger.warning("%s: files of category %s changed; scoring again", self.folder, category)
            record = None
        if record is None:
            shutil.rmtree(self._batches(category), ignore_errors=True)
        elif self._batches(category).exists():
            self.keep(record, now=True)
        return record

    def _read(self, category: str, levels: tuple[str, ...]) -> CategoryRecord | None:
        path = self._path(category)
        try:
            record = _read_record(path, category, levels) or CategoryRecord(category, levels)
            folder = self._batches(category)
            while (batch := _read_batch(folder / f"{len(record.rows)}.npz", levels)) and batch.rows:
                record.add(batch)
        except Exception as error:  # a damaged file can raise anything, and is only a cache
            logger.warning("%s: cannot be used (%s); scoring again", path, error)
            return None
        return record if record.rows or record.unread else None

    def add(self, record: CategoryRecord, batch: Counted) -> None:
        """Keep a batch that the record has just counted; one without rows need not be kept.

        Raises:
            DataError: the disk is full.
        """
        self._bytes += 0 if batch.maps is None else batch.maps.nbytes
        if not batch.rows or self._bytes > MOST_BYTES:
            return
        with self._writing():
            folder, start = self._batches(record.category), len(record.rows) - len(batch.rows)
            folder.mkdir(parents=True, exist_ok=True)
            data = _packed_batch(record.levels, batch)
            write_atomically(folder / f"{start}.npz", data, sync=False)

    def keep(self, record: CategoryRecord, now: bool = False) -> None:
        """Write the counts, if enough time has passed or ``now``.

        Raises:
            DataError: the disk is full.
        """
        if not record.settled or not (now or time.monotonic() >= self._next):
            return
        started = time.monotonic()
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path(record.category), _packed_record(record))
            shutil.rmtree(self._batches(record.category), ignore_errors=True)
            self._bytes = 0
        done = time.monotonic()  # at most a twentieth of the time goes into writing
        self._next = done + max(self.seconds, 20 * (done - started))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Within, a full disk is an error, for the results would not fit either; else one warning.

        Raises:
            DataError: the disk is full.
        """
        try:
            yield
        except OSError as error:
            if error.errno in _NO_ROOM:
                mend = "what was scored before is kept: make room, then give the same command again"
                raise not_written(self.folder, error, mend, DataError) from error
            if not self._warned:
                logger.warning("%s: not written (%s); a stop would lose it", self.folder, error)
                self._warned = True

    def _path(self, category: str) -> Path:
        return self.folder / f"{quote(category, safe='')}.npz"

    def _batches(self, category: str) -> Path:
        """A file for each batch, named by the number of the record's rows before it."""
        return self._path(category).with_suffix(".batches")


def cache_key(model: BayesPFLNetwork, fingerprint: str, settings: ScoringSettings) -> str:
    """Hash of everything that shapes a score; batch size and workers do not.

    Args:
        fingerprint: of the model's weights and settings.
    """
    parts = {
        "format": CACHE_FORMAT,
        "version": __version__,
        "model": fingerprint,
        "samples": settings.sample_count(model),
        "seed": settings.seed,
        "precision": settings.precision,
        "device": model.device.type,
    }
    if not settings.smoothing:
        parts["smoothing"] = False
    if settings.tile is not None:
        parts |= {"tile": settings.tile, "overlap": settings.overlap}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _packed_record(record: CategoryRecord) -> bytes:
    """A file with the rows of a record and its pixel counts."""
    counts = {f"pixel/{name}": value for name, value in record.pixel.state().items()}
    return _packed(np.savez_compressed, record.levels, record, counts)


def _packed_batch(levels: tuple[str, ...], batch: Counted) -> bytes:
    """A file with the rows of a batch, its maps and its masks."""
    pixels = {}
    if batch.maps is not None and batch.masks is not None:
        pixels = {"maps": batch.maps, "masks": np.packbits(batch.masks, axis=-1)}
    return _packed(np.savez, levels, batch, pixels)


def _read_record(path: Path, category: str, levels: tuple[str, ...]) -> CategoryRecord | None:
    """The record in a file; None if there is none for these levels. A damaged file raises."""
    if (found := _arrays(path, levels)) is None:
        return None
    rows, unread, arrays = found
    state = {name.removeprefix("pixel/"): value for name, value in arrays.items()}
    pixel = PixelMetrics.from_state(state)
    return CategoryRecord(category, levels, pixel, rows, unread=set(unread))


def _read_batch(path: Path, levels: tuple[str, ...]) -> Counted | None:
    """The batch in a file; None if there is none for these levels, or if it is damaged."""
    try:
        found = _arrays(path, levels)
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
    kept: CategoryRecord | Counted,
    pixels: dict[str, np.ndarray],
) -> bytes:
    columns: dict[str, Any] = {name: [getattr(row, name) for row in kept.rows] for name in _COLUMNS}
    for name in _WITH_REFERENCES:
        if None in columns[name]:
            del columns[name]
    buffer = io.BytesIO()
    save(buffer, levels=levels, unread=sorted(kept.unread), **columns, **pixels)
    return buffer.getvalue()


def _arrays(
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
    nothing = [None] * len(arrays["identity"])
    columns = [
        nothing if name in _WITH_REFERENCES and name not in arrays else arrays.pop(name).tolist()
        for name in _COLUMNS
    ]
    rows = [ImageRow(*values) for values in zip(*columns, strict=True)]
    return rows, arrays.pop("unread").tolist(), arrays
