"""How long jobs report their progress: by bars with figures and the time left, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console

_SHOWN = ("total", "classification", "focal", "dice")


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
        figures = "  ".join(f"{key} {values[key]:.3f}" for key in _SHOWN if key in values)
        if figures:
            self._progress.update(self._task, figures=figures)
        self._progress.advance(self._task, done)
