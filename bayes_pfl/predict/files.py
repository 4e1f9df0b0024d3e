"""The files of a prediction: rows of predictions.csv, maps, overlays. Each whole or not at all."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from PIL import Image
from torch import Tensor

from bayes_pfl.detect.overlays import overlay
from bayes_pfl.detect.results import resize_map, score_note
from bayes_pfl.support.files import mirrored, not_writable, reason_unless_disk_full, write_picture
from bayes_pfl.support.run_names import MAPS, OVERLAYS

MapFormat = Literal["png16", "npy", "none"]
MAP_SUFFIX = {"png16": ".png", "npy": ".npy"}
_ROWS_AT_ONCE = 256  # of a huge map, no second copy in floats is made


@dataclass(frozen=True)
class Row:
    """One image in predictions.csv, in the order of its columns; empty where nothing is known.

    Attributes:
        path: within the folder, with forward slashes.
        label: 1 if the score reached the threshold, else 0; None without a threshold.
        error: why the image could not be read, or its map or overlay not be written.
        score_low, score_high: ends of the score's credible interval.
        needs_review: 1 if these straddle the threshold, else 0; None without a threshold.
        p_value: share of normal images that score as high; None without a calibration.
    """

    path: str
    class_name: str
    score: float | None = None
    label: int | None = None
    uncertainty: float | None = None
    text_score: float | None = None
    map_score: float | None = None
    width: int | None = None
    height: int | None = None
    error: str = ""
    score_low: float | None = None
    score_high: float | None = None
    needs_review: int | None = None
    p_value: float | None = None

    def cells(self) -> list[Any]:
        """Values for a csv writer, figures with six digits after the point."""
        values = [getattr(self, item.name) for item in fields(self)]
        return ["" if v is None else round(v, 6) if isinstance(v, float) else v for v in values]


class RowFile:
    """Rows written as they come into a file beside ``path``, which takes its name at the end.

    UTF-8; bytes of file names that are not UTF-8 are kept (``errors="surrogateescape"``). Text is
    quoted, so that any name (with line breaks, beginning with "=") is read back as it was.

    Raises:
        ConfigError: the folder cannot be made or written in.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._temporary.open(
                "w", encoding="utf-8", errors="surrogateescape", newline=""
            )
        except OSError as error:
            raise not_writable(path.parent, error) from error
        self._writer = csv.writer(self._file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
        self._writer.writerow([item.name for item in fields(Row)])

    def write(self, row: Row) -> None:
        """Add a row."""
        try:
            self._writer.writerow(row.cells())
        except OSError as error:
            raise not_writable(self.path.parent, error) from error

    def __enter__(self) -> RowFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            with self._file:
                self._file.flush()
                os.fsync(self._file.fileno())
            if kind is None:
                os.replace(self._temporary, self.path)
        except OSError as fault:
            if kind is None:
                raise not_writable(self.path.parent, fault) from fault
        finally:
            self._temporary.unlink(missing_ok=True)


@dataclass(frozen=True)
class Pictures:
    """What is to be written for each image, and where.

    Attributes:
        out: holds maps/ and overlays/.
        map_threshold: outlined on overlays.
        map_range: map values at the two ends of the overlays' colours.
        doubt: overlays get a panel of the uncertainty.
    """

    out: Path
    maps: MapFormat = "png16"
    overlays: bool = True
    map_threshold: float | None = None
    map_range: tuple[float, float] = (0.0, 1.0)
    doubt: bool = False

    def write(
        self,
        row: Row,
        anomaly_map: Tensor,
        size: tuple[int, int],
        preview: np.ndarray | None,
        spread: Tensor | None = None,
    ) -> str:
        """Write what was asked for; returns why that failed, or an empty string.

        Args:
            anomaly_map: (S, S) in [0, 1]; the file gets the image's own size.
            size: (width, height) of the image.
            preview: uint8 (h, w, 3), the image or a smaller copy.
            spread: (S, S) in [0, 0.5], the uncertainty, if overlays are to show it.
        """
        what = "map"
        try:
            if self.maps != "none":
                path = mirrored(self.out / MAPS, row.path, MAP_SUFFIX[self.maps])
                write_picture(path, encode_map(resize_map(anomaly_map, size), self.maps))
            what = "overlay"
            if preview is not None:
                path = mirrored(self.out / OVERLAYS, row.path, ".png")
                write_picture(path, self._overlay(row, anomaly_map, preview, spread))
        except Exception as error:  # a picture must not cost the scores of thousands of others
            return f"{what} not written: {reason_unless_disk_full(error)}"
        return ""

    def names(self, path: str) -> list[Path]:
        """The files that an image's row stands for."""
        found = []
        if self.maps != "none":
            found.append(mirrored(self.out / MAPS, path, MAP_SUFFIX[self.maps]))
        if self.overlays:
            found.append(mirrored(self.out / OVERLAYS, path, ".png"))
        return found

    def _overlay(
        self, row: Row, anomaly_map: Tensor, preview: np.ndarray, spread: Tensor | None
    ) -> bytes:
        picture = overlay(
            Image.fromarray(preview),
            anomaly_map.numpy(),
            threshold=self.map_threshold,
            title=row.path,
            note=score_note(row.score or 0.0, (row.score_low or 0.0, row.score_high or 0.0)),
            limits=self.map_range,
            uncertainty=spread.numpy() if self.doubt and spread is not None else None,
        )
        return _png(picture)


def encode_map(anomaly_map: np.ndarray, kind: MapFormat) -> bytes:
    """float32 (H, W) in [0, 1] -> a file's bytes; ``png16`` holds round(65535 * value)."""
    if kind == "npy":
        buffer = io.BytesIO()
        np.save(buffer, anomaly_map)
        return buffer.getvalue()
    deep = np.empty(anomaly_map.shape, np.uint16)
    for start in range(0, len(deep), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        deep[rows] = np.rint(anomaly_map[rows] * np.float32(65535))
    return _png(Image.fromarray(deep))


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)  # a third of the time for a tenth more bytes
    return buffer.getvalue()
