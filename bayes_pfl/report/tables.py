"""Tables of results as text: markdown for people, CSV for spreadsheets, LaTeX for papers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

METRIC_NAMES = {"auroc": "AUROC", "aupro": "AUPRO", "ap": "AP", "f1_max": "F1-max", "iou": "IoU"}
METRIC_NAMES["aupro_authors"] = "AUPRO as published"
UNDEFINED = "–"

_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_LATEX |= {character: f"\\{character}" for character in "&%$#_{}"}
_LATEX |= {"±": r"$\pm$", UNDEFINED: "--", "†": r"$\dagger$", "‡": r"$\ddagger$"}


def percent(
    value: float | None, sd: float | None = None, interval: tuple[float, float] | None = None
) -> str:
    """A table's cell in percent: a figure, with its standard deviation or interval if it has one.

    Args:
        value: in [0, 1]; None where the figure is undefined: the cell is then a dash.

    >>> percent(0.812), percent(0.812, sd=0.0044), percent(0.812, interval=(0.8, 0.83))
    ('81.2', '81.2 ± 0.4', '81.2 [80.0, 83.0]')
    """
    if value is None:
        return UNDEFINED
    text = f"{100 * value:.1f}"
    if sd is not None:
        text += f" ± {100 * sd:.1f}"
    if interval is not None:
        text += f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"
    return text


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], texts: int = 1) -> str:
    """A table in markdown: ``texts`` columns of text, then columns of numbers.

    >>> print(markdown_table(["dataset", "AUROC"], [["a|b", "81.2"]]), end="")
    | dataset | AUROC |
    | --- | ---: |
    | a\\|b | 81.2 |
    """
    rule = ["---"] * texts + ["---:"] * (len(head) - texts)
    return "".join(_markdown_row(cells) for cells in (head, rule, *rows))


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as CSV; None is an empty cell."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def latex_table(
    caption: str,
    groups: Sequence[tuple[str, int]],
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    last_apart: bool,
) -> str:
    """A table for a document that loads booktabs.

    Args:
        groups: heading and number of columns, from the second column on.
        head: heading of each column.
        last_apart: whether a line stands before the last row.
    """
    spans = [f"\\multicolumn{{{count}}}{{c}}{{{_escaped(name)}}}" for name, count in groups]
    lines = [_latex_row(row) for row in rows]
    if last_apart:
        lines.insert(-1, r"\midrule")
    whole = [
        r"\begin{table}",
        r"\centering",
        f"\\caption{{{_escaped(caption)}}}",
        f"\\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
        r"\toprule",
        " & ".join(["", *spans]) + r" \\",
        _latex_row(head),
        r"\midrule",
        *lines,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(whole) + "\n"


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(_escaped, cells)) + r" \\"


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
