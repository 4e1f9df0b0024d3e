"""Ends the app when it is asked to, whatever it is doing."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import uvicorn

GRACE = 2
"""Seconds in which open requests may finish."""
_LIMIT = 5.0  # seconds from the signal to an end by force
_JOIN = 2.0  # seconds in which threads may finish


@contextmanager
def ending_on_signals(server: uvicorn.Server, folder: Path) -> Iterator[None]:
    """Within, Ctrl-C or SIGTERM ends the process in five seconds if its threads do not end.

    uvicorn waits for its requests and Python for its threads: one that computes for minutes, or
    reads what has no end, would keep the process alive.

    Args:
        folder: deleted before the process ends by force.
    """
    before, over, asked = set(threading.enumerate()), threading.Event(), server.handle_exit

    def handle(number: int, frame: FrameType | None) -> None:
        threading.Thread(target=_end, args=(number, folder, over), daemon=True).start()
        asked(number, frame)

    server.handle_exit = handle
    try:
        yield
    finally:
        if _joined(before):
            over.set()


def _joined(before: set[threading.Thread]) -> bool:
    """Whether all threads since then end within two seconds."""
    end = time.monotonic() + _JOIN
    for thread in set(threading.enumerate()) - before:
        if not thread.daemon:
            thread.join(max(0.0, end - time.monotonic()))
            if thread.is_alive():
                return False
    return True


def _end(number: int, folder: Path, over: threading.Event) -> None:
    if not over.wait(_LIMIT):
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(128 + number)
