"""One evaluation from a user's request: checkpoints, datasets, seeds, protocols; and its files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bayes_pfl.checkpoints.fingerprint import fingerprint
from bayes_pfl.checkpoints.load import load_checkpoint
from bayes_pfl.detect.class_names import check_class_name
from bayes_pfl.detect.references import COMBINED_RANGE
from bayes_pfl.errors import DataError
from bayes_pfl.evaluate.cache import DatasetCache, cache_key
from bayes_pfl.evaluate.curves import category_curves
from bayes_pfl.evaluate.datasets import EvaluationData, read_trees
from bayes_pfl.evaluate.files import (
    CURVES,
    SHEETS,
    folder_names,
    image_rows,
    method_names,
    prepare_folder,
    remove_results,
    write_images,
    write_json,
    write_png,
    write_results,
    write_tables,
)
from bayes_pfl.evaluate.journal import CheckWeights, evaluation_journal
from bayes_pfl.evaluate.parallel import Team, evaluate_together, working_together
from bayes_pfl.evaluate.pictures import MOST_PICTURES, category_sheet
from bayes_pfl.evaluate.records import (
    MARKS,
    CategoryRecord,
    Protocol,
    Skipped,
    combine_seeds,
    dataset_result,
)
from bayes_pfl.evaluate.reference_draw import (
    PROFILE,
    Draw,
    Method,
    draw_references,
    method_label,
    profile_references,
    reference_notes,
)
from bayes_pfl.evaluate.request import EvaluationOutcome, EvaluationRequest
from bayes_pfl.evaluate.scoring import EvaluationSettings
from bayes_pfl.evaluate.shots_table import shots_csv, shots_markdown
from bayes_pfl.evaluate.tables import categories_csv, categories_markdown
from bayes_pfl.evaluate.threshold import add_rates, check_fitted, threshold_line
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.report.pictures import ReportPictures
from bayes_pfl.report.runs import report_of_run
from bayes_pfl.support.environment import environment
from bayes_pfl.support.progress import NullProgress, Progress

Load = Callable[[str], BayesPFLNetwork]
_DEFAULTS = EvaluationSettings()
_LEFT_OUT = "left out of means (--include-trained counts them)"
_NO_MASK = "anomalous without a mask, so left out of pixel figures"
_NATIVE = (
    "Native resolution: images in tiles (tile {tile}, overlap {overlap:g}), maps and masks at the "
    "images' own size, all pixels of a category together; not comparable with figures at the "
    "model's size, such as published ones."
)
_BOTH = (
    "One pass made both protocols, with the class names and masks of deploy; --protocol authors "
    "alone uses those of the authors."
)


def run_evaluation(
    model: BayesPFLNetwork,
    checkpoint: str,
    sources: Sequence[Path],
    out: Path,
    protocols: Sequence[Protocol] = ("deploy",),
    settings: EvaluationSettings = _DEFAULTS,
    progress: Progress | None = None,
) -> dict[Protocol, str]:
    """Evaluate a loaded model on trees or meta.json files, without a cache.

    Args:
        checkpoint: name of the model in the results.
        sources: MVTec-style trees or meta.json files.
        out: folder of the files that :func:`run_benchmark` describes.

    Returns:
        The markdown table of every category, by protocol.
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
    return {p: categories_markdown(*reports.values()) for p, reports in outcome.reports.items()}


def run_benchmark(
    request: EvaluationRequest, progress: Progress | None = None, load: Load = load_checkpoint
) -> EvaluationOutcome:
    """Evaluate and write the results into ``request.out``.

    Writes metrics.json, metrics.csv, images.csv (the scores of every image) and table.md, .csv,
    .json, .tex. The files of a second protocol end in _authors; with several checkpoints, metrics
    and images lie in a folder for each. Images that cannot be read are listed and left out. The
    processes of ``torchrun`` share the images, and only the first writes and returns results.

    Raises:
        BayesPFLError: a checkpoint that cannot be loaded, a folder that cannot be written.
    """
    progress = progress or NullProgress()
    if not request.images:
        raise DataError("nothing to evaluate on: give datasets with test images")
    request = request.with_its_tiles()
    with working_together(request.for_its_protocol()) as (team, own):
        prepare_folder(own.out)
        with evaluation_journal(own) as check_weights:
            return _run(own, check_weights, team, progress if team.first else NullProgress(), load)


def _run(
    request: EvaluationRequest,
    check_weights: CheckWeights,
    team: Team,
    progress: Progress,
    load: Load,
) -> EvaluationOutcome:
    outcome = EvaluationOutcome()
    names = method_names(request.checkpoints, request.methods)
    draws = {method: _draws(request, method) for method in request.methods}
    several = len(names) * len(draws) > 1
    folders: list[Path] = []
    by_shots: dict[str, dict[Method, Any]] = {}
    device = ""
    plain_names = folder_names(request.checkpoints)
    for checkpoint, plain, own in zip(request.checkpoints, plain_names, names, strict=True):
        model = load(checkpoint)
        if not device:  # the first checkpoint: loading it may show progress of its own
            progress.start("evaluate", len(names) * sum(map(_images, draws.values())))
        device = str(model.device)
        for name, method in zip(own, request.methods, strict=True):
            folder = request.out / name if several else request.out
            folders.append(folder)
            run = _CheckpointRun(
                model, checkpoint, folder, request, team, progress, method, draws[method]
            )
            check_weights(checkpoint, run.fingerprint)
            if team.first and len(folders) == 1:  # now that nothing more is refused
                remove_results(request.out)
            run.evaluate()
            if team.first:
                run.write(name, outcome)
                report = outcome.reports[request.protocols[0]][name]
                by_shots.setdefault(plain, {})[method] = report
    if team.first:
        if request.shots:
            outcome.shots = shots_markdown(by_shots)
            write_results(request.out / "shots.md", outcome.shots)
            write_results(request.out / "shots.csv", shots_csv(by_shots))
        for protocol, reports in outcome.reports.items():
            tables = write_tables(request, protocol, reports)
            outcome.summaries[protocol], outcome.tables[protocol] = tables
        write_json(request.out / "config.json", _config(request))
        write_json(request.out / "environment.json", environment(device))
        for folder in folders if request.report else ():
            outcome.pages.append(report_of_run(folder))
    return outcome


Draws = Mapping[int, Sequence[Draw]]
"""The references of every dataset, in their order, by seed."""


def _draws(request: EvaluationRequest, method: Method) -> Draws:
    def draw(data: EvaluationData, seed: int) -> Draw:
        if method == PROFILE:
            assert request.profile is not None  # the method is there because of it
            return profile_references(data, request.profile)
        return draw_references(data, method, seed)

    return {seed: [draw(data, seed) for data in request.data] for seed in request.seeds}


def _images(draws: Draws) -> int:
    return sum(len(draw.data.samples) for of_seed in draws.values() for draw in of_seed)


@dataclass
class _CheckpointRun:
    """Scores what was asked for with one checkpoint and one method, and writes its files.

    Attributes:
        checkpoint: as the user named it.
        out: folder of its results.
        results: by protocol and dataset, one for each seed.

    Raises:
        ConfigError: the calibration or profile does not fit.
        DataError: ``out`` cannot be written, or a word cannot be in a prompt.
    """

    model: BayesPFLNetwork
    checkpoint: str
    out: Path
    request: EvaluationRequest
    team: Team
    progress: Progress
    method: Method
    draws: Draws

    def __post_init__(self) -> None:
        request = self.request
        for fitted in (request.calibration, request.profile):
            check_fitted(fitted, self.model, request.data, request.settings, request.seeds)
        for word in dict.fromkeys(s.class_name for data in request.data for s in data.samples):
            check_class_name(self.model, word)
        prepare_folder(self.out)
        self.fingerprint = fingerprint(self.model)
        self.skipped = list(request.skipped)
        self.unmasked: list[Skipped] = []
        self.image_rows: list[list[Any]] = []
        self.results: dict[Protocol, dict[str, list[Any]]] = {p: {} for p in request.protocols}
        self.pictures: ReportPictures | None = None

    def _settings(self, seed: int) -> EvaluationSettings:
        return replace(self.request.settings, seed=seed)

    def _key(self, seed: int, *draws: Draw) -> str:
        key = cache_key(self.model, self.fingerprint, self._settings(seed))
        if self.method != 0:
            of_all = "".join(draw.identity for draw in draws)
            if len(draws) > 1:
                of_all = hashlib.sha256(of_all.encode()).hexdigest()[:16]
            key = f"{key}-{method_label(self.method)}-{of_all}"
        return f"{key}-smooth-masks" if self.request.settings.smooth_masks else key

    def evaluate(self) -> None:
        """Score every image with every seed; the first process keeps the results."""
        request = self.request
        if request.report and request.images <= MOST_PICTURES:
            words = self.model.config.scoring.map_range
            limits = COMBINED_RANGE if self.method != 0 else words
            self.pictures = ReportPictures(self.out, limits, request.images)
            self.pictures.prepare(self._key(request.seeds[0], *self.draws[request.seeds[0]]))
        for place, data in enumerate(request.data):
            about = self._about(data)
            for seed in request.seeds:
                drawn = self.draws[seed][place]
                records = {record.category: record for record in self._records(drawn, seed)}
                if not self.team.first:
                    continue
                self.image_rows += image_rows(data.name, seed, records)
                for protocol, by_dataset in self.results.items():
                    result = dataset_result(records, protocol, about, request.include_trained)
                    tried = request.threshold(self.method)
                    if protocol == "deploy" and tried:
                        add_rates(result, records, data, tried)
                    by_dataset.setdefault(data.name, []).append(result)

    def _about(self, data: EvaluationData) -> dict[str, dict[str, Any]]:
        """The word of each category, and whether the checkpoint was trained or validated on it."""
        training = self.model.config.training
        seen = (training.trained, training.validated) if training else ((), ())
        about: dict[str, dict[str, Any]] = {}
        for sample in data.samples:
            name = f"{sample.dataset}/{sample.category}"
            learnt = {key: True for key, names in zip(MARKS, seen, strict=True) if name in names}
            about[sample.category] = {"class_name": sample.class_name} | learnt
        return about

    def _records(self, drawn: Draw, seed: int) -> Iterator[CategoryRecord]:
        """The records of a dataset, sealed; with the first seed their pictures are drawn."""
        data, settings, cache = drawn.data, self._settings(seed), None
        if self.request.cache is not None:
            key = self._key(seed, drawn)
            cache = DatasetCache(self.request.cache, key, data.name, strict=self.request.resume)
        draws = seed == self.request.seeds[0]
        for record in evaluate_together(
            self.team,
            self.model,
            data,
            settings,
            lambda done: self.progress.advance(done, {}),
            cache,
            self.pictures if draws else None,
            drawn.references,
        ):
            record.seal()
            failures = [Skipped(data.name, record.category, *item) for item in record.skipped]
            self.skipped += [item for item in failures if item not in self.skipped]
            if draws:
                own = data.name, record.category
                self.unmasked += [Skipped(*own, path, _NO_MASK) for path in record.unmasked]
            if draws and record.rows:
                self._draw(record, drawn, settings)
            yield record

    def _draw(self, record: CategoryRecord, drawn: Draw, settings: EvaluationSettings) -> None:
        """Draw the curves and the contact sheet of a category, if asked for."""
        data, references = drawn.data, drawn.references.get(record.category)
        title = f"{data.name} / {record.category}"
        for protocol in self.request.protocols if self.request.curves else ():
            name = record.category + self.request.suffix(protocol)
            curves = category_curves(record, protocol, title)
            write_png(self.out / CURVES, data.name, name, curves)
        if self.request.sheets:
            samples = [sample for sample in data.samples if sample.category == record.category]
            sheet = category_sheet(self.model, record, samples, settings, title, references)
            write_png(self.out / SHEETS, data.name, record.category, sheet)

    def write(self, name: str, outcome: EvaluationOutcome) -> None:
        """Write the files of this checkpoint, and add its results under ``name``."""
        for protocol, by_dataset in self.results.items():
            report = self._report(protocol, by_dataset)
            path = self.out / f"metrics{self.request.suffix(protocol)}"
            write_json(path.with_suffix(".json"), report)
            write_results(path.with_suffix(".csv"), categories_csv(report))
            outcome.reports.setdefault(protocol, {})[name] = report
        write_images(self.out, self.image_rows, self.request.references)
        outcome.skipped += [item for item in self.skipped if item not in outcome.skipped]

    def _notes(self, protocol: Protocol, datasets: Mapping[str, Any]) -> list[str]:
        """What a reader of the tables must know, one line each."""
        entries = {
            f"{dataset}/{category}": entry
            for dataset, result in datasets.items()
            for category, entry in result["categories"].items()
        }
        kept = "counted in means, as asked" if self.request.include_trained else _LEFT_OUT
        chosen = "has the epoch that was best on these categories"
        notes = [_BOTH] if protocol == "authors" and len(self.request.protocols) > 1 else []
        if (tile := self.request.settings.tile) is not None:
            notes.append(_NATIVE.format(tile=tile, overlap=self.request.settings.overlap))
        notes += reference_notes(self.method, self.draws[self.request.seeds[0]])
        if self.unmasked:
            more = f" and {len(self.unmasked) - 1} more" if len(self.unmasked) > 1 else ""
            notes.append(f"{_NO_MASK.capitalize()}: {self.unmasked[0].path}{more}.")
        texts = (f"was trained on these categories, {kept}", chosen)
        for (key, sign), text in zip(MARKS.items(), texts, strict=True):
            if names := [name for name, entry in entries.items() if entry.get(key)]:
                notes.append(f"{sign} {self.checkpoint} {text}: {', '.join(names)}.")
        rated = {name: entry for name, entry in entries.items() if "at_threshold" in entry}
        return notes + [f"{name}: {threshold_line(entry)}" for name, entry in rated.items()]

    def _report(self, protocol: Protocol, by_dataset: dict[str, list[Any]]) -> dict[str, Any]:
        """The object of metrics.json."""
        datasets = {}
        for data in self.request.data:
            about: dict[str, Any] = {"domain": data.domain, "levels": list(data.levels)}
            about |= {"notes": list(data.notes)} if data.notes else {}
            datasets[data.name] = combine_seeds(by_dataset[data.name]) | about
        report: dict[str, Any] = {
            "protocol": protocol,
            "checkpoint": self.checkpoint,
            "checkpoint_sha256": self.fingerprint,
            "seeds": list(self.request.seeds),
            "datasets": datasets,
            "skipped": [asdict(item) for item in self.skipped],
            "unmasked": [asdict(item) for item in self.unmasked],
            "notes": self._notes(protocol, datasets),
        }
        if (settings := self.request.settings).tile is not None:
            report |= {"resolution": "native", "tile": settings.tile, "overlap": settings.overlap}
        if self.method != 0:
            report["references"] = method_label(self.method)
        if len(self.request.seeds) > 1:
            report["per_seed"] = {
                str(seed): {name: results[place] for name, results in by_dataset.items()}
                for place, seed in enumerate(self.request.seeds)
            }
        return report


def _config(request: EvaluationRequest) -> dict[str, Any]:
    """The object of config.json."""
    datasets = {
        data.name: {"images": len(data.samples), "first": str(data.samples[0].path)}
        for data in request.data
        if data.samples
    }
    return {
        "checkpoints": list(request.checkpoints),
        "datasets": datasets,
        "protocols": list(request.protocols),
        "settings": asdict(request.settings),
        "seeds": list(request.seeds),
        "cache": str(request.cache) if request.cache else None,
        "compared_with": request.published.source if request.published else None,
    } | (
        ({"methods": list(request.methods)} if request.references else {})
        | ({"profile": request.profile.summary_dict()} if request.profile else {})
    )
