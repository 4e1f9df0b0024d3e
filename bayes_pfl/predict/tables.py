"""Files of a run that grow row by row, and appear whole at the end."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from bayes_pfl.errors import ConfigError
from bayes_pfl.predict.rows import COLUMNS, REGION_COLUMNS, Row
from bayes_pfl.support.files import raising_not_written


def writing_to(folder: Path) -> AbstractContextManager[None]:
    """Within, an OSError becomes the ConfigError for an output folder that cannot be written."""
    mend = "choose another output folder, on a disk with room"
    return raising_not_written(folder, mend, ConfigError)


@contextmanager
def written_whole(path: Path) -> Iterator[TextIO]:
    """Within, a text file that gets its name ``path`` at the end.

    UTF-8; bytes of file names that are not UTF-8 are kept (``errors="surrogateescape"``).

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
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def table_of_rows(path: Path) -> Iterator[Callable[[Row], object]]:
    """Within, a function that adds a row to a CSV file, which gets its name ``path`` at the end.

    Text is quoted, so that any name (with line breaks, beginning with "=") is read back unchanged.

    Raises:
        ConfigError: as :func:`written_whole`.
    """
    with _table(path, COLUMNS) as writer:
        yield lambda row: writer.writerow(row.cells())


@contextmanager
def table_of_regions(path: Path) -> Iterator[Callable[[Row], object]]:
    """As :func:`table_of_rows`, with a row for each region of the rows that are added."""
    with _table(path, REGION_COLUMNS) as writer:
        yield lambda row: writer.writerows(row.region_cells())


@contextmanager
def _table(path: Path, columns: Sequence[str]) -> Iterator[Any]:
    with written_whole(path) as file:
        writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
        writer.writerow(columns)
        yield writer
