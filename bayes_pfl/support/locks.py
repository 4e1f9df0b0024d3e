"""Files that one process at a time may write to."""

from __future__ import annotations

import io
from pathlib import Path

from bayes_pfl.errors import ConfigError


def lock(file: io.FileIO, path: Path) -> None:
    """Hold an open file against other processes, until it is closed or this process ends.

    Processes forked from this one hold nothing: workers that outlive it are in nobody's way.

    Raises:
        ConfigError: another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        raise ConfigError(
            f"{path}: another run is writing there; wait for its end, or choose another --out"
        ) from error
    except OSError:  # file systems without locks
        return
