"""How long jobs report their progress: by bars on a terminal, by lines in a file, or not at all."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console

SECONDS_BETWEEN_LINES = 30.0
_SHOWN = ("total", "classification", "focal", "dice")
_LINES_OF_RATE = 10  # the rate is that of the last five minutes
_SECONDS_OF_BEFORE = (
    1.0  # what is reported so early was done by a run before, and counts in no rate
)


class Progress(Protocol):
    """What a job calls while it works."""

    def start(self, title: str, steps: int) -> None:
        """Begin a stage of ``steps`` steps."""
        return None

    def advance(self, done: int, values: dict[str, float]) -> None:
        """Report ``done`` more steps, with the latest figures by name."""
        return None


class NullProgress(Progress):
    """Shows nothing: its methods are those above, which do nothing."""


class Bars:
    """A bar for each stage on a terminal; the bars of finished stages stay."""

    def __init__(self, console: Console) -> None:
        from rich import progress

        self._progress = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[figures]}"),
            console=console,
        )
        self._task: progress.TaskID | None = None

    def __enter__(self) -> Bars:
        return self  # drawn from the first stage on, so that an error before it is one line

    def __exit__(self, *_: object) -> None:
        if self._task is not None:
            self._progress.stop()

    def start(self, title: str, steps: int) -> None:
        """Begin a stage of ``steps`` steps with a bar of its own."""
        if self._task is None:
            self._progress.start()
        self._task = self._progress.add_task(title, total=steps, figures="")

    def advance(self, done: int, values: dict[str, float]) -> None:
        """Report ``done`` more steps, with the latest figures by name."""
        if self._task is None:
            return
        if figures := _figures(values):
            self._progress.update(self._task, figures=figures)
        self._progress.advance(self._task, done)


class Lines:
    """A plain line every 30 seconds, for output that is kept in a file.

    A thread writes them, so that they also come while one step takes long. A stage that is over
    before its first line has none.

    Args:
        write: takes each line.
        clock: seconds, from any origin.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        every: float = SECONDS_BETWEEN_LINES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write, self._every, self._clock = write, every, clock
        self._over, self._thread = (
            threading.Event(),
            threading.Thread(target=self._run, daemon=True),
        )
        self._changing = threading.Lock()
        self._title, self._steps, self._done, self._figures = "", 0, 0, ""
        self._began = self._advanced = 0.0
        self._points: deque[tuple[float, int]] = deque(maxlen=_LINES_OF_RATE)

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def start(self, title: str, steps: int) -> None:
        """Begin a stage of ``steps`` steps; the first one starts the thread."""
        with self._changing:
            self._title, self._steps, self._done, self._figures = title, steps, 0, ""
            self._began = self._advanced = self._clock()
            self._points.clear()
            self._points.append((self._began, 0))
        if self._thread.ident is None:
            self._thread.start()

    def advance(self, done: int, values: dict[str, float]) -> None:
        """Report ``done`` more steps, with the latest figures by name."""
        with self._changing:
            self._done += done
            self._figures = _figures(values) or self._figures
            self._advanced = self._clock()
            if self._advanced - self._began < _SECONDS_OF_BEFORE:
                self._points[0] = (self._advanced, self._done)

    def report(self) -> None:
        """Write the line of now: steps done of all, rate and time left, or that there were none."""
        with self._changing:
            now, done = self._clock(), self._done
            (then, before), newest = self._points[0], self._points[-1][1]
            self._points.append((now, done))
            parts = [f"{self._title}: {done:,} of {self._steps:,}"]
            if done > newest:
                each = (now - then) / (done - before)
                parts.append(f"{1 / each:.3g} a second" if each <= 1 else f"{each:.3g} s each")
                parts.append(f"{_span((self._steps - done) * each)} left")
            else:
                parts.append(f"no step for {_span(now - self._advanced)}")
            parts += [self._figures] * bool(self._figures)
        self._write(", ".join(parts))

    def _run(self) -> None:
        while not self._over.wait(self._every):
            self.report()


def _figures(values: dict[str, float]) -> str:
    return "  ".join(f"{key} {values[key]:.3f}" for key in _SHOWN if key in values)


def _span(seconds: float) -> str:
    """Hours, minutes and seconds.

    >>> _span(3725.4)
    '1:02:05'
    """
    return str(timedelta(seconds=round(seconds)))
