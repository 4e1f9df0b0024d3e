"""Whether a file has changed since it was last seen: by its size and its time of change."""

from __future__ import annotations

import os
from typing import NamedTuple


class FileStamp(NamedTuple):
    """Size in bytes, and time of the last change in nanoseconds since 1970."""

    size: int
    changed_ns: int


UNREADABLE = FileStamp(-1, 0)


def file_stamp(path: str | os.PathLike[str]) -> FileStamp:
    """The stamp of a file; its content is not read.

    Raises:
        OSError: the file does not exist or cannot be reached.
    """
    status = os.stat(path)
    return FileStamp(status.st_size, status.st_mtime_ns)


def stamp_or_unreadable(path: str | os.PathLike[str]) -> FileStamp:
    """The stamp of a file, or `UNREADABLE` if it does not exist or cannot be reached."""
    try:
        return file_stamp(path)
    except OSError:
        return UNREADABLE
