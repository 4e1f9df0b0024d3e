"""Processes that ``torchrun`` has started: which of them this is, and which one reports errors."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from bayes_pfl.errors import BayesPFLError

_TOLD = "bayes-pfl: an error was told"


class StoppedElsewhere(BayesPFLError):
    """Another process of the run met an error, and has told it."""


def launched_outside() -> bool:
    """Whether ``torchrun`` started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_first_process() -> bool:
    """Whether this process speaks for the run."""
    return not launched_outside() or os.environ.get("RANK", "0") == "0"


def leave() -> None:
    """End the connection to the other processes, where there is one."""
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@contextlib.contextmanager
def first_error_only() -> Iterator[None]:
    """Of several processes that ``torchrun`` started, the first to fail tells its error.

    Raises:
        StoppedElsewhere: in the other processes.
    """
    try:
        yield
    except (BayesPFLError, OSError) as error:
        if _errors_told(1) > 1:
            raise StoppedElsewhere("another process has told why it stopped") from error
        raise
    except RuntimeError as error:  # the connection to a process that stopped, or a fault of ours
        if _errors_told(0) > 0:
            raise StoppedElsewhere("another process has told why it stopped") from error
        raise


def _errors_told(more: int) -> int:
    """How many processes have met an error, with ``more`` from here."""
    import torch

    if not torch.distributed.is_initialized():  # every process meets it: one of a machine tells
        return more if os.environ.get("LOCAL_RANK", "0") == "0" else 2 * more
    try:
        return int(torch.distributed.distributed_c10d._get_default_store().add(_TOLD, more))
    except RuntimeError:  # the process that kept the count is gone
        return 2
