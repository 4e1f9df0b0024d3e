"""The tables of an evaluation: every category, and the paper's arrangement.

The paper has industrial and medical sets, at image and at pixel level. Rows are datasets, columns
are methods (checkpoints, and published ones) with their metrics.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

from bayes_pfl.evaluate.datasets import EvaluationData
from bayes_pfl.evaluate.published import Published
from bayes_pfl.evaluate.records import LEVEL_KEYS, MARKS, marks, mean
from bayes_pfl.report.tables import METRIC_NAMES, csv_text, latex_table, markdown_table, percent

METRICS = {"image": ("auroc", "f1_max", "ap"), "pixel": ("auroc", "aupro", "ap")}
"""The metrics of the paper's tables, in its order (arXiv 2503.10080, tables 1 and 2)."""
DOMAINS = ("industrial", "medical", "other")
MEAN = "mean"

_PAPER_KEYS = ("auroc", "aupro", "ap", "f1_max")


class Cell(NamedTuple):
    """A figure in [0, 1] and its standard deviation over seeds, None where there is none; signs."""

    value: float | None = None
    sd: float | None = None
    marks: str = ""


PaperRow = dict[tuple[str, str], Cell]
"""Cells by method and metric."""


@dataclass(frozen=True)
class Block:
    """One of the tables: the datasets of a domain at one level, their mean as the last row."""

    domain: str
    level: str
    rows: Mapping[str, PaperRow]

    @property
    def title(self) -> str:
        """As in "Industrial, image level"."""
        return f"{self.domain.capitalize()}, {self.level} level"

    @property
    def columns(self) -> list[tuple[str, str]]:
        """Method and metric of each column."""
        return list(next(iter(self.rows.values())))

    @property
    def methods(self) -> dict[str, int]:
        """Methods and their number of columns."""
        return Counter(method for method, _ in self.columns)


def arrange(
    reports: Mapping[str, Mapping[str, Any]],
    data: Sequence[EvaluationData],
    published: Published | None = None,
) -> list[Block]:
    """The blocks that have any dataset, industrial first, image level before pixel level.

    Args:
        reports: by method, the object of metrics.json.
        data: the datasets, for their domain and levels.
        published: in the last columns, with the metrics that it has; their mean is given only
            where every row has one.
    """
    blocks = []
    for domain, level in product(DOMAINS, METRICS):
        names = [d.name for d in data if d.domain == domain and _has(d, level, reports)]
        known = _published_cells(published, names, level)
        rows = {name: _row(name, level, reports) | known[name] for name in names}
        if len(rows) > 1:
            rows |= {MEAN: _mean_row(rows, level, reports)}
        if rows:
            blocks.append(Block(domain, level, rows))
    return blocks


def blocks_json(
    blocks: Sequence[Block], protocol: str, published: Published | None
) -> dict[str, Any]:
    """The blocks as plain objects, values in [0, 1], null where undefined."""
    tables = [
        {
            "title": block.title,
            "domain": block.domain,
            "level": block.level,
            "metrics": list(METRICS[block.level]),
            "rows": [{"dataset": name, "methods": _plain(row)} for name, row in block.rows.items()],
        }
        for block in blocks
    ]
    content: dict[str, Any] = {"protocol": protocol, "tables": tables}
    if published:
        known = ("method", "source", "protocol")
        content["published"] = {key: getattr(published, key) for key in known}
    return content


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
        [name, *(percent(cell.value, cell.sd) + cell.marks for cell in row.values())]
        for name, row in block.rows.items()
    ]


def categories_markdown(report: dict[str, Any]) -> str:
    """A metrics.json object as a markdown table in percent; a dash where undefined."""
    head = ["dataset", "category", "normal", "anomalous"]
    columns = _columns(report)
    head += [f"{level} {METRIC_NAMES[key]}" for level, key in columns]
    rows = []
    for dataset, category, entry in _entries(report):
        counts = [str(entry.get("n_normal", "")), str(entry.get("n_anomalous", ""))]
        values = [percent(entry[level][key], _sd(entry, level, key)) for level, key in columns]
        rows.append([dataset, category + marks(entry), *counts, *values])
    return markdown_table(head, rows, texts=2)


def categories_csv(report: dict[str, Any]) -> str:
    """The same as CSV, values in [0, 1], empty where undefined; with seeds, columns of their sd."""
    seeds = any("sd" in entry for _, _, entry in _entries(report))
    columns = _columns(report)
    names = [f"{level}_{key}" for level, key in columns]
    spreads = [f"{name}_sd" for name in names] if seeds else []
    about = ("dataset", "category", "n_normal", "n_anomalous")
    rows: list[list[Any]] = [[*about, *names, *spreads, *MARKS]]
    for dataset, category, entry in _entries(report):
        values = [entry[level][key] for level, key in columns]
        values += [_sd(entry, level, key) for level, key in columns] if seeds else []
        values += [entry.get(key) for key in MARKS]
        rows.append([dataset, category, entry.get("n_normal"), entry.get("n_anomalous"), *values])
    return csv_text(rows)


def _has(data: EvaluationData, level: str, reports: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a dataset belongs to a block: any figure of any of its categories is defined."""
    if level not in data.levels:
        return False
    return any(
        entry[level].get(key) is not None
        for report in reports.values()
        for entry in report["datasets"][data.name]["categories"].values()
        for key in METRICS[level]
    )


def _row(dataset: str, level: str, reports: Mapping[str, Mapping[str, Any]]) -> PaperRow:
    row: PaperRow = {}
    for method, report in reports.items():
        figures = report["datasets"][dataset]["mean"]
        signs = marks(*report["datasets"][dataset]["categories"].values())
        spreads = figures.get("sd", {}).get(level, {})
        for key in METRICS[level]:
            row[method, key] = Cell(figures[level][key], spreads.get(key), signs)
    return row


def _published_cells(
    published: Published | None, names: Sequence[str], level: str
) -> dict[str, PaperRow]:
    """Cells by dataset, for the metrics that are known of any dataset."""
    method, scores = (published.method, published.datasets) if published else ("", {})
    found = {name: scores.get(name, {}).get(level, {}) for name in names}
    keys = [key for key in METRICS[level] if any(key in values for values in found.values())]
    return {
        name: {(method, key): Cell(values.get(key)) for key in keys}
        for name, values in found.items()
    }


def _mean_row(
    rows: Mapping[str, PaperRow], level: str, reports: Mapping[str, Mapping[str, Any]]
) -> PaperRow:
    """Means over the datasets; of a published method only where every row has the figure."""
    result: PaperRow = {}
    for method, key in next(iter(rows.values())):
        values = [row[method, key].value for row in rows.values()]
        ours = method in reports
        sd = mean_sd(reports[method], list(rows), level, key) if ours else None
        result[method, key] = Cell(mean(values) if ours or None not in values else None, sd)
    return result


def mean_sd(report: Mapping[str, Any], names: Sequence[str], level: str, key: str) -> float | None:
    """Standard deviation over seeds of the mean over datasets; None without several seeds."""
    per_seed = report.get("per_seed", {}).values()
    means = [mean([results[name]["mean"][level][key] for name in names]) for results in per_seed]
    defined = [value for value in means if value is not None]
    return statistics.stdev(defined) if len(means) == len(defined) > 1 else None


def _plain(row: PaperRow) -> dict[str, Any]:
    """Values by method and metric, and under "sd" the deviations that are known."""
    plain: dict[str, Any] = {}
    for (method, key), cell in row.items():
        plain.setdefault(method, {})[key] = cell.value
    for (method, key), cell in row.items():
        if cell.sd is not None:
            plain[method].setdefault("sd", {})[key] = cell.sd
    return plain


def _entries(report: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Dataset, category (or "mean") and entry of every line."""
    for dataset, result in report["datasets"].items():
        for category, entry in result["categories"].items():
            yield dataset, category, entry
        yield dataset, MEAN, result["mean"]


def _columns(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Level and key of every figure that the report has, images first."""
    known = [(level, key) for level in METRICS for key in LEVEL_KEYS[level]]
    return [(level, k) for level, k in known if any(k in e[level] for *_, e in _entries(report))]


def _sd(entry: dict[str, Any], level: str, key: str) -> float | None:
    """Standard deviation over seeds; None with one seed, or where undefined."""
    return entry.get("sd", {}).get(level, {}).get(key)
