"""Compare the model with a folder of the published implementation's outputs.

python tools/verify_parity.py DIR [--json OUT]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from bayes_pfl.cli.main import run_app
from bayes_pfl.cli.options import Json, say, write_json
from parity.outputs import TOLERANCE, verify

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)


@app.command()
def verify_parity(
    folder: Annotated[Path, typer.Argument(help="Fixture in the format of docs/parity.md.")],
    json_out: Json = None,
) -> None:
    """Largest error of every output compared with the published code; exit 1 over 1e-4."""
    differences = verify(folder)
    for item in differences:
        mark = "ok  " if item.passed else "FAIL"
        say(f"{mark} {item.error:9.2e}  {item.name}")
    failed = [item.name for item in differences if not item.passed]
    say(f"{len(differences)} outputs, {len(failed)} over {TOLERANCE:g}")
    if json_out:
        report = {"tolerance": TOLERANCE, "errors": {d.name: d.error for d in differences}}
        write_json(json_out, report | {"passed": not failed})
    if failed:
        raise typer.Exit(1)


if __name__ == "__main__":
    run_app(app, sys.argv[1:])
