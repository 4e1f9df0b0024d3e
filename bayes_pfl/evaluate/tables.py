"""Results of an evaluation as text: markdown for people, CSV for spreadsheets, LaTeX for papers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

from bayes_pfl.evaluate.paper_table import MEAN, Block, Cell

_COLUMNS = (
    ("image", "auroc"),
    ("image", "ap"),
    ("image", "f1_max"),
    ("pixel", "auroc"),
    ("pixel", "aupro"),
    ("pixel", "ap"),
    ("pixel", "f1_max"),
    ("pixel", "iou"),
)
_TITLES = {"auroc": "AUROC", "aupro": "AUPRO", "ap": "AP", "f1_max": "F1-max", "iou": "IoU"}
_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_LATEX |= {character: f"\\{character}" for character in "&%$#_{}"}


def markdown(report: dict[str, Any]) -> str:
    """A metrics.json object as a markdown table in percent; a dash where undefined."""
    titles = ["dataset", "category", "normal", "anomalous"]
    titles += [f"{level} {_TITLES[key]}" for level, key in _COLUMNS]
    lines = [_row(titles), _row(["---"] * 2 + ["---:"] * (len(titles) - 2))]
    for dataset, category, entry in _entries(report):
        counts = [str(entry.get("n_normal", "")), str(entry.get("n_anomalous", ""))]
        values = [_percent(entry[level][key], _sd(entry, level, key)) for level, key in _COLUMNS]
        lines.append(_row([dataset, category, *counts, *values]))
    return "\n".join(lines) + "\n"


def to_csv(report: dict[str, Any]) -> str:
    """The same as CSV, values in [0, 1], empty where undefined; with seeds, columns of their sd."""
    seeds = any("sd" in entry for _, _, entry in _entries(report))
    names = [f"{level}_{key}" for level, key in _COLUMNS]
    spreads = [f"{name}_sd" for name in names] if seeds else []
    rows: list[list[Any]] = [["dataset", "category", "n_normal", "n_anomalous", *names, *spreads]]
    for dataset, category, entry in _entries(report):
        values = [entry[level][key] for level, key in _COLUMNS]
        values += [_sd(entry, level, key) for level, key in _COLUMNS] if seeds else []
        rows.append([dataset, category, entry.get("n_normal"), entry.get("n_anomalous"), *values])
    return csv_text(rows)


def csv_text(rows: Sequence[Sequence[Any]]) -> str:
    """Rows as CSV; None is an empty cell."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def blocks_markdown(blocks: Sequence[Block]) -> str:
    """The paper's tables in percent, each under its title."""
    parts = []
    for block in blocks:
        alone = len(block.columns) == 1
        columns = [(m, k) for m, keys in block.columns.items() for k in keys]
        titles = [_TITLES[k] if alone else f"{m}: {_TITLES[k]}" for m, k in columns]
        lines = [f"**{block.title}**", "", _row(["dataset", *titles])]
        lines.append(_row(["---"] + ["---:"] * len(columns)))
        for name, row in block.rows.items():
            lines.append(_row([name, *(_cell(row[m][k]) for m, k in columns)]))
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def blocks_csv(blocks: Sequence[Block]) -> str:
    """One line per table, dataset and method, values in [0, 1], empty where undefined."""
    keys = tuple(_TITLES)[:4]
    rows: list[list[Any]] = [["domain", "level", "dataset", "method", *keys,
                              *(f"{key}_sd" for key in keys)]]  # fmt: skip
    for block in blocks:
        for name, row in block.rows.items():
            for method, cells in row.items():
                found = [cells.get(key, Cell()) for key in keys]
                values = [*(cell.value for cell in found), *(cell.sd for cell in found)]
                rows.append([block.domain, block.level, name, method, *values])
    return csv_text(rows)


def blocks_latex(blocks: Sequence[Block]) -> str:
    """The paper's tables in percent, for a document that loads booktabs."""
    return "\n".join(_latex_table(block) for block in blocks)


def _latex_table(block: Block) -> str:
    columns = [(m, k) for m, keys in block.columns.items() for k in keys]
    heads = [
        f"\\multicolumn{{{len(keys)}}}{{c}}{{{_escaped(method)}}}"
        for method, keys in block.columns.items()
    ]
    metrics = [_TITLES[key] for _, key in columns]
    lines = [
        r"\begin{table}",
        r"\centering",
        f"\\caption{{{_escaped(block.title)}, in percent.}}",
        f"\\begin{{tabular}}{{l{'r' * len(metrics)}}}",
        r"\toprule",
        " & ".join(["", *heads]) + r" \\",
        " & ".join(["dataset", *metrics]) + r" \\",
        r"\midrule",
    ]
    for name, row in block.rows.items():
        cells = [_cell(row[m][k]).replace("±", r"$\pm$") for m, k in columns]
        cells = ["--" if cell == "–" else cell for cell in cells]
        lines += [r"\midrule"] if name == MEAN and len(block.rows) > 1 else []
        lines.append(" & ".join([_escaped(name), *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


def _entries(report: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for dataset, result in report["datasets"].items():
        for category, entry in result["categories"].items():
            yield dataset, category, entry
        yield dataset, MEAN, result["mean"]


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _sd(entry: dict[str, Any], level: str, key: str) -> float | None:
    return entry.get("sd", {}).get(level, {}).get(key)


def _cell(cell: Cell) -> str:
    return _percent(cell.value, cell.sd)


def _percent(value: float | None, sd: float | None = None) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.1f}" + ("" if sd is None else f" ± {100 * sd:.1f}")


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
