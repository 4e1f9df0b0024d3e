"""What the command line says of itself."""

import re

import pytest

from bayes_pfl.cli.main import app
from bayes_pfl.support.version import __version__


@pytest.mark.parametrize("short", ["-h", "--help"])
def test_help_cuts_no_name_and_says_something_of_each_option(run, monkeypatch, short):
    monkeypatch.setenv("COLUMNS", "80")
    code, said, _ = run("predict", short)
    assert code == 0 and "…" not in said
    for name in ("--class-name-from", "--overlay-uncertainty", "--mutual-pictures"):
        assert re.search(rf"^ +{name} +\S", said, re.M)


def test_the_version(run):
    assert run("--version")[:2] == (0, f"bayes-pfl {__version__}\n")


def test_every_command_is_listed_with_a_sentence(run):
    _, said, _ = run("-h")
    commands = said.split("Commands:")[1].strip().splitlines()
    assert len(commands) == len(app.registered_commands) + len(app.registered_groups)
    assert all(len(line.split()) > 3 for line in commands)
