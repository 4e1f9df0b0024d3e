"""SIGTERM as an exception, so that a run that is stopped leaves whole files."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """The process received SIGTERM; handled as Ctrl-C is."""


@contextmanager
def terminable() -> Iterator[None]:
    """Within, SIGTERM raises :class:`Terminated` in the main thread; a second one ends at once.

    Processes that are forked from this one end at SIGTERM as usual. Called from another thread
    than the main one, it changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def terminate(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() != owner:
            os.kill(os.getpid(), number)
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
