"""The Dockerfile names files, options and an address that exist; nothing here can build it."""

import json
import re
import subprocess
import sys

import typer

from bayes_pfl.cli import main as cli
from tests.helpers.paths import ROOT
from tests.serve.client import Greys, serving

LINES = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()


def listed(instruction):
    """The words of an instruction in its exec form."""
    (line,) = [line for line in LINES if line.startswith(f"{instruction} ")]
    return json.loads(line[line.index("[") :])


def test_what_it_copies_is_there_and_reaches_it():
    copied = [word for line in LINES if line.startswith("COPY ") for word in line.split()[1:-1]]
    kept = (ROOT / ".dockerignore").read_text(encoding="utf-8").split("\n")
    assert len(copied) > 5
    for name in copied:
        assert (ROOT / name).exists() and f"!{name}" in kept


def test_it_starts_the_command_as_it_is():
    _, name, *options = [*listed("ENTRYPOINT"), *listed("CMD")]
    command = typer.main.get_command(cli.app).commands[name]
    given = command.make_context(name, list(options), resilient_parsing=False).params
    assert given["detector"] == "/detector" and given["host"] == "0.0.0.0"
    assert f"EXPOSE {given['port']}" in LINES
    assert any(re.fullmatch(r"USER (?!root)\w+", line) for line in LINES)


def test_its_check_asks_the_service():
    program = listed("HEALTHCHECK")[-1]
    with serving(Greys) as running:
        here = program.replace("http://127.0.0.1:8000", running.address)
        assert here != program
        asked = [sys.executable, "-c", here]
        assert subprocess.run(asked, timeout=60).returncode == 0
        running.service.refuse_new()
        assert subprocess.run(asked, capture_output=True, timeout=60).returncode == 1
