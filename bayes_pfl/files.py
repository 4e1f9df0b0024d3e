"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from pathlib import Path

_LEFTOVER = re.compile(r"\..+\.[0-9a-f]{32}|\.(predictions\.csv\.\d+|\d+-\d+)\.tmp")


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
