"""The files of an evaluation; each is written whole or not at all."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bayes_pfl.errors import DataError
from bayes_pfl.evaluate.records import CategoryRecord, Protocol
from bayes_pfl.evaluate.reference_draw import Method, method_label
from bayes_pfl.evaluate.request import EvaluationRequest
from bayes_pfl.evaluate.tables import (
    arrange,
    blocks_csv,
    blocks_json,
    blocks_latex,
    blocks_markdown,
    categories_markdown,
)
from bayes_pfl.report.html import NAME as PAGE
from bayes_pfl.report.tables import csv_text
from bayes_pfl.support.files import raising_not_written, write_atomically

CURVES, SHEETS = "curves", "sheets"
"""Folders of pictures: one below it for each dataset."""

_ROW_COLUMNS = ("text_score", "map_score", "top_mean", "uncertainty", "pixel_ap")
_REFERENCE_COLUMNS = ("words_score", "memory_score")
_RESULTS = re.compile(
    r"(metrics|table)(_authors|_deploy)?\.(json|csv|md|tex)|images\.csv|shots\.(md|csv)"
    rf"|(config|environment)\.json|{re.escape(PAGE)}"
)
_OF_METHODS, _OF_RUNS = "images.csv", "table.json"  # which a folder of results has
_INSIDE_RUNS = ("best", "last", "checkpoints", "model.safetensors")


def image_rows(
    dataset: str, seed: int, records: Mapping[str, CategoryRecord]
) -> Iterator[list[Any]]:
    """The lines of images.csv for a dataset and a seed: one for each image."""
    for name, record in records.items():
        authors = record.image_scores("authors").tolist()
        for row, score in zip(record.rows, authors, strict=True):
            values = [getattr(row, column) for column in _ROW_COLUMNS]
            values = [None if math.isnan(value) else value for value in values]
            about = [dataset, name, seed, row.path, row.label]
            words = row.score is None and not math.isnan(score)
            both = [row.deploy_score, score if words else None]
            yield [*about, *values, *both, row.words_score, row.memory_score]


def write_images(out: Path, rows: Sequence[Sequence[Any]], references: bool = False) -> None:
    """images.csv, with the lines that :func:`image_rows` returns.

    Args:
        references: whether to add the columns words_score and memory_score.
    """
    about, scores = ("dataset", "category", "seed", "path", "label"), ("deploy", "authors")
    head = (*about, *_ROW_COLUMNS, *(f"score_{protocol}" for protocol in scores))
    if references:
        lines = [[*head, *_REFERENCE_COLUMNS], *rows]
    else:
        lines = [list(head), *(row[: len(head)] for row in rows)]
    write_results(out / "images.csv", csv_text(lines))


def write_png(folder: Path, dataset: str, name: str, content: bytes) -> None:
    """<folder>/<dataset>/<name>.png."""
    path = folder / quote(dataset, safe=" ") / f"{quote(name, safe=' ')}.png"
    prepare_folder(path.parent)
    write_results(path, content)


def write_tables(
    request: EvaluationRequest,
    protocol: Protocol,
    reports: Mapping[str, dict[str, Any]],
) -> tuple[str, str]:
    """Write table.md, .csv, .json and .tex in the paper's arrangement.

    Args:
        reports: metrics.json objects by method.

    Returns:
        The paper's tables, and the whole text of table.md, which adds a table of every category.
    """
    published, path = request.published, request.out / f"table{request.suffix(protocol)}"
    blocks = arrange(reports, request.data, published)
    summary = blocks_markdown(blocks)
    if published:
        measured = f" (protocol {published.protocol})" if published.protocol else ""
        summary += f"\n{published.method}{measured}: {published.source}.\n"
        if published.protocol not in ("", protocol):
            summary += f"Our figures follow the protocol {protocol}, which measures differently.\n"
    notes = dict.fromkeys(note for report in reports.values() for note in report["notes"])
    summary += "".join(f"\n{note}\n" for note in notes)
    text = summary
    for method, report in reports.items():
        title = "By category" if len(reports) == 1 else f"By category: {method}"
        text += f"\n**{title}**\n\n{categories_markdown(report)}"
    text = text.lstrip("\n")  # where no dataset has any figure
    write_results(path.with_suffix(".md"), text)
    write_results(path.with_suffix(".csv"), blocks_csv(blocks))
    write_results(path.with_suffix(".tex"), blocks_latex(blocks))
    write_json(path.with_suffix(".json"), blocks_json(blocks, protocol, published))
    return summary, text


def folder_names(checkpoints: Sequence[str]) -> list[str]:
    """A short name for each checkpoint, for columns and folders; no two are equal."""
    names: list[str] = []
    for checkpoint in checkpoints:
        parts = [part for part in re.split(r"[/\\]+", checkpoint) if part not in ("", ".", "..")]
        while len(parts) > 1 and parts[-1] in _INSIDE_RUNS:
            parts.pop()
        base = re.sub(r"[^\w.-]+", "_", parts[-1] if parts else "checkpoint")
        names.append(_unused(base, names))
    return names


def method_names(checkpoints: Sequence[str], methods: Sequence[Method]) -> list[list[str]]:
    """A short name for each checkpoint with each method, as in NAME-4-shot; no two are equal."""
    plain = folder_names(checkpoints)
    taken = list(plain)
    for method in methods:
        for name in plain if method != 0 else ():
            taken.append(_unused(f"{name}-{method_label(method)}", taken))
    found = iter(taken[len(plain) :])
    columns = [plain if method == 0 else [next(found) for _ in plain] for method in methods]
    return [list(names) for names in zip(*columns, strict=True)]


def _unused(base: str, names: Sequence[str]) -> str:
    name, number = base, 2
    while name in names:
        name, number = f"{base}-{number}", number + 1
    return name


def prepare_folder(out: Path) -> None:
    """Make the output folder, before any work.

    Raises:
        DataError: it cannot be made or written.
    """
    with raising_not_written(out, "choose another --out", DataError):
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / ".writable", "").unlink()


def remove_results(out: Path) -> None:
    """Remove the results of an earlier run, which may have had other methods or categories.

    The cache stays, and so do files that no evaluation writes.

    Raises:
        DataError: they cannot be removed.
    """
    with raising_not_written(out, "choose another --out", DataError):
        inside = [path for path in sorted(out.iterdir()) if (path / _OF_METHODS).is_file()]
        folders = [(path, _OF_METHODS) for path in inside] + [(out, _OF_RUNS)]
        for folder, mark in folders:
            if not (folder / mark).is_file():
                continue
            for kind in (CURVES, SHEETS):
                for picture in folder.glob(f"{kind}/*/*.png"):
                    picture.unlink()
            for name in sorted(os.listdir(folder), key=lambda name: name == mark):  # it goes last
                if _RESULTS.fullmatch(name):
                    (folder / name).unlink()


def write_json(path: Path, content: Any) -> None:
    """Write an object as JSON; it must hold no NaN and no infinity."""
    write_results(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_results(path: Path, content: str | bytes) -> None:
    """Write a results file whole or not at all.

    Raises:
        DataError: it cannot be written.
    """
    with raising_not_written(path, "make room, run again", DataError):
        write_atomically(path, content)
