"""Scores kept on disk while an evaluation runs, so that a stopped one goes on where it was.

One file per category below a folder whose name is a hash of all that shapes a score: the model's
weights and settings (backbone included), samples R, seed, precision, kind of device, version. So
results of other settings are never mixed. A file holds the row of each image done, by the identity
of its files, and the pixel counts of exactly these images; it is replaced whole or not at all. What
was scored since stands in a log beside it, batch by batch.
Counts cannot be taken back: if an image that was counted has changed or gone, the category is
scored anew, or (strict) the run refused; new images are added.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import logging
import time
from collections.abc import Sequence
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
from bayes_pfl.support.files import write_atomically
from bayes_pfl.support.version import __version__

if TYPE_CHECKING:
    from bayes_pfl.evaluate.categories import EvaluationSettings
    from bayes_pfl.model.network import BayesPFLNetwork

logger = logging.getLogger(__name__)

FORMAT = 2
SECONDS_BETWEEN = 10.0
WORK_PER_WRITING = 20.0
"""At least so many seconds of work go between two writings that take one second each."""

_NO_ROOM = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


class DatasetCache:
    """The files of one dataset, one model and one set of settings.

    Args:
        folder: of the whole cache; made when something is kept.
        key: of :func:`cache_key`.
        seconds: between two writings of the counts within a category, at least.
        strict: refuse files that have changed or gone since they were scored.
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
        self._told = False
        self._next = time.monotonic() + seconds

    def load(
        self, category: str, samples: Sequence[Sample], levels: tuple[str, ...]
    ) -> CategoryRecord | None:
        """The record as far as it went; None if there is none that fits the files of today.

        Raises:
            DataError: strict, and they have changed.
        """
        record = self._read(category, levels)
        if record is not None and (path := self._changed(record, samples)):
            if self.strict:
                raise DataError(
                    f"{path}: has changed or gone since it was scored; restore it, or leave "
                    f"--resume out: then category {category} is scored anew"
                )
            logger.warning("%s: files of category %s changed; scoring anew", self.folder, category)
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
        except Exception as error:  # a damaged file may fail in any way; it is only a cache
            logger.warning("%s: cannot be used (%s); scoring anew", path, error)
            return None
        return record if record.rows or record.unread else None

    def _changed(self, record: CategoryRecord, samples: Sequence[Sample]) -> str:
        """Path of an image that was counted and is not among the samples as it was; or nothing."""
        known = {file_identity(sample) for sample in samples}
        return next((row.path for row in record.rows if row.identity not in known), "")

    def add(self, record: CategoryRecord, batch: Counted) -> None:
        """Keep a batch that the record has just counted.

        Raises:
            DataError: a full disk.
        """
        start = len(record.rows) - len(batch.rows)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._log(record.category).append(start, record.levels, batch)
        except OSError as error:
            self._tell(error)

    def keep(self, record: CategoryRecord, now: bool = False) -> None:
        """Write the counts if it is time, or ``now``.

        Raises:
            DataError: a full disk.
        """
        if not record.settled or not (now or time.monotonic() >= self._next):
            return
        started = time.monotonic()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path(record.category), _packed(record))
            self._log(record.category).clear()
        except OSError as error:
            self._tell(error)
        spent = time.monotonic() - started
        self._next = time.monotonic() + max(self.seconds, WORK_PER_WRITING * spent)

    def _tell(self, error: OSError) -> None:
        if error.errno in _NO_ROOM:  # the results would find none either
            raise DataError(
                f"{self.folder}: not written ({error.strerror}); what was scored before is kept: "
                "make room, then give the same command again"
            ) from error
        if not self._told:
            logger.warning("%s: not written (%s); a stop would lose it", self.folder, error)
            self._told = True

    def _log(self, category: str) -> BatchLog:
        return BatchLog(self._path(category).with_suffix(".log"))

    def _path(self, category: str) -> Path:
        return self.folder / f"{quote(category, safe='')}.npz"


def cache_key(model: BayesPFLNetwork, fingerprint: str, settings: EvaluationSettings) -> str:
    """Hash of everything that shapes a score; batch size and workers do not."""
    count = model.config.scoring.samples if settings.samples is None else settings.samples
    parts = {
        "format": FORMAT,
        "version": __version__,
        "model": fingerprint,
        "samples": count,
        "seed": settings.seed,
        "precision": settings.precision,
        "device": model.device.type,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _packed(record: CategoryRecord) -> bytes:
    arrays: dict[str, Any] = {"levels": np.array(record.levels), **row_arrays(record.rows)}
    arrays["unread"] = np.array(sorted(record.unread), "U24")
    arrays |= {f"pixel/{name}": value for name, value in record.pixel.state().items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _unpacked(category: str, levels: tuple[str, ...], path: Path) -> CategoryRecord | None:
    """The record of a file; None if there is none for these levels."""
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
