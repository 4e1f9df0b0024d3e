"""Files of a single result: what `AnomalyResult.save` writes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bayes_pfl.errors import ConfigError
from bayes_pfl.support.files import write_atomically

if TYPE_CHECKING:
    from bayes_pfl.detect.results import AnomalyResult

_PICTURES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


def save_result(result: AnomalyResult, target: Path) -> list[Path]:
    """Write overlay, map or both; see :meth:`bayes_pfl.AnomalyResult.save`."""
    kind = target.suffix.lower()
    try:
        if target.is_dir() or kind not in (*_PICTURES, ".npy"):
            return _save_both(result, target)
        target.parent.mkdir(parents=True, exist_ok=True)
        return [write_atomically(target, _encoded(result, kind))]
    except OSError as error:
        raise ConfigError(
            f"{target}: not written ({error.strerror or error}); choose another place"
        ) from error


def _save_both(result: AnomalyResult, folder: Path) -> list[Path]:
    if result.path is None:
        raise ConfigError(
            f"{folder}: an image from memory has no name for its files; give a file's name, such "
            f"as {folder / 'part.png'}"
        )
    name = Path(result.path).name
    folder.mkdir(parents=True, exist_ok=True)
    return [
        write_atomically(folder / f"{name}.overlay.png", _encoded(result, ".png")),
        write_atomically(folder / f"{name}.map.npy", _encoded(result, ".npy")),
    ]


def _encoded(result: AnomalyResult, kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == ".npy":
        np.save(buffer, result.anomaly_map)
    else:
        result.overlay().save(buffer, _PICTURES[kind])
    return buffer.getvalue()
