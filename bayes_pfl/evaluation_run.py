"""One evaluation from a user's request: several datasets, one or both protocols, files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bayes_pfl.data.records import Sample
from bayes_pfl.data.sources import read_source
from bayes_pfl.errors import DataError
from bayes_pfl.evaluation import CategoryRecord, EvaluationSettings, dataset_result, evaluate
from bayes_pfl.files import write_atomically
from bayes_pfl.model import BayesPFL
from bayes_pfl.progress import Progress, Silence
from bayes_pfl.run_files import environment
from bayes_pfl.tables import markdown, to_csv


def run_evaluation(
    model: BayesPFL,
    checkpoint: str,
    sources: Sequence[Path],
    out: Path,
    protocols: Sequence[str] = ("deploy",),
    settings: EvaluationSettings = EvaluationSettings(),  # noqa: B008  (frozen)
    progress: Progress | None = None,
) -> dict[str, str]:
    """Evaluate on each source and write metrics.json, table.md and metrics.csv into ``out``.

    With a second protocol its files are named metrics_authors.json and so on.

    Returns:
        The markdown table of each protocol.
    """
    progress = progress or Silence()
    datasets = read_all(sources)
    prepare_folder(out)
    records: dict[str, dict[str, CategoryRecord]] = {}
    for name, samples in datasets.items():
        progress.start(f"evaluate {name}", len(samples))
        records[name] = evaluate(model, samples, settings, lambda done: progress.advance(done, {}))
    tables = {}
    for position, protocol in enumerate(protocols):
        report = {
            "protocol": protocol,
            "checkpoint": checkpoint,
            "datasets": {name: dataset_result(r, protocol) for name, r in records.items()},
        }
        tables[protocol] = _write_report(out, report, f"_{protocol}" if position else "")
    resolved = {"settings": asdict(settings), "sources": [str(source) for source in sources]}
    write_results(out / "config.json", json.dumps(resolved, indent=2) + "\n")
    described = json.dumps(environment(str(model.device)), indent=2) + "\n"
    write_results(out / "environment.json", described)
    return tables


def read_all(sources: Sequence[Path]) -> dict[str, list[Sample]]:
    """Samples by dataset name; equal folder names get their parent's name before them."""
    datasets: dict[str, list[Sample]] = {}
    for source in sources:
        root = source.resolve()
        root = root.parent if root.is_file() else root
        name = root.name if root.name not in datasets else f"{root.parent.name}/{root.name}"
        if name in datasets:
            raise DataError(f"{source}: given twice, or named like another; rename its folder")
        datasets[name] = read_source(source, dataset=name)
    return datasets


def prepare_folder(out: Path) -> None:
    """Make the output folder, before any work.

    Raises:
        DataError: it cannot be made or written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = write_atomically(out / ".writable", "")
        probe.unlink()
    except OSError as error:
        raise DataError(
            f"{out}: cannot be written ({error.strerror}); choose another --out"
        ) from error


def write_results(path: Path, text: str) -> None:
    """Write a results file whole or not at all."""
    try:
        write_atomically(path, text)
    except OSError as error:
        raise DataError(f"{path}: not written ({error.strerror}); make room, run again") from error


def _write_report(out: Path, report: dict[str, Any], suffix: str) -> str:
    table = markdown(report)
    write_results(out / f"metrics{suffix}.json", json.dumps(report, indent=2) + "\n")
    write_results(out / f"table{suffix}.md", table)
    write_results(out / f"metrics{suffix}.csv", to_csv(report))
    return table
