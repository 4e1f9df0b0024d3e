"""The command line: ``bayes-pfl train | evaluate | predict | convert | ...``.

Heavy imports wait inside the commands, so that ``--help`` and mistakes answer at once.
"""

from __future__ import annotations

import logging
import signal
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Exit, Option, Typer
from typer.core import TyperGroup

from bayes_pfl.cli import app as pages
from bayes_pfl.cli import (
    calibrate,
    class_names,
    datasets,
    evaluate,
    export,
    predict,
    profiles,
    resize,
    scoreboard,
    serve,
    synthesize,
    train,
)
from bayes_pfl.cli import options as opt
from bayes_pfl.cli.tables import show
from bayes_pfl.data.records import DatasetWarning
from bayes_pfl.errors import BayesPFLError, ConfigError
from bayes_pfl.support.error_text import printable
from bayes_pfl.support.log import PACKAGE, logged_to
from bayes_pfl.support.processes import (
    StoppedElsewhere,
    Terminated,
    is_first_process,
    terminable,
)
from bayes_pfl.support.version import __version__

_RESUMABLE = ("predict", "evaluate", "train")
_PYTHONS_WARNING = warnings.formatwarning


class _Stopped(Exception):
    """Ctrl-C or SIGTERM, past the framework, which would end with 130 and no word."""

    def __init__(self, stop: KeyboardInterrupt, command: str | None) -> None:
        self.code = 128 + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)
        kept = str(stop.args[0]) if stop.args else "what was finished is kept"
        super().__init__(f"stopped; {kept}" + "; go on with --resume" * (command in _RESUMABLE))


class _Commands(TyperGroup):
    """The commands; a stop becomes an exception that the framework does not swallow."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().make_context(*args, **kwargs)
        except KeyboardInterrupt as stop:  # while the arguments were read
            raise _Stopped(stop, None) from stop

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            raise _Stopped(stop, ctx.invoked_subcommand) from stop


app = Typer(
    name="bayes-pfl",
    cls=_Commands,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,  # its tables cut the names of options at 80 columns
    pretty_exceptions_enable=False,
)
app.add_typer(datasets.app, name="datasets")


def _say_version(wanted: bool) -> None:
    if wanted:
        opt.say(f"bayes-pfl {__version__}")
        raise Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        Option(
            "--version", callback=_say_version, is_eager=True, help="Print the version and stop."
        ),
    ] = False,
    quiet: Annotated[
        bool, Option("--quiet", help="No progress and no remarks: results, warnings and errors.")
    ] = False,
) -> None:
    """Zero-shot anomaly detection by Bayesian prompt flow learning."""
    if quiet:
        logging.getLogger(PACKAGE).setLevel(logging.WARNING)


def main() -> None:
    """Entry point: one line and an exit code for what a user can mend, no traceback."""
    run_app(app, sys.argv[1:])


def run_tool(command: str) -> None:
    """Entry point of ``tools/<command>.py``: the same as ``bayes-pfl <command>``."""
    run_app(app, [command, *sys.argv[1:]])


def _one_line(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """What is odd in the data as a note in one line; other warnings as Python writes them."""
    if issubclass(category, DatasetWarning):
        return f"note: {message}\n"
    return _PYTHONS_WARNING(message, category, filename, lineno, line)


def run_app(app: Typer, arguments: list[str]) -> None:
    """Run a command line; what a user can mend ends in one line and an exit code."""
    warnings.formatwarning = _one_line
    level = logging.INFO if is_first_process() else logging.WARNING
    try:
        _refuse_empty(arguments)
        with terminable(), logged_to(opt.warn, level):
            app(arguments)
    except StoppedElsewhere:
        sys.exit(2)
    except (BayesPFLError, OSError) as error:
        _complain(error)
        sys.exit(2)
    except (KeyboardInterrupt, _Stopped) as stop:
        # Without a command: before one has begun, or after its end.
        stopped = stop if isinstance(stop, _Stopped) else _Stopped(stop, None)
        if is_first_process():
            opt.warn(str(stopped), style="yellow")
        sys.exit(stopped.code)


def _refuse_empty(arguments: list[str]) -> None:
    """Raise ConfigError for a value without a character: as a path it is the working folder.

    A class name has a refusal of its own.
    """
    for before, value in zip(["bayes-pfl", *arguments], arguments, strict=False):
        name = before if not value else value.removesuffix("=")
        if (not value or (name != value and value.startswith("--"))) and name != "--class-name":
            raise ConfigError(
                f"an empty value after {name}: give one, or leave the option out; perhaps a "
                "variable of the shell is not set"
            )


def _complain(error: BayesPFLError | OSError) -> None:
    message = str(error)
    if isinstance(error, OSError):
        message = f"{error.filename or 'file system'}: {error.strerror or error}"
    elif "Original Traceback" in message:  # from a worker process: its last line is the error
        message = message.strip().splitlines()[-1].partition(": ")[2]
    opt.warn(f"error: {printable(' '.join(message.split()))}", style="red")


for command in (
    *(train.train, evaluate.evaluate, predict.predict, scoreboard.scoreboard),
    *(
        profiles.fit,
        export.export,
        serve.serve,
        calibrate.calibrate,
        resize.resize,
        class_names.class_names,
        pages.report,
        pages.app,
    ),
):
    app.command()(command)


@app.command()
def push(
    checkpoint: Annotated[str, Argument(help="Checkpoint or run folder, or an embedded name.")],
    repository: Annotated[str, Argument(help="Repository on the Hugging Face hub: org/name.")],
    private: Annotated[
        bool | None, Option(help="Make a new repository private; default: as the account is set.")
    ] = None,
    revision: Annotated[
        str | None, Option(help="Branch to push to, made if it is missing; default: main.")
    ] = None,
    message: Annotated[str | None, Option(help="Message of the commit.")] = None,
    license: Annotated[
        str | None, Option(help="Licence in the model card, such as apache-2.0; default: unknown.")
    ] = None,
) -> None:
    """Upload a checkpoint and its model card to the Hugging Face hub.

    The token comes from `hf auth login` or HF_TOKEN. The command prints org/name@commit, a name
    for --checkpoint that keeps pointing to these weights, whatever is pushed later.
    """
    from bayes_pfl.checkpoints.publish import push_checkpoint

    options: dict[str, Any] = {"private": private, "revision": revision, "license": license}
    opt.say(push_checkpoint(checkpoint, repository, commit_message=message, **options))


@app.command()
def convert(
    authors: Annotated[Path, Argument(help="Checkpoint file of the authors (.pth).")],
    out: opt.Out,
    backbone: opt.Backbone = "ViT-L-14-336",
    pretrained: Annotated[
        str | None,
        Option(help="open_clip tag or a weights file.  [default: openai, if one is needed]"),
    ] = None,
    image_size: opt.ImageSize = 518,
    layers: opt.Layers = None,
    stage: Annotated[
        int | None,
        Option(min=1, max=2, help="Training stage of the file; default: by its name, else 2."),
    ] = None,
) -> None:
    """Turn a checkpoint of the authors' research code into one of this package."""
    from bayes_pfl.checkpoints.authors import convert_authors_checkpoint
    from bayes_pfl.checkpoints.format import save_checkpoint
    from bayes_pfl.clip.weights import brings_weights

    if pretrained is None and not brings_weights(backbone):
        pretrained = "openai"
    known = opt.backbone_config(backbone, pretrained, image_size, layers)
    save_checkpoint(convert_authors_checkpoint(authors, known, stage), out)
    opt.say(f"written to {out}")


app.command()(synthesize.synthesize)


@app.command()
def demo(
    out: opt.Out = Path("demo"),
    quick: Annotated[
        bool, Option("--quick", help="A short version of a minute, for tests.")
    ] = False,
) -> None:
    """From nothing to results: render, train, evaluate, predict on real photographs."""
    from bayes_pfl.cli.demo import run_demo

    with opt.bars() as progress:
        report = run_demo(out, progress, quick=quick)
    show(report)


if __name__ == "__main__":
    main()
