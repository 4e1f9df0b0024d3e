"""The files of an evaluation; each is written whole or not at all."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image

from bayes_pfl.errors import DataError
from bayes_pfl.evaluate.paper_table import arrange, blocks_json
from bayes_pfl.evaluate.records import CategoryRecord, Protocol
from bayes_pfl.evaluate.request import EvaluationRequest
from bayes_pfl.evaluate.tables import blocks_csv, blocks_latex, blocks_markdown, categories_csv
from bayes_pfl.report.curves import curves_png
from bayes_pfl.report.tables import csv_text
from bayes_pfl.support.files import raising_not_written, write_atomically

_ROW_COLUMNS = ("text_score", "map_score", "top_mean", "uncertainty", "pixel_ap")
_INSIDE_RUNS = ("best", "last", "checkpoints", "model.safetensors")


@dataclass
class CheckpointFiles:
    """The folder with the results of one checkpoint."""

    out: Path
    _images: list[list[Any]] = field(default_factory=list)

    def write_report(self, report: dict[str, Any], suffix: str) -> None:
        """metrics.json and metrics.csv."""
        write_json(self.out / f"metrics{suffix}.json", report)
        write_results(self.out / f"metrics{suffix}.csv", categories_csv(report))

    def add_images(self, dataset: str, seed: int, records: Mapping[str, CategoryRecord]) -> None:
        """Remember the scores of every image for images.csv."""
        for name, record in records.items():
            authors = record.image_scores("authors").tolist()
            for row, score in zip(record.rows, authors, strict=True):
                values = [getattr(row, column) for column in _ROW_COLUMNS]
                values = [None if math.isnan(value) else value for value in values]
                about = [dataset, name, seed, row.path, row.label]
                self._images.append([*about, *values, row.deploy_score, score])

    def write_images(self) -> None:
        """images.csv: one line per dataset, category, seed and image."""
        about, scores = ("dataset", "category", "seed", "path", "label"), ("deploy", "authors")
        head = (*about, *_ROW_COLUMNS, *(f"score_{protocol}" for protocol in scores))
        write_results(self.out / "images.csv", csv_text([head, *self._images]))

    def write_curves(
        self, dataset: str, record: CategoryRecord, protocol: Protocol, title: str, suffix: str
    ) -> None:
        """curves/<dataset>/<category>.png."""
        picture = curves_png(
            f"{title} ({protocol})",
            record.image_metrics(protocol).curves() if "image" in record.levels else {},
            record.pixel_curves,
            record.image_scores(protocol),
            record.labels,
        )
        write_results(self._picture("curves", dataset, record.category + suffix), picture)

    def write_sheet(self, dataset: str, category: str, sheet: Image.Image) -> None:
        """sheets/<dataset>/<category>.png."""
        buffer = io.BytesIO()
        sheet.save(buffer, format="PNG")
        write_results(self._picture("sheets", dataset, category), buffer.getvalue())

    def _picture(self, kind: str, dataset: str, name: str) -> Path:
        path = self.out / kind / quote(dataset, safe=" ") / f"{quote(name, safe=' ')}.png"
        prepare_folder(path.parent)
        return path


def write_tables(
    request: EvaluationRequest,
    protocol: Protocol,
    reports: Mapping[str, Mapping[str, Any]],
    by_category: Mapping[str, str],
) -> tuple[str, str]:
    """Write table.md, .csv, .json and .tex in the paper's arrangement.

    Args:
        reports, by_category: metrics.json objects and their markdown tables, by method.

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
            summary += f"Ours is of protocol {protocol}, another way of measuring.\n"
    text = summary
    for method, table in by_category.items():
        title = "By category" if len(by_category) == 1 else f"By category: {method}"
        text += f"\n**{title}**\n\n{table}"
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
        name, number = base, 2
        while name in names:
            name, number = f"{base}-{number}", number + 1
        names.append(name)
    return names


def prepare_folder(out: Path) -> None:
    """Make the output folder, before any work.

    Raises:
        DataError: it cannot be made or written.
    """
    with raising_not_written(out, "choose another --out", DataError):
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / ".writable", "").unlink()


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
