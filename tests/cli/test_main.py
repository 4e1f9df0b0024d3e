"""What the command line says of itself."""

import re

import pytest
import typer

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


def commands(command, words=()):
    """Every command with its words, the program itself among them."""
    yield words, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*words, name))


ALL = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_option_has_a_sentence_and_no_name_is_cut_at_80_columns(run, monkeypatch, words):
    for parameter in ALL[words].params:
        text = parameter.help or ""
        name = f"{' '.join(words)} {parameter.name}"
        assert len(text.split()) >= 3 and text[-1] in ".]", name
        assert text.split()[0] not in ("Of", "Default:"), name
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    _, said, _ = run(*(words or ("-h",)), *(["-h"] if words else []))
    names = {
        name
        for parameter in ALL[words].params
        for name in [*parameter.opts, *parameter.secondary_opts]
        if name[0] == "-"
    }
    assert "…" not in said and max(map(len, said.splitlines())) <= 80
    for name in names:
        assert re.search(rf"(?<![\w-]){name}(?![\w-])", said), name
