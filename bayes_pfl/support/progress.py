"""How long jobs tell where they are: silently, or by bars with figures and the time left."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console

_SHOWN = ("total", "classification", "focal", "dice")


class Progress(Protocol):
    """What a job tells about itself."""

    def start(self, title: str, steps: int) -> None:
        """A stretch of ``steps`` begins."""

    def advance(self, done: int, values: dict[str, float]) -> None:
        """``done`` more steps, with the latest figures."""


class NullProgress:
    """No progress is shown."""

    def start(self, title: str, steps: int) -> None:
        """Nothing."""

    def advance(self, done: int, values: dict[str, float]) -> None:
        """Nothing."""


class Bars:
    """One bar at a time on a terminal; a finished stretch leaves its line."""

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
        return self  # drawn from the first stretch on: a mistake found before stays one line

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._progress.stop()

    def start(self, title: str, steps: int) -> None:
        """Begin a stretch of ``steps``."""
        if self._task is None:
            self._progress.start()
        self._task = self._progress.add_task(title, total=steps, figures="")

    def advance(self, done: int, values: dict[str, float]) -> None:
        """Report ``done`` more steps."""
        if self._task is None:
            return
        figures = "  ".join(f"{key} {values[key]:.3f}" for key in _SHOWN if key in values)
        if figures:
            self._progress.update(self._task, advance=done, figures=figures)
        else:
            self._progress.update(self._task, advance=done)
