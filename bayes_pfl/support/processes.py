"""Cores of this process, which one of ``torchrun`` it is and which reports an error; SIGTERM."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from bayes_pfl.errors import BayesPFLError

_ERRORS = "bayes-pfl: errors"  # key in the store that torchrun's processes share


class StoppedElsewhere(BayesPFLError):
    """Another process of the run failed, and reports the error; this one only stops."""


def usable_cores() -> int:
    """Processor cores that this process may use, where the system says it, else all: at least 1."""
    if hasattr(os, "sched_getaffinity"):  # fewer than there are in a job of a cluster
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def launched_outside() -> bool:
    """Whether ``torchrun`` started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_first_process() -> bool:
    """Whether this process writes the messages of the run."""
    return not launched_outside() or os.environ.get("RANK", "0") == "0"


def close_process_group() -> None:
    """Close the connection to the other processes, if there is one."""
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@contextlib.contextmanager
def first_error_only() -> Iterator[None]:
    """Let only the first process that fails raise its error; for processes of ``torchrun``.

    Raises:
        StoppedElsewhere: in the other processes.
    """
    elsewhere = StoppedElsewhere("another process has reported why it stopped")
    try:
        yield
    except (BayesPFLError, OSError) as error:
        if _errors_met(1) > 1:
            raise elsewhere from error
        raise
    except RuntimeError as error:  # a lost connection to a process that stopped, or a bug here
        if _errors_met(0) > 0:
            raise elsewhere from error
        raise


def _errors_met(here: int) -> int:
    """How many processes have met an error, after adding those of this one."""
    import torch

    if not torch.distributed.is_initialized():
        # Every process meets the error: the first one of a machine reports it.
        return here if os.environ.get("LOCAL_RANK", "0") == "0" else 2 * here
    try:
        return int(torch.distributed.distributed_c10d._get_default_store().add(_ERRORS, here))
    except RuntimeError:  # the process that holds the store has ended
        return 2


class Terminated(KeyboardInterrupt):
    """The process received SIGTERM; handled as Ctrl-C is."""


@contextlib.contextmanager
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
