"""The table of few-shot papers: a row for each dataset, a column for each number of shots."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bayes_pfl.evaluate.records import mean
from bayes_pfl.evaluate.reference_draw import Method
from bayes_pfl.evaluate.tables import MEAN, Cell, mean_sd
from bayes_pfl.report.tables import METRIC_NAMES, csv_text, markdown_table, percent

_METRICS = {"image": ("auroc", "ap", "f1_max"), "pixel": ("auroc", "aupro", "ap", "f1_max")}

Reports = Mapping[str, Mapping[Method, Mapping[str, Any]]]
"""Objects of metrics.json by checkpoint and method."""


def shots_markdown(reports: Reports) -> str:
    """A table in percent for each metric that any dataset has."""
    parts = []
    for checkpoint, level, key, rows in _tables(reports):
        title = f"{level.capitalize()} {METRIC_NAMES[key]}, by shots"
        title += f": {checkpoint}" if len(reports) > 1 else ""
        head = ["dataset", *(str(method) for method in reports[checkpoint])]
        cells = [[name, *(percent(c.value, c.sd) for c in row)] for name, row in rows.items()]
        parts.append(f"**{title}**\n\n{markdown_table(head, cells)}")
    return "\n".join(parts)


def shots_csv(reports: Reports) -> str:
    """One line per checkpoint, metric, dataset and number of shots, values in [0, 1]."""
    lines: list[list[Any]] = [["checkpoint", "level", "metric", "dataset", "shots", "value", "sd"]]
    for checkpoint, level, key, rows in _tables(reports):
        for name, row in rows.items():
            for method, cell in zip(reports[checkpoint], row, strict=True):
                lines.append([checkpoint, level, key, name, method, cell.value, cell.sd])
    return csv_text(lines)


def _tables(reports: Reports) -> Iterator[tuple[str, str, str, dict[str, list[Cell]]]]:
    """Checkpoint, level, metric, and the cells of each dataset, the mean of several last."""
    for checkpoint, by_method in reports.items():
        for level, keys in _METRICS.items():
            for key in keys:
                rows = _rows(list(by_method.values()), level, key)
                if rows:
                    yield checkpoint, level, key, rows


def _rows(reports: Sequence[Mapping[str, Any]], level: str, key: str) -> dict[str, list[Cell]]:
    rows: dict[str, list[Cell]] = {}
    for name in reports[0]["datasets"]:
        entries = [report["datasets"][name]["mean"] for report in reports]
        cells = [Cell(e[level].get(key), e.get("sd", {}).get(level, {}).get(key)) for e in entries]
        if any(cell.value is not None for cell in cells):
            rows[name] = cells
    names = list(rows)
    if len(names) > 1:
        rows[MEAN] = [
            Cell(mean([rows[name][at].value for name in names]), mean_sd(report, names, level, key))
            for at, report in enumerate(reports)
        ]
    return rows
