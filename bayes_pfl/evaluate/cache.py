"""Scores kept on disk while an evaluation runs, so that a stopped run can be resumed.

There is one file per category. Its folder is named by a hash of all that shapes a score: the
model's weights and settings (backbone included), samples R, seed, precision, kind of device and
version; so results of different settings never mix. A file holds the row of each image that was
scored, by the identity of its files, and the pixel counts of exactly these images. It is replaced
whole or not at all; the batches scored since then are in a log next to it.

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
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from bayes_pfl.data.labelled_batches import file_identity
from bayes_pfl.data.records import Sample
from bayes_pfl.errors import DataError
from bayes_pfl.evaluate.batch_log import BatchLog, row_arrays, rows_in
from bayes_pfl.evaluate.records import CategoryRecord, Counted
from bayes_pfl.metrics import PixelMetrics
from bayes_pfl.support.files import not_written, write_atomically
from bayes_pfl.support.version import __version__

if TYPE_CHECKING:
    from bayes_pfl.detect.settings import ScoringSettings
    from bayes_pfl.model.network import BayesPFLNetwork

logger = logging.getLogger(__name__)

CACHE_FORMAT = 2
SECONDS_BETWEEN = 10.0
WORK_PER_WRITING = 20.0
"""Seconds of work, at least, between two writings that take one second each."""

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
        self,
        folder: Path,
        key: str,
        dataset: str,
        seconds: float = SECONDS_BETWEEN,
        strict: bool = False,
    ) -> None:
        self.folder = folder / key / quote(dataset, safe="")
        self.seconds, self.strict = seconds, strict
        self._warned = False
        self._next = time.monotonic() + seconds

    def load(
        self, category: str, samples: Sequence[Sample], levels: tuple[str, ...]
    ) -> CategoryRecord | None:
        """The record of an earlier run; None if there is none that fits the images as they are now.

        Raises:
            DataError: strict, and an image has changed or is gone.
        """
        record = self._read(category, levels)
        if record is not None and (path := _changed_image(record, samples)):
            if self.strict:
                raise DataError(
                    f"{path}: has changed or is gone since it was scored; restore it, or leave "
                    f"--resume out: then category {category} is scored again"
                )
            logger.warning("%s: files of category %s changed; scoring again", self.folder, category)
            record = None
        if record is None:
            with contextlib.suppress(OSError):
                self._log(category).clear()
        return record

    def _read(self, category: str, levels: tuple[str, ...]) -> CategoryRecord | None:
        path = self._path(category)
        try:
            record = _unpacked(category, levels, path) or CategoryRecord(category, levels)
            for batch in self._log(category).batches(len(record.rows), levels):
                record.add(batch)
        except Exception as error:  # a damaged file can raise anything, and is only a cache
            logger.warning("%s: cannot be used (%s); scoring again", path, error)
            return None
        return record if record.rows or record.unread else None

    def add(self, record: CategoryRecord, batch: Counted) -> None:
        """Keep a batch that the record has just counted.

        Raises:
            DataError: the disk is full.
        """
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            start = len(record.rows) - len(batch.rows)
            self._log(record.category).append(start, record.levels, batch)

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
            write_atomically(self._path(record.category), _packed(record))
            self._log(record.category).clear()
        spent = time.monotonic() - started
        self._next = time.monotonic() + max(self.seconds, WORK_PER_WRITING * spent)

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

    def _log(self, category: str) -> BatchLog:
        return BatchLog(self._path(category).with_suffix(".log"))

    def _path(self, category: str) -> Path:
        return self.folder / f"{quote(category, safe='')}.npz"


def _changed_image(record: CategoryRecord, samples: Sequence[Sample]) -> str | None:
    """Path of an image that was counted and has changed or is gone since; None if there is none."""
    known = {file_identity(sample) for sample in samples}
    return next((row.path for row in record.rows if row.identity not in known), None)


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
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _packed(record: CategoryRecord) -> bytes:
    arrays: dict[str, Any] = {"levels": np.array(record.levels), **row_arrays(record.rows)}
    arrays["unread"] = np.array(sorted(record.unread), "U24")
    arrays |= {f"pixel/{name}": value for name, value in record.pixel.state().items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _unpacked(category: str, levels: tuple[str, ...], path: Path) -> CategoryRecord | None:
    """The record in a file; None if there is none for these levels."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    if tuple(arrays["levels"].tolist()) != levels:
        return None
    state = {name[6:]: value for name, value in arrays.items() if name.startswith("pixel/")}
    record = CategoryRecord(category, levels, PixelMetrics.from_state(state), rows_in(arrays))
    record.unread = set(arrays["unread"].tolist())
    return record
