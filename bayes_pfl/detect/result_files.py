"""Files of a single result: what `AnomalyResult.save` writes."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from bayes_pfl.errors import ConfigError
from bayes_pfl.support.files import write_atomically

_PICTURES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


def save_result(
    target: Path,
    path: str | None,
    anomaly_map: np.ndarray,
    overlay: Callable[[], Image.Image],
) -> list[Path]:
    """Write overlay, map or both; see :meth:`bayes_pfl.AnomalyResult.save`.

    Args:
        path: of the image's file; None for an image from memory.
        anomaly_map: float32 (H, W).
        overlay: draws the overlay.
    """

    def encoded(kind: str) -> bytes:
        buffer = io.BytesIO()
        if kind == ".npy":
            np.save(buffer, anomaly_map)
        else:
            overlay().save(buffer, _PICTURES[kind])
        return buffer.getvalue()

    try:
        files = _files(target, path)
        files[0].parent.mkdir(parents=True, exist_ok=True)
        return [write_atomically(file, encoded(file.suffix.lower())) for file in files]
    except OSError as error:
        raise ConfigError(
            f"{target}: not written ({error.strerror or error}); choose another place"
        ) from error


def _files(target: Path, path: str | None) -> list[Path]:
    if not target.is_dir() and target.suffix.lower() in (*_PICTURES, ".npy"):
        return [target]
    if path is None:
        raise ConfigError(
            f"{target}: an image from memory has no name for its files; give a file's name, "
            f"such as {target / 'part.png'}"
        )
    return [target / f"{Path(path).name}.{kind}" for kind in ("overlay.png", "map.npy")]
