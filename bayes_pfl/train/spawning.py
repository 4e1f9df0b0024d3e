"""Runs one function in several new processes of this machine.

Progress, log and result of the first one are passed on; an error in any of them stops all.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import multiprocessing

from bayes_pfl.errors import BayesPFLError, ConfigError
from bayes_pfl.support.log import receive_record, send_records
from bayes_pfl.support.progress import NullProgress, Progress

_POLL_SECONDS = 0.05
_GRACE_SECONDS = 5


class _Relay:
    """Sends the progress of the first process to the one that started it."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel

    def start(self, title: str, steps: int) -> None:
        self.channel.put(("start", (title, steps)))

    def advance(self, done: int, values: dict[str, float]) -> None:
        self.channel.put(("advance", (done, values)))


def spawn(
    count: int, function: Callable[..., Any], arguments: tuple[Any, ...], progress: Progress
) -> Any:
    """Run ``function(*arguments, progress)`` in new processes; returns the first one's result.

    Function, arguments and result must be picklable. When one process fails, or this one is
    interrupted, all are stopped.

    Raises:
        BayesPFLError, OSError: what a process raised.
        ConfigError: a process was killed.
    """
    channel = multiprocessing.get_context("spawn").SimpleQueue()
    running = multiprocessing.start_processes(
        _enter,
        (count, _free_port(), channel, partial(function, *arguments)),
        nprocs=count,
        join=False,
        start_method="spawn",
    )
    results: dict[str, Any] = {}
    try:
        while not running.join(timeout=_POLL_SECONDS):
            _drain(channel, progress, results)
        _drain(channel, progress, results)
    except (multiprocessing.ProcessRaisedException, multiprocessing.ProcessExitedException) as end:
        _drain(channel, NullProgress(), results)
        raise results.get("error") or _killed(end) from None
    finally:
        _end(running.processes)
    return results["result"]


def _drain(channel: Any, progress: Progress, results: dict[str, Any]) -> None:
    while not channel.empty():
        kind, content = channel.get()
        if kind in ("start", "advance"):
            getattr(progress, kind)(*content)
        elif kind == "record":
            receive_record(content)
        else:  # of several errors the first is the cause of the others
            results.setdefault(kind, content)


def _killed(end: Any) -> Exception:
    """The error to raise for a process that died without reporting one."""
    name = getattr(end, "signal_name", None)
    if name is None:
        return RuntimeError(str(end))  # a fault of this package: with the process's traceback
    return ConfigError(
        f"process {end.error_index + 1} was killed by {name}, perhaps because memory ran out; "
        "raise --accumulate or lower --devices, then continue with --resume"
    )


def _end(processes: list[Any]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(_GRACE_SECONDS)
        process.kill()
        process.join()


def _free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("localhost", 0))
        port: int = chosen.getsockname()[1]
        return port


def _enter(rank: int, count: int, port: int, channel: Any, work: Callable[..., Any]) -> None:
    """What a started process runs."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "NODE_RANK": 0, "MASTER_PORT": port}
    numbers |= {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    os.environ.update({name: str(value) for name, value in numbers.items()})
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    if rank == 0:
        send_records(lambda record: channel.put(("record", record)))
    try:
        result = work(_Relay(channel) if rank == 0 else NullProgress())
    except (BayesPFLError, OSError) as error:
        channel.put(("error", error))
        sys.exit(1)
    if rank == 0:
        channel.put(("result", result))
