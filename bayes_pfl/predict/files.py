"""The files of a prediction: predictions.csv and maps, each whole or not at all."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from bayes_pfl.errors import ConfigError
from bayes_pfl.predict.rows import Row
from bayes_pfl.support.files import raising_not_written

MapFormat = Literal["png16", "npy", "none"]
MAP_SUFFIX = {"png16": ".png", "npy": ".npy"}
_ROWS_AT_ONCE = 256  # of a huge map, no second copy in floats is made


def writing_to(folder: Path) -> AbstractContextManager[None]:
    """Within, an OSError becomes the ConfigError for an output folder that cannot be written."""
    mend = "choose another output folder, on a disk with room"
    return raising_not_written(folder, mend, ConfigError)


@contextmanager
def table_of_rows(path: Path) -> Iterator[Callable[[Row], object]]:
    """Within, a function that adds a row to a CSV file, which gets its name ``path`` at the end.

    UTF-8; bytes of file names that are not UTF-8 are kept (``errors="surrogateescape"``). Text is
    quoted, so that any name (with line breaks, beginning with "=") is read back unchanged.

    Raises:
        ConfigError: the folder cannot be made or written in.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with writing_to(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open(
                "w", encoding="utf-8", errors="surrogateescape", newline=""
            ) as file:
                writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
                writer.writerow([item.name for item in fields(Row)])
                yield lambda row: writer.writerow(row.cells())
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink()


def encode_map(anomaly_map: np.ndarray, kind: MapFormat | None) -> bytes:
    """float32 (H, W) in [0, 1] -> a file's bytes; ``png16`` holds round(65535 * value)."""
    if kind == "npy":
        buffer = io.BytesIO()
        np.save(buffer, anomaly_map)
        return buffer.getvalue()
    deep = np.empty(anomaly_map.shape, np.uint16)
    for start in range(0, len(deep), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        deep[rows] = np.rint(anomaly_map[rows] * np.float32(65535))
    return encode_png(Image.fromarray(deep))


def encode_png(picture: Image.Image) -> bytes:
    """A picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)  # a third of the time for a tenth more bytes
    return buffer.getvalue()
