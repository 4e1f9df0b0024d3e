"""One checkpoint of an evaluation, on every dataset and with every seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bayes_pfl.checkpoints.fingerprint import fingerprint
from bayes_pfl.evaluate import files
from bayes_pfl.evaluate.cache import DatasetCache, cache_key
from bayes_pfl.evaluate.contact_sheets import category_sheet
from bayes_pfl.evaluate.curves import category_curves
from bayes_pfl.evaluate.datasets import EvaluationData
from bayes_pfl.evaluate.figures import combine_seeds
from bayes_pfl.evaluate.journal import EvaluationJournal
from bayes_pfl.evaluate.parallel import Team, evaluate_together
from bayes_pfl.evaluate.records import CategoryRecord, Protocol, Skipped, dataset_result
from bayes_pfl.evaluate.report_pictures import MOST_PICTURES, EvaluationPictures
from bayes_pfl.evaluate.request import EvaluationOutcome, EvaluationRequest
from bayes_pfl.evaluate.scoring import EvaluationSettings
from bayes_pfl.evaluate.tables import categories_csv
from bayes_pfl.evaluate.threshold import add_rates, check_calibration
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.support.progress import Progress


@dataclass(frozen=True)
class EvaluationContext:
    """What all checkpoints of an evaluation share."""

    request: EvaluationRequest
    journal: EvaluationJournal
    team: Team
    progress: Progress


class CheckpointRun:
    """Scores everything that was asked for with one checkpoint, and writes its files.

    Args:
        checkpoint: as the user named it.
        out: folder of its results.

    Raises:
        ConfigError: the calibration does not fit, or a resumed run had other weights.
        DataError: ``out`` cannot be written.
    """

    def __init__(
        self, model: BayesPFLNetwork, checkpoint: str, out: Path, context: EvaluationContext
    ) -> None:
        request = self.request = context.request
        if request.calibration:
            check_calibration(
                request.calibration, model, request.data, request.settings, request.seeds
            )
        files.prepare_folder(out)
        self.model, self.checkpoint, self.context = model, checkpoint, context
        self.out = out
        self.image_rows: list[list[Any]] = []
        self.fingerprint = fingerprint(model)
        context.journal.check_weights(checkpoint, self.fingerprint)
        self.skipped = list(request.skipped)
        self.results: dict[Protocol, dict[str, list[Any]]] = {p: {} for p in request.protocols}
        self.pictures = self._pictures()

    def _pictures(self) -> EvaluationPictures | None:
        """What draws the pictures of the report, if there is to be one with pictures."""
        request = self.request
        if not request.report or request.images > MOST_PICTURES:
            return None
        settings = replace(request.settings, seed=request.seeds[0])
        key = cache_key(self.model, self.fingerprint, settings)
        return EvaluationPictures(self.model, self.out, request.images, key)

    def evaluate(self) -> None:
        """Score every image with every seed; the first process keeps the results."""
        for data in self.request.data:
            for seed in self.request.seeds:
                records = {record.category: record for record in self._records(data, seed)}
                if self.context.team.first:
                    self._keep(data, seed, records)

    def _keep(self, data: EvaluationData, seed: int, records: dict[str, CategoryRecord]) -> None:
        """Add the results of a dataset with one seed."""
        self.image_rows += files.image_rows(data.name, seed, records)
        for protocol, by_dataset in self.results.items():
            result = dataset_result(records, protocol)
            if protocol == "deploy" and self.request.calibration:
                add_rates(result, records, data, self.request.calibration)
            by_dataset.setdefault(data.name, []).append(result)

    def _records(self, data: EvaluationData, seed: int) -> Iterator[CategoryRecord]:
        """The records of a dataset, sealed; with the first seed their pictures are drawn."""
        settings = replace(self.request.settings, seed=seed)
        draws = seed == self.request.seeds[0]
        for record in evaluate_together(
            self.context.team,
            self.model,
            data,
            settings,
            lambda done: self.context.progress.advance(done, {}),
            self._cache(data.name, settings),
            self.pictures if draws else None,
        ):
            record.seal()
            self.context.journal.note(self.checkpoint, data.name, seed, record)
            failures = [Skipped(data.name, record.category, *item) for item in record.skipped]
            self.skipped += [item for item in failures if item not in self.skipped]
            if draws and record.rows:
                self._draw(record, data, settings)
            yield record

    def _cache(self, dataset: str, settings: EvaluationSettings) -> DatasetCache | None:
        if self.request.cache is None:
            return None
        key = cache_key(self.model, self.fingerprint, settings)
        return DatasetCache(self.request.cache, key, dataset, strict=self.request.resume)

    def _draw(
        self, record: CategoryRecord, data: EvaluationData, settings: EvaluationSettings
    ) -> None:
        """Draw the curves and the contact sheet of a category, if asked for."""
        title = f"{data.name} / {record.category}"
        for protocol in self.request.protocols if self.request.curves else ():
            name = record.category + self.request.suffix(protocol)
            curves = category_curves(record, protocol, title)
            files.write_png(self.out / "curves", data.name, name, curves)
        if self.request.sheets:
            samples = [sample for sample in data.samples if sample.category == record.category]
            sheet = category_sheet(self.model, record, samples, settings, title)
            files.write_png(self.out / "sheets", data.name, record.category, sheet)

    def write(self, name: str, outcome: EvaluationOutcome) -> None:
        """Write the files of this checkpoint, and add its results under ``name``."""
        for protocol, by_dataset in self.results.items():
            report = self._report(protocol, by_dataset)
            path = self.out / f"metrics{self.request.suffix(protocol)}"
            files.write_json(path.with_suffix(".json"), report)
            files.write_results(path.with_suffix(".csv"), categories_csv(report))
            outcome.reports.setdefault(protocol, {})[name] = report
        files.write_images(self.out, self.image_rows)
        outcome.skipped += [item for item in self.skipped if item not in outcome.skipped]

    def _report(self, protocol: Protocol, by_dataset: dict[str, list[Any]]) -> dict[str, Any]:
        """The object of metrics.json."""
        datasets = {}
        for data in self.request.data:
            about: dict[str, Any] = {"domain": data.domain, "levels": list(data.levels)}
            about |= {"notes": list(data.notes)} if data.notes else {}
            datasets[data.name] = combine_seeds(by_dataset[data.name]) | about
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
