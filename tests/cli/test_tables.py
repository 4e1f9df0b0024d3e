"""Tables are drawn on a terminal, and Markdown where the output is kept."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from bayes_pfl.cli import options
from bayes_pfl.cli.tables import show
from bayes_pfl.report.tables import markdown_table

ROWS = [["metal|nut", "81.2"], ["[bold]é* a_b_c", "7.0 ± 0.1"]]
TEXT = f"**parts**\n\n{markdown_table(['category', 'AUROC'], ROWS)}\nNot all of them."


@pytest.fixture
def shown(monkeypatch):
    def on(text, **kind):
        file = io.StringIO()
        monkeypatch.setattr(options, "console", Console(file=file, color_system=None, **kind))
        show(text)
        return file.getvalue()

    return on


def test_a_pipe_gets_the_text_as_it_is(shown):
    assert shown(TEXT, force_terminal=False, width=20) == f"{TEXT}\n"


def test_a_terminal_gets_a_drawing_with_every_character(shown):
    lines = [line.rstrip() for line in shown(TEXT, force_terminal=True, width=60).splitlines()]
    assert lines[0] == "parts" and lines[-1] == "Not all of them."
    inside = [line.strip() for line in lines if "|" in line or "bold" in line]
    assert [line.split("  ")[0] for line in inside] == ["metal|nut", "[bold]é* a_b_c"]
    assert inside[0].endswith("81.2") and inside[1].endswith("7.0 ± 0.1")
    assert len({line.index("81.2") + 4 for line in inside if "81.2" in line}) == 1
    assert not any(line.startswith("|") or "---" in line for line in lines)


def test_a_narrow_terminal_cuts_nothing(shown):
    text = shown(TEXT, force_terminal=True, width=24, height=50)
    assert "…" not in text and "7.0 ± 0.1" in text
    assert max(map(len, text.splitlines())) <= 24
    assert all(part in text for part in ("metal|nut", "[bold]é*", "a_b_c"))
