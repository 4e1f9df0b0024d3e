"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import threading
import uuid
from pathlib import Path

from bayes_pfl.errors import ConfigError

_LEFTOVER = re.compile(r"\..+\.[0-9a-f]{32}|\.(predictions\.csv\.\d+|\d+-\d+)\.tmp")
_NO_ROOM = (errno.ENOSPC, errno.EROFS, getattr(errno, "EDQUOT", errno.ENOSPC))


def write_atomically(path: Path, data: bytes | str) -> Path:
    """Write ``data`` beside ``path``, flush it to the disk, then take the name in one step.

    Raises:
        OSError: the folder cannot be written or the disk is full; ``path`` is then as it was.
    """
    content = data.encode("utf-8") if isinstance(data, str) else data
    temporary = path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    return path


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


def write_whole(path: Path, data: bytes) -> None:
    """Write beside ``path`` and take its name in one step; safe from several threads.

    Nothing is forced to the disk: a picture that a power cut loses can be made again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def mirrored(base: Path, path: str, suffix: str) -> Path:
    """The output of ``path`` below ``base``: its whole name is kept, so a.png and a.jpg differ.

    >>> mirrored(Path("maps"), "left/a.jpg", ".png").as_posix()
    'maps/left/a.jpg.png'
    """
    return base / f"{path}{suffix}"


def why(error: Exception) -> str:
    """The reason that one picture was not written; a full disk is raised: no other would be."""
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        raise error
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(reason.split())


def not_writable(folder: Path, error: OSError) -> ConfigError:
    """The error for an output folder that cannot be used."""
    reason = "it is a file" if folder.is_file() else error.strerror or error
    return ConfigError(
        f"{folder}: cannot be written ({reason}); choose another output folder, on a disk with room"
    )
