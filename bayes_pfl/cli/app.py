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
    profiles: Annotated[
        Path | None,
        Option(help="Folder of profiles to choose from, where profiles fitted in the app go."),
    ] = None,
    device: opt.Device = None,
    host: Annotated[
        str, Option(help="Address to listen on; others than this computer's need a token.")
    ] = "127.0.0.1",
    token: Annotated[
        str | None,
        Option(
            envvar="BAYES_PFL_TOKEN",
            show_envvar=False,
            help="Password of the page; better in the variable BAYES_PFL_TOKEN, because others may "
            "see a command line.",
        ),
    ] = None,
    port: Annotated[
        int | None,
        Option(min=1, max=65535, help="Port of the page; default: the first free one from 7860."),
    ] = None,
    browser: Annotated[bool, Option(help="Open the page in a browser.")] = True,
) -> None:
    """A page in the browser: drop images, see overlays and scores; fit profiles of a part."""
    from bayes_pfl.app.server import AppSettings, run_app

    _, default = opened(profile, None)
    chosen = tuple(dict.fromkeys(checkpoint or [default]))
    run_app(
        AppSettings(
            chosen,
            pretrained,
            device,
            calibration,
            profile,
            profiles,
            token,
            **opt.tiles_of(tile, overlap),
        ),
        host=host,
        port=port,
        browser=browser,
        on_start=opt.say,
    )
