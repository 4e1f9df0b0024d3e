"""``bayes-pfl report`` and ``bayes-pfl app``: what a person looks at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from bayes_pfl.cli import options as opt
from bayes_pfl.cli.profiles import ProfileFolder, opened


def report(
    folder: Annotated[Path, Argument(help="The --out folder of predict or evaluate.")],
) -> None:
    """Make report.html of a finished run again: for a moved run, or after an update."""
    from bayes_pfl.report.runs import report_of_run

    opt.say(f"written to {report_of_run(folder)}")


def app(
    checkpoint: Annotated[
        list[str] | None,
        Option(
            help="To choose from on the page: embedded name, checkpoint or run folder, or hub "
            f"repository org/name; repeatable.  [default: {opt.EMBEDDED_CHECKPOINT}]"
        ),
    ] = None,
    pretrained: opt.Pretrained = None,
    calibration: Annotated[
        Path | None, Option(help="File of bayes-pfl calibrate: brings the threshold.")
    ] = None,
    profile: ProfileFolder = None,
    tile: opt.Tile = None,
    overlap: opt.Overlap = None,
    device: opt.Device = None,
    port: Annotated[
        int | None,
        Option(min=1, max=65535, help="Port of the page; default: the first free one from 7860."),
    ] = None,
    browser: Annotated[bool, Option(help="Open the page in a browser.")] = True,
) -> None:
    """A page on this computer: drop images, see overlays, scores and intervals."""
    from bayes_pfl.app.server import AppSettings, run_app

    _, default = opened(profile, None)
    chosen = tuple(dict.fromkeys(checkpoint or [default]))
    run_app(
        AppSettings(
            chosen, pretrained, device, calibration, profile, **opt.tiles_of(tile, overlap)
        ),
        port=port,
        browser=browser,
        on_start=opt.say,
    )
