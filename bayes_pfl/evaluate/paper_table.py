"""Results in the paper's arrangement: industrial and medical sets, at image and at pixel level.

Rows are datasets, columns are methods (checkpoints, and published ones) with their metrics.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bayes_pfl.evaluate.datasets import EvaluationData
from bayes_pfl.evaluate.figures import mean
from bayes_pfl.evaluate.published import Published

METRICS = {"image": ("auroc", "f1_max", "ap"), "pixel": ("auroc", "aupro", "ap")}
"""The metrics of the paper's tables, in its order (arXiv 2503.10080, tables 1 and 2)."""
DOMAINS = ("industrial", "medical", "other")
MEAN = "mean"


@dataclass(frozen=True)
class Cell:
    """A figure in [0, 1] and its standard deviation over seeds; None where there is none."""

    value: float | None = None
    sd: float | None = None


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
    for domain in DOMAINS:
        for level in METRICS:
            names = [d.name for d in data if d.domain == domain and _has(d, level, reports)]
            known = _published_cells(published, names, level)
            rows = {name: _row(name, level, reports) | known[name] for name in names}
            if rows:
                last = {MEAN: _mean_row(rows, level, reports)}
                blocks.append(Block(domain, level, rows | (last if len(rows) > 1 else {})))
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
        spreads = figures.get("sd", {}).get(level, {})
        for key in METRICS[level]:
            row[method, key] = Cell(figures[level][key], spreads.get(key))
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
        sd = _mean_sd(reports[method], list(rows), level, key) if ours else None
        result[method, key] = Cell(mean(values) if ours or None not in values else None, sd)
    return result


def _mean_sd(report: Mapping[str, Any], names: Sequence[str], level: str, key: str) -> float | None:
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
