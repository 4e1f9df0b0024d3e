"""What the package logs, under the name bayes_pfl, on its way to people and between processes.

Who uses the package in Python sees warnings, as of any library, and sets more up with ``logging``.
"""

from __future__ import annotations

import logging
import logging.handlers
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

PACKAGE = "bayes_pfl"


class _Lines(logging.Handler):
    """Gives each record to a function as a line; warnings and worse begin with what they are."""

    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__()
        self.write = write

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        serious = record.levelno >= logging.WARNING
        self.write(f"{record.levelname}: {text}" if serious else text)


class _Sending(logging.handlers.QueueHandler):
    """Gives each record, as text that travels, to a function."""

    def enqueue(self, record: logging.LogRecord) -> None:
        self.queue(record)  # type: ignore[operator]


@contextmanager
def logged_to(write: Callable[[str], None], level: int = logging.INFO) -> Iterator[None]:
    """Within, the package's records from a level on are written, and other libraries' warnings."""
    handler, package = _Lines(write), logging.getLogger(PACKAGE)
    before = package.level
    package.setLevel(level)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        package.setLevel(before)


def send_records(send: Callable[[Any], None]) -> None:
    """From now on, this process gives what the package logs to a function, for another process."""
    package = logging.getLogger(PACKAGE)
    package.addHandler(_Sending(send))  # type: ignore[arg-type]
    package.setLevel(logging.INFO)
    package.propagate = False  # libraries set up the root as they like


def receive_record(record: logging.LogRecord) -> None:
    """Log what another process has sent, where this one logs such a level."""
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)
