"""Work in forked processes that are killed: a fork starts in milliseconds, a Python in seconds.

Forked, not spawned: everything is imported already, and nothing of the child's end is tidy.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bayes_pfl.support.journal import Journal

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
    """Content of every file below a folder by its path, hidden ones included; of pages without the
    minute of the run's end."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    return {
        name: _END.sub(b"", path.read_bytes()) if path.suffix == ".html" else path.read_bytes()
        for name, path in found.items()
        if path.is_file() and name.split("/")[0] not in left_out
    }


def same(found: dict[str, bytes], expected: dict[str, bytes]) -> None:
    """Assert that two folders hold the same files; a fault names those that differ."""
    assert sorted(found) == sorted(expected)
    assert [name for name in found if found[name] != expected[name]] == []


_END = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d UTC")

Work = Callable[[bool], object]
"""A run, and whether one was killed before it: then it resumes."""


def at_random_moments(
    count: int, work: Work, prepare: Callable[[], object], check: Callable[[], object]
) -> None:
    """Kill a run at random moments, one or several times, then let it end and check it."""
    rng = np.random.default_rng(0)
    whole = seconds_of(lambda: work(False))
    kills = 0
    while kills < count:
        prepare()
        for again in range(int(rng.integers(1, 4))):
            moment = rng.uniform(0, whole)
            if killed_after(moment, lambda r=bool(again): work(r)) != KILLED:
                break
            kills += 1
        assert ended(started(lambda: work(True))) == 0
        check()


def at_each_write(
    step: int, work: Work, prepare: Callable[[], object], check: Callable[[], object]
) -> int:
    """Kill a run before and after what it writes, at every ``step``-th of these moments.

    Returns:
        About how many such moments a run has.
    """

    def stopped(event: int, resume: bool) -> None:
        with pytest.MonkeyPatch.context() as patch:
            _kill_at(event, patch)
            work(resume)

    event = 0
    while True:
        prepare()
        if ended(started(lambda e=event: stopped(e, False))) != KILLED:
            return event
        if event % 3 == 0:  # killed again while it goes on
            ended(started(lambda e=event: stopped(e // 2, True)))
        assert ended(started(lambda: work(True))) == 0
        check()
        event += step


def _kill_at(event: int, patch: pytest.MonkeyPatch) -> None:
    """Patch all that a run writes by: the process is killed at the n-th of these."""
    left = [event]

    def count() -> None:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def wrap(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def wrapped(*arguments: Any, **options: Any) -> Any:
            count()
            result = original(*arguments, **options)
            count()
            return result

        patch.setattr(owner, name, wrapped)

    for owner, name in ((os, "replace"), (os, "unlink"), (Journal, "_write"), (Journal, "_cut")):
        wrap(owner, name)
