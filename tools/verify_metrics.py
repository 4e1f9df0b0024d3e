"""Compare the metrics with recorded figures: python tools/verify_metrics.py DIR [--json OUT]."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from bayes_pfl.cli.main import run_app
from bayes_pfl.cli.options import Json, say, write_json
from parity import metrics as recorded

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)


@app.command()
def verify_metrics(
    folder: Annotated[Path, typer.Argument(help="With metrics.npz and metrics.json.")],
    json_out: Json = None,
) -> None:
    """Compare every recorded figure with ours, in both modes; exit 1 if one exceeds its bound.

    Bounds: 1e-3 in binned mode, 1e-6 in exact mode, 2e-3 for AUPRO.
    """
    checks = recorded.verify_metrics(folder)
    report = recorded.checks_report(checks)
    for check in checks:
        say(check)
    say(f"{len(checks)} checks, {sum(not check.passed for check in checks)} failed")
    if json_out:
        write_json(json_out, report)
    if not report["passed"]:
        raise typer.Exit(1)


if __name__ == "__main__":
    run_app(app, sys.argv[1:])
