"""The tables of an evaluation: every category, and the paper's arrangement."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bayes_pfl.evaluate.figures import IMAGE_KEYS, PIXEL_KEYS
from bayes_pfl.evaluate.paper_table import MEAN, Block, Cell
from bayes_pfl.report.tables import METRIC_NAMES, csv_text, latex_table, markdown_table, percent

_COLUMNS = [("image", key) for key in IMAGE_KEYS] + [("pixel", key) for key in PIXEL_KEYS]
_PAPER_KEYS = ("auroc", "aupro", "ap", "f1_max")


def categories_markdown(report: dict[str, Any]) -> str:
    """A metrics.json object as a markdown table in percent; a dash where undefined."""
    head = ["dataset", "category", "normal", "anomalous"]
    head += [f"{level} {METRIC_NAMES[key]}" for level, key in _COLUMNS]
    rows = []
    for dataset, category, entry in _entries(report):
        counts = [str(entry.get("n_normal", "")), str(entry.get("n_anomalous", ""))]
        values = [percent(entry[level][key], _sd(entry, level, key)) for level, key in _COLUMNS]
        rows.append([dataset, category, *counts, *values])
    return markdown_table(head, rows, texts=2)


def categories_csv(report: dict[str, Any]) -> str:
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


def blocks_markdown(blocks: Sequence[Block]) -> str:
    """The paper's tables in percent, each under its title."""
    parts = []
    for block in blocks:
        names = [METRIC_NAMES[key] for _, key in block.columns]
        if len(block.methods) > 1:
            names = [f"{method}: {METRIC_NAMES[key]}" for method, key in block.columns]
        table = markdown_table(["dataset", *names], _block_rows(block))
        parts.append(f"**{block.title}**\n\n{table}")
    return "\n".join(parts)


def blocks_csv(blocks: Sequence[Block]) -> str:
    """One line per table, dataset and method, values in [0, 1], empty where undefined."""
    spreads = [f"{key}_sd" for key in _PAPER_KEYS]
    rows: list[list[Any]] = [["domain", "level", "dataset", "method", *_PAPER_KEYS, *spreads]]
    for block in blocks:
        for name, row in block.rows.items():
            for method in block.methods:
                found = [row.get((method, key), Cell()) for key in _PAPER_KEYS]
                values = [*(cell.value for cell in found), *(cell.sd for cell in found)]
                rows.append([block.domain, block.level, name, method, *values])
    return csv_text(rows)


def blocks_latex(blocks: Sequence[Block]) -> str:
    """The paper's tables in percent, for a document that loads booktabs."""
    return "\n".join(
        latex_table(
            f"{block.title}, in percent.",
            list(block.methods.items()),
            ["dataset", *(METRIC_NAMES[key] for _, key in block.columns)],
            _block_rows(block),
            last_apart=len(block.rows) > 1 and MEAN in block.rows,
        )
        for block in blocks
    )


def _block_rows(block: Block) -> list[list[str]]:
    """The name of each dataset and its cells in percent."""
    return [
        [name, *(percent(cell.value, cell.sd) for cell in row.values())]
        for name, row in block.rows.items()
    ]


def _entries(report: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Dataset, category (or "mean") and entry of every line."""
    for dataset, result in report["datasets"].items():
        for category, entry in result["categories"].items():
            yield dataset, category, entry
        yield dataset, MEAN, result["mean"]


def _sd(entry: dict[str, Any], level: str, key: str) -> float | None:
    """Standard deviation over seeds; None with one seed, or where undefined."""
    return entry.get("sd", {}).get(level, {}).get(key)
