"""Results of an evaluation as tables: markdown for people, CSV for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

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


def markdown(report: dict[str, Any]) -> str:
    """A metrics.json object as a markdown table in percent; a dash where undefined."""
    titles = ["dataset", "category", "normal", "anomalous"]
    titles += [f"{level} {_TITLES[key]}" for level, key in _COLUMNS]
    lines = [_row(titles), _row(["---"] * 2 + ["---:"] * (len(titles) - 2))]
    for dataset, category, entry in _entries(report):
        counts = [str(entry.get("n_normal", "")), str(entry.get("n_anomalous", ""))]
        values = [_percent(entry[level][key]) for level, key in _COLUMNS]
        lines.append(_row([dataset, category, *counts, *values]))
    return "\n".join(lines) + "\n"


def to_csv(report: dict[str, Any]) -> str:
    """The same as CSV, values in [0, 1], empty where undefined."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [f"{level}_{key}" for level, key in _COLUMNS]
    writer.writerow(["dataset", "category", "n_normal", "n_anomalous", *names])
    for dataset, category, entry in _entries(report):
        values = [entry[level][key] for level, key in _COLUMNS]
        counts = [entry.get("n_normal"), entry.get("n_anomalous")]
        writer.writerow([dataset, category, *counts, *values])
    return text.getvalue()


def _entries(report: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for dataset, result in report["datasets"].items():
        for category, entry in result["categories"].items():
            yield dataset, category, entry
        yield dataset, "mean", result["mean"]


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"
