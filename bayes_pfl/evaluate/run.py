"""One evaluation from a user's request: checkpoints, datasets, seeds, protocols; and its files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from bayes_pfl.checkpoints.fingerprint import fingerprint
from bayes_pfl.checkpoints.load import load_checkpoint
from bayes_pfl.errors import DataError
from bayes_pfl.evaluate.cache import DatasetCache, cache_key
from bayes_pfl.evaluate.categories import (
    EvaluationSettings,
    Watch,
    dataset_result,
)
from bayes_pfl.evaluate.datasets import EvaluationData, read_trees
from bayes_pfl.evaluate.files import (
    CheckpointFiles,
    folder_names,
    prepare_folder,
    write_json,
    write_tables,
)
from bayes_pfl.evaluate.journal import EvaluationJournal
from bayes_pfl.evaluate.parallel import Team, evaluate_together, working_together
from bayes_pfl.evaluate.records import CategoryRecord, Skipped
from bayes_pfl.evaluate.report_pictures import MOST as MOST_PICTURES
from bayes_pfl.evaluate.report_pictures import EvaluationPictures
from bayes_pfl.evaluate.request import EvaluationRequest, Outcome
from bayes_pfl.evaluate.seeds import combine_seeds
from bayes_pfl.evaluate.threshold import add_rates, check_calibration
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.report.runs import report_of_run
from bayes_pfl.support.environment import environment
from bayes_pfl.support.progress import NullProgress, Progress

__all__ = ["EvaluationRequest", "Outcome", "prepare_folder", "run_benchmark", "run_evaluation"]

Load = Callable[[str], BayesPFLNetwork]


def run_evaluation(
    model: BayesPFLNetwork,
    checkpoint: str,
    sources: Sequence[Path],
    out: Path,
    protocols: Sequence[str] = ("deploy",),
    settings: EvaluationSettings = EvaluationSettings(),  # noqa: B008  (frozen)
    progress: Progress | None = None,
) -> dict[str, str]:
    """Evaluate a loaded model on trees or meta.json files, without a cache; files as below.

    Returns:
        The markdown table of each protocol, by category.
    """
    request = EvaluationRequest(
        checkpoints=(checkpoint,),
        data=tuple(read_trees(sources)),
        out=out,
        protocols=tuple(protocols),
        settings=settings,
        seeds=(settings.seed,),
    )
    outcome = run_benchmark(request, progress, load=lambda _: model)
    return {p: next(iter(tables.values())) for p, tables in outcome.by_category.items()}


def run_benchmark(
    request: EvaluationRequest, progress: Progress | None = None, load: Load = load_checkpoint
) -> Outcome:
    """Evaluate and write the results into ``request.out``.

    metrics.json, metrics.csv, images.csv (every image's scores) and table.md, .csv, .json, .tex;
    with a second protocol its files end in _authors; with several checkpoints, metrics and images
    lie in a folder for each. Images that cannot be read are listed and left out. With torchrun the
    processes share the images, and the first one alone writes and returns results.

    Raises:
        BayesPFLError: a checkpoint that cannot be loaded, a folder that cannot be written.
    """
    progress = progress or NullProgress()
    images = sum(len(data.samples) for data in request.data)
    if not images:
        raise DataError("nothing to evaluate on: give datasets with test images")
    with working_together(request) as (team, own):
        prepare_folder(own.out)
        with EvaluationJournal(own) as journal:
            return _run(own, images, progress if team.first else NullProgress(), load, journal, team)


def _run(
    request: EvaluationRequest,
    images: int,
    progress: Progress,
    load: Load,
    journal: EvaluationJournal,
    team: Team,
) -> Outcome:
    outcome = Outcome()
    names = folder_names(request.checkpoints)
    device = ""
    for checkpoint, name in zip(request.checkpoints, names, strict=True):
        model = load(checkpoint)
        if not device:
            progress.start("evaluate", images * len(request.seeds) * len(names))
        device = str(model.device)
        out = request.out if len(names) == 1 else request.out / name
        files = CheckpointFiles(out)
        run = _CheckpointRun(model, checkpoint, files, request, progress, journal, team)
        run.evaluate()
        if team.first:
            run.write(name, outcome)
    if not team.first:
        return outcome
    for protocol, reports in outcome.reports.items():
        outcome.summaries[protocol], outcome.tables[protocol] = write_tables(
            request.out,
            _suffix(request, protocol),
            protocol,
            reports,
            outcome.by_category[protocol],
            request.data,
            request.published,
        )
    write_json(request.out / "config.json", _resolved(request))
    write_json(request.out / "environment.json", environment(device))
    if request.report:
        for name in names:
            report_of_run(request.out if len(names) == 1 else request.out / name)
    journal.end()
    return outcome


class _CheckpointRun:
    """One checkpoint on every dataset, with every seed."""

    def __init__(
        self,
        model: BayesPFLNetwork,
        checkpoint: str,
        files: CheckpointFiles,
        request: EvaluationRequest,
        progress: Progress,
        journal: EvaluationJournal,
        team: Team,
    ) -> None:
        if request.calibration:
            found = request.calibration
            check_calibration(found, model, request.data, request.settings, request.seeds)
        prepare_folder(files.out)
        self.model, self.checkpoint, self.files = model, checkpoint, files
        self.request, self.progress, self.journal = request, progress, journal
        self.team = team
        self.fingerprint = fingerprint(model)
        journal.check_weights(checkpoint, self.fingerprint)
        self.skipped = list(request.skipped)
        self.found: dict[str, dict[str, list[Any]]] = {p: {} for p in request.protocols}
        self.pictures = self._pictures()

    def _pictures(self) -> EvaluationPictures | None:
        count = sum(len(data.samples) for data in self.request.data)
        if not self.request.report or count > MOST_PICTURES:
            return None
        settings = replace(self.request.settings, seed=self.request.seeds[0])
        key = cache_key(self.model, self.fingerprint, settings)
        return EvaluationPictures(self.model, self.files.out, count, key)

    def evaluate(self) -> None:
        """Score everything; results by protocol and dataset, one for each seed."""
        for data in self.request.data:
            for seed in self.request.seeds:
                records = self._records(data, replace(self.request.settings, seed=seed))
                if not self.team.first:
                    continue
                self.files.add_images(data.name, seed, records)
                for protocol, by_dataset in self.found.items():
                    result = dataset_result(records, protocol)  # type: ignore[arg-type]
                    if protocol == "deploy" and self.request.calibration:
                        add_rates(result, records, data, self.request.calibration)
                    by_dataset.setdefault(data.name, []).append(result)

    def _records(
        self, data: EvaluationData, settings: EvaluationSettings
    ) -> dict[str, CategoryRecord]:
        """Sealed records by category, drawn as they come."""
        cache = None
        if self.request.cache is not None:
            key = cache_key(self.model, self.fingerprint, settings)
            cache = DatasetCache(self.request.cache, key, data.name, strict=self.request.resume)
        records = {}
        for record in evaluate_together(
            self.team,
            self.model,
            data,
            settings,
            lambda done: self.progress.advance(done, {}),
            cache,
            self._watch(data, settings),
            self.pictures,
        ):
            record.seal()
            records[record.category] = record
            self.journal.note(self.checkpoint, data.name, settings.seed, record)
            failures = [Skipped(data.name, record.category, *item) for item in record.skipped]
            self.skipped += [item for item in failures if item not in self.skipped]
            if settings.seed == self.request.seeds[0]:
                self._draw(record, data, settings)
        return records

    def _watch(self, data: EvaluationData, settings: EvaluationSettings) -> Watch | None:
        """Draws the pictures of the first seed for the report."""
        if self.pictures is None or settings.seed != self.request.seeds[0]:
            return None
        return partial(self.pictures.draw, data.name)

    def _draw(
        self, record: CategoryRecord, data: EvaluationData, settings: EvaluationSettings
    ) -> None:
        """Curves and contact sheet of a category, if asked for."""
        if not record.rows:
            return
        title = f"{data.name} / {record.category}"
        if self.request.curves:
            for protocol in self.request.protocols:
                suffix = _suffix(self.request, protocol)
                self.files.write_curves(data.name, record, protocol, title, suffix)
        if self.request.sheets:
            from bayes_pfl.evaluate.contact_sheets import category_sheet

            samples = [sample for sample in data.samples if sample.category == record.category]
            sheet = category_sheet(self.model, record, samples, settings, title)
            self.files.write_sheet(data.name, record.category, sheet)

    def write(self, name: str, outcome: Outcome) -> None:
        """Write the files of this checkpoint, and add its results under ``name``."""
        for protocol, by_dataset in self.found.items():
            report = self._report(protocol, by_dataset)
            table = self.files.write_report(report, _suffix(self.request, protocol))
            outcome.reports.setdefault(protocol, {})[name] = report
            outcome.by_category.setdefault(protocol, {})[name] = table
        self.files.write_images()
        outcome.skipped += [item for item in self.skipped if item not in outcome.skipped]

    def _report(self, protocol: str, by_dataset: dict[str, list[Any]]) -> dict[str, Any]:
        """The object of metrics.json."""
        datasets = {}
        for data in self.request.data:
            about = {"domain": data.domain, "levels": list(data.levels)}
            notes = {"notes": list(data.notes)} if data.notes else {}
            datasets[data.name] = combine_seeds(by_dataset[data.name]) | about | notes
        report = {
            "protocol": protocol,
            "checkpoint": self.checkpoint,
            "checkpoint_sha256": self.fingerprint,
            "seeds": list(self.request.seeds),
            "datasets": datasets,
            "skipped": [asdict(item) for item in self.skipped],
        }
        if len(self.request.seeds) > 1:
            report["per_seed"] = {
                str(seed): {name: results[place] for name, results in by_dataset.items()}
                for place, seed in enumerate(self.request.seeds)
            }
        return report


def _suffix(request: EvaluationRequest, protocol: str) -> str:
    return "" if protocol == request.protocols[0] else f"_{protocol}"


def _resolved(request: EvaluationRequest) -> dict[str, Any]:
    datasets = {data.name: {"images": len(data.samples), "first": str(data.samples[0].path)}
                for data in request.data if data.samples}  # fmt: skip
    return {
        "checkpoints": list(request.checkpoints),
        "datasets": datasets,
        "protocols": list(request.protocols),
        "settings": asdict(request.settings),
        "seeds": list(request.seeds),
        "cache": str(request.cache) if request.cache else None,
        "compared_with": request.published.source if request.published else None,
    }
