"""Files of a single result: what `AnomalyResult.save` writes."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from bayes_pfl.errors import ConfigError
from bayes_pfl.support.files import write_atomically

_PICTURES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


@dataclass(frozen=True)
class ResultFiles:
    """What of a result can be written.

    Attributes:
        path: of the image's file; None for an image from memory.
        anomaly_map: float32 (H, W).
        overlay: draws the overlay.
    """

    path: str | None
    anomaly_map: np.ndarray
    overlay: Callable[[], Image.Image]

    def save(self, target: Path) -> list[Path]:
        """Write overlay, map or both; see :meth:`bayes_pfl.AnomalyResult.save`."""
        kind = target.suffix.lower()
        try:
            if target.is_dir() or kind not in (*_PICTURES, ".npy"):
                return self._save_both(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            return [write_atomically(target, self._encoded(kind))]
        except OSError as error:
            raise ConfigError(
                f"{target}: not written ({error.strerror or error}); choose another place"
            ) from error

    def _save_both(self, folder: Path) -> list[Path]:
        if self.path is None:
            raise ConfigError(
                f"{folder}: an image from memory has no name for its files; give a file's name, "
                f"such as {folder / 'part.png'}"
            )
        name = Path(self.path).name
        folder.mkdir(parents=True, exist_ok=True)
        return [
            write_atomically(folder / f"{name}.overlay.png", self._encoded(".png")),
            write_atomically(folder / f"{name}.map.npy", self._encoded(".npy")),
        ]

    def _encoded(self, kind: str) -> bytes:
        buffer = io.BytesIO()
        if kind == ".npy":
            np.save(buffer, self.anomaly_map)
        else:
            self.overlay().save(buffer, _PICTURES[kind])
        return buffer.getvalue()
