"""Files that are written whole or not at all, and the error for those that cannot be written."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from bayes_pfl.errors import BayesPFLError
from bayes_pfl.support.error_text import error_reason

Failure = TypeVar("Failure", bound=BayesPFLError)

_LEFTOVER = re.compile(
    r"\..+\.[0-9a-f]{32}|\.((predictions\.csv|regions\.csv|coco\.json)\.\d+|\d+-\d+)\.tmp"
)
_LONGEST_NAME = 255  # bytes
_NO_ROOM = (errno.ENOSPC, errno.EROFS, getattr(errno, "EDQUOT", errno.ENOSPC))


def write_atomically(path: Path, data: bytes | str, *, sync: bool = True) -> Path:
    """Write ``data`` to a temporary file in the same folder, then rename that to ``path``.

    Several threads and processes may do so at once.

    Args:
        data: text is written as UTF-8.
        sync: wait until the data is on the disk, so that it survives a power cut.

    Raises:
        OSError: the folder cannot be written or the disk is full; ``path`` is then unchanged.
    """
    content = data.encode("utf-8") if isinstance(data, str) else data
    temporary = path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    return path


def write_picture(path: Path, data: bytes) -> None:
    """Write a picture, and its folder if there is none, whole or not at all.

    Does not wait for the disk: a picture that a power cut loses can be made again.

    Raises:
        OSError: the folder cannot be written or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data, sync=False)


def remove_leftovers(*folders: Path, below: bool = False) -> None:
    """Remove the half-written files that a killed process left in folders of its run.

    Args:
        below: also in the folders below them.
    """
    for folder in folders:
        for place, inside, names in os.walk(folder):
            for name in filter(_LEFTOVER.fullmatch, names):
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(place, name))
            if not below:
                inside.clear()


def mirrored(path: str, suffix: str) -> str:
    """The output of ``path`` within a folder: its whole name is kept, so a.png and a.jpg differ.

    A name that would be longer than file systems take is cut, and a hash of it added.

    >>> mirrored("left/a.jpg", ".png")
    'left/a.jpg.png'
    """
    folder, slash, name = path.rpartition("/")
    whole = os.fsencode(name)
    if len(whole) + len(suffix) > _LONGEST_NAME:
        digest = hashlib.sha256(whole).hexdigest()[:16]
        kept = whole[: _LONGEST_NAME - len(suffix) - len(digest) - 1]
        name = f"{kept.decode(errors='ignore')}-{digest}"
    return f"{folder}{slash}{name}{suffix}"


def reason_unless_disk_full(error: Exception) -> str:
    """Why one picture was not written, in one line.

    Raises:
        OSError: ``error`` itself if the disk is full (or a quota is used up, or nothing may be
            written to it), because no other picture could be written.
    """
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        raise error
    return error_reason(error)


def not_written(path: Path | str, error: BaseException, mend: str, kind: type[Failure]) -> Failure:
    """The error for a file or a folder that cannot be written.

    Args:
        path: the file or the folder, or its URL.
        mend: what the user can do about it, such as "choose another --out".
        kind: the class of the error that is returned.

    >>> not_written("a/b.csv", OSError(28, "No space left on device"), "make room", BayesPFLError)
    BayesPFLError('a/b.csv: cannot be written (No space left on device); make room')
    """
    is_file = isinstance(error, (FileExistsError, NotADirectoryError)) and os.path.isfile(path)
    reason = "it is a file" if is_file else error_reason(error)
    return kind(f"{path}: cannot be written ({reason}); {mend}")


@contextlib.contextmanager
def raising_not_written(path: Path, mend: str, kind: type[BayesPFLError]) -> Iterator[None]:
    """Within, an OSError becomes the error that `not_written` makes of it.

    Raises:
        kind: ``path`` cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise not_written(path, error, mend, kind) from error
