"""Files that one process at a time may write to."""

from __future__ import annotations

import io
from pathlib import Path

from bayes_pfl.errors import ConfigError


def lock(file: io.FileIO, path: Path) -> None:
    """Keep other processes from locking an open file, until it is closed or this process ends.

    Processes forked from this one do not hold the lock, so workers that outlive it block nobody.

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
            f"{path}: another run is writing there; wait until it ends, or choose another --out"
        ) from error
    except OSError:  # file systems without locks
        return
