"""Scores kept on disk while an evaluation runs, so that a stopped one goes on where it was.

One file per category below a folder whose name is a hash of all that shapes a score: the model's
weights and settings (backbone included), samples R, seed, precision, kind of device, version. So
results of other settings are never mixed. A file holds the row of each image done, by the identity
of its files, and the pixel counts of exactly these images; it is replaced whole or not at all.
Counts cannot be taken back: if an image that was counted has changed or gone, the category is
scored anew; new images are added.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
import torch

from bayes_pfl.data.records import Sample
from bayes_pfl.evaluation_input import file_identity
from bayes_pfl.evaluation_records import CategoryRecord, ImageRow
from bayes_pfl.files import write_atomically
from bayes_pfl.metrics import PixelMetrics

if TYPE_CHECKING:
    from bayes_pfl.evaluation import EvaluationSettings
    from bayes_pfl.model import BayesPFL

logger = logging.getLogger(__name__)

FORMAT = 1
SECONDS_BETWEEN = 10.0
WORK_PER_WRITING = 20.0
"""At least so many seconds of work go between two writings that take one second each."""

_COLUMNS = tuple(f.name for f in fields(ImageRow) if f.name not in ("identity", "path"))


class DatasetCache:
    """The files of one dataset, one model and one set of settings.

    Args:
        folder: of the whole cache; made when something is kept.
        key: of :func:`cache_key`.
        seconds: between two writings within a category, at least.
    """

    def __init__(
        self, folder: Path, key: str, dataset: str, seconds: float = SECONDS_BETWEEN
    ) -> None:
        self.folder = folder / key / quote(dataset, safe="")
        self.seconds = seconds
        self._next = time.monotonic() + seconds

    def load(
        self, category: str, samples: Sequence[Sample], levels: tuple[str, ...]
    ) -> CategoryRecord | None:
        """The record as far as it went; None if there is none that fits the files of today."""
        path = self._path(category)
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            if tuple(arrays["levels"].tolist()) != levels:
                return None
            rows = _rows(arrays)
            state = {k[6:]: v for k, v in arrays.items() if k.startswith("pixel/")}
            record = CategoryRecord(category, levels, PixelMetrics.from_state(state), rows)
        except FileNotFoundError:
            return None
        except Exception as error:  # a damaged file may fail in any way; it is only a cache
            logger.warning("%s: cannot be used (%s); scoring anew", path, error)
            return None
        known = {file_identity(sample) for sample in samples}
        if any(row.identity not in known for row in rows):
            logger.warning("%s: files of category %s changed; scoring anew", path, category)
            return None
        return record

    def keep(self, record: CategoryRecord, now: bool = False) -> None:
        """Write the record if it is time, or ``now``; a full disk is a warning, no more."""
        if not record.settled or not (now or time.monotonic() >= self._next):
            return
        started = time.monotonic()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path(record.category), _packed(record))
        except OSError as error:
            logger.warning("%s: not written (%s); a stop would lose it", self.folder, error)
        spent = time.monotonic() - started
        self._next = time.monotonic() + max(self.seconds, WORK_PER_WRITING * spent)

    def _path(self, category: str) -> Path:
        return self.folder / f"{quote(category, safe='')}.npz"


def cache_key(model: BayesPFL, fingerprint: str, settings: EvaluationSettings) -> str:
    """Hash of everything that shapes a score; batch size and workers do not."""
    from bayes_pfl import __version__

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


def model_fingerprint(model: BayesPFL) -> str:
    """SHA-256 of all weights, the backbone's included, and of the settings that shape a score."""
    digest = hashlib.sha256()
    scoring = asdict(model.config.scoring)
    backbone = asdict(model.config.backbone)
    relevant = {key: backbone[key] for key in ("image_size", "layers", "activation", "grid")}
    shape = [scoring, relevant, asdict(model.config.ablation)]
    digest.update(json.dumps(shape, sort_keys=True).encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        plain = value.detach().cpu().contiguous()
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _packed(record: CategoryRecord) -> bytes:
    arrays: dict[str, Any] = {
        "levels": np.array(record.levels),
        "identity": np.array([row.identity for row in record.rows], "U24"),
        "path": np.array([row.path for row in record.rows], np.str_),
    }
    for name in _COLUMNS:
        arrays[name] = np.array([getattr(row, name) for row in record.rows])
    arrays |= {f"pixel/{name}": value for name, value in record.pixel.state().items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _rows(arrays: dict[str, np.ndarray]) -> list[ImageRow]:
    names = ("identity", "path", *_COLUMNS)
    columns = (arrays[name].tolist() for name in names)
    return [ImageRow(**dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]
