"""Work in forked processes that are killed: a fork starts in milliseconds, a Python in seconds.

Forked, not spawned: everything is imported already, and nothing of the child's end is tidy.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

KILLED = -signal.SIGKILL


def started(work: Callable[[], object]) -> int:
    """Process id of a child that runs ``work`` and ends with code 0, or 1 after an error."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        torch.set_num_threads(1)
        work()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException as error:
        print(f"in a forked process: {type(error).__name__}: {error}", file=sys.__stderr__)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def ended(process: int) -> int:
    """Exit code of a child, negative of a signal; waits for it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def killed_after(seconds: float, work: Callable[[], object], number: int = signal.SIGKILL) -> int:
    """Exit code of a child that got a signal after some time, if it still ran."""
    process = started(work)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(min(0.002, max(0.0, until - time.monotonic())))
    os.kill(process, number)
    return ended(process)


def seconds_of(work: Callable[[], object]) -> float:
    """How long a child takes that is left alone."""
    begun = time.monotonic()
    if code := ended(started(work)):
        raise RuntimeError(f"the child ended with {code}")
    return time.monotonic() - begun


def files_of(folder: Path, *left_out: str) -> dict[str, bytes]:
    """Content of every file below a folder by its path, hidden ones included."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    return {
        name: path.read_bytes()
        for name, path in found.items()
        if path.is_file() and name.split("/")[0] not in left_out
    }
