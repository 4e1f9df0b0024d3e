"""Ends a server when it is asked to, whatever it is doing."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_JOIN = 2.0  # seconds in which threads may finish

OnSignal = Callable[[int, FrameType | None], None]


@contextmanager
def ending_on_signals(
    server: Any, limit: float, cleanup: Callable[[], object], on_signal: OnSignal | None = None
) -> Iterator[None]:
    """Within, Ctrl-C or SIGTERM ends the process in ``limit`` seconds if its threads do not end.

    uvicorn waits for its requests and Python for its threads: one that computes for minutes, or
    reads what has no end, would keep the process alive.

    Args:
        server: of uvicorn.
        cleanup: called before the process ends by force.
        on_signal: called in place of uvicorn's own handler.
    """
    before, over = set(threading.enumerate()), threading.Event()
    asked = on_signal or server.handle_exit

    def end(number: int) -> None:
        if not over.wait(limit):
            cleanup()
            os._exit(128 + number)

    def handle(number: int, frame: FrameType | None) -> None:
        threading.Thread(target=end, args=(number,), daemon=True).start()
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
