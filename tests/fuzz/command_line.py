"""Values on the command line, with the jobs themselves left out: they end in one line, or begin."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

from bayes_pfl.cli.main import app, run_app
from bayes_pfl.errors import ConfigError

COMMANDS = ("predict", "evaluate", "train", "scoreboard", "calibrate", "class-names", "report")
# Where each command has read its options, and begins.
JOBS = (
    "bayes_pfl.checkpoints.load.load_checkpoint",
    "bayes_pfl.evaluate.run.run_benchmark",
    "bayes_pfl.scoreboard.run.run_scoreboard",
    "bayes_pfl.train.run.run_training",
    "bayes_pfl.predict.ray.predict_ray",
)


class Begun(ConfigError):
    """A job was reached."""


def _begin(*_: object, **__: object) -> None:
    raise Begun("begun")


def run_line(folder: Path, data: bytes) -> None:
    """The first byte chooses the command; NUL bytes divide the rest into its arguments.

    Raises:
        ConfigError: the line it refused with.
        AssertionError: another exit code than 2, or several lines of ours.
    """
    name = COMMANDS[data[0] % len(COMMANDS)] if data else "predict"
    arguments = [os.fsdecode(part) for part in data[1:].split(b"\0")]
    errors, code = io.StringIO(), 0
    with contextlib.ExitStack() as stack:
        for job in JOBS:
            stack.enter_context(patch(job, _begin))
        stack.enter_context(_working_in(folder))
        stack.enter_context(contextlib.redirect_stderr(errors))
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        try:
            run_app(app, [name, *arguments])
        except SystemExit as stopped:
            code = int(stopped.code or 0)
    text = errors.getvalue()
    if code not in (0, 2):
        raise AssertionError(f"exit code {code}: {text[:300]!r}")
    ours = "error: begun" not in text and "\n\nError: " not in text  # the others are Typer's
    if code == 2 and ours:
        raise ConfigError(text.strip())


@contextlib.contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
