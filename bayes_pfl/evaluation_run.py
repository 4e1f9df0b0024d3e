"""One evaluation from a user's request: checkpoints, datasets, seeds, protocols; and its files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bayes_pfl.checkpoints import load_checkpoint
from bayes_pfl.errors import DataError
from bayes_pfl.evaluation import EvaluationSettings, dataset_result, evaluate_categories
from bayes_pfl.evaluation_cache import DatasetCache, cache_key, model_fingerprint
from bayes_pfl.evaluation_data import EvaluationData, read_trees
from bayes_pfl.evaluation_files import (
    CheckpointFiles,
    folder_names,
    prepare_folder,
    write_json,
    write_tables,
)
from bayes_pfl.evaluation_records import CategoryRecord, Skipped
from bayes_pfl.evaluation_seeds import combine_seeds
from bayes_pfl.model import BayesPFL
from bayes_pfl.progress import Progress, Silence
from bayes_pfl.published import Published
from bayes_pfl.run_files import environment

__all__ = ["EvaluationRequest", "Outcome", "prepare_folder", "run_benchmark", "run_evaluation"]

Load = Callable[[str], BayesPFL]


@dataclass(frozen=True)
class EvaluationRequest:
    """What the user asked for; see ``bayes-pfl evaluate --help``.

    Attributes:
        checkpoints: one after the other; only one model is held at a time.
        skipped: datasets that could not be read, to be listed with the images that cannot.
        seeds: of the draws; figures are means over them, with their standard deviation.
        cache: folder of the scores done, so that a stopped run goes on; None for none.
        curves, sheets: whether to draw them.
    """

    checkpoints: tuple[str, ...]
    data: tuple[EvaluationData, ...]
    out: Path
    protocols: tuple[str, ...] = ("deploy",)
    settings: EvaluationSettings = EvaluationSettings(skip_unreadable=True)
    seeds: tuple[int, ...] = (0,)
    published: Published | None = None
    curves: bool = False
    sheets: bool = False
    cache: Path | None = None
    skipped: tuple[Skipped, ...] = ()


@dataclass
class Outcome:
    """What an evaluation found.

    Attributes:
        reports: metrics.json by protocol and checkpoint.
        tables: table.md by protocol: the paper's tables, then every category.
        by_category: the second part alone, by protocol and checkpoint.
    """

    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    tables: dict[str, str] = field(default_factory=dict)
    by_category: dict[str, dict[str, str]] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)


def run_evaluation(
    model: BayesPFL,
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
    return {protocol: tables[checkpoint] for protocol, tables in outcome.by_category.items()}


def run_benchmark(
    request: EvaluationRequest, progress: Progress | None = None, load: Load = load_checkpoint
) -> Outcome:
    """Evaluate and write the results into ``request.out``.

    metrics.json, metrics.csv, images.csv (every image's scores) and table.md, .csv, .json, .tex;
    with a second protocol its files end in _authors; with several checkpoints, metrics and images
    lie in a folder for each. Images that cannot be read are listed and left out.

    Raises:
        BayesPFLError: a checkpoint that cannot be loaded, a folder that cannot be written.
    """
    progress = progress or Silence()
    if not any(data.samples for data in request.data):
        raise DataError("nothing to evaluate on: give datasets with test images")
    prepare_folder(request.out)
    outcome = Outcome({protocol: {} for protocol in request.protocols})
    outcome.by_category = {protocol: {} for protocol in request.protocols}
    images = sum(len(data.samples) for data in request.data)
    progress.start("evaluate", images * len(request.seeds) * len(request.checkpoints))
    device = ""
    names = folder_names(request.checkpoints)
    for checkpoint, name in zip(request.checkpoints, names, strict=True):
        model = load(checkpoint)
        device = str(model.device)
        out = request.out if len(names) == 1 else request.out / name
        _one_checkpoint(model, checkpoint, CheckpointFiles(out), request, progress, outcome)
    columns = dict(zip(request.checkpoints, names, strict=True))
    for protocol, reports in outcome.reports.items():
        named = {columns[checkpoint]: report for checkpoint, report in reports.items()}
        by_category = {columns[c]: text for c, text in outcome.by_category[protocol].items()}
        suffix = _suffix(request, protocol)
        outcome.tables[protocol] = write_tables(
            request.out, suffix, protocol, named, by_category, request.data, request.published
        )
    write_json(request.out / "config.json", _resolved(request))
    write_json(request.out / "environment.json", environment(device))
    outcome.skipped = list(dict.fromkeys([*request.skipped, *outcome.skipped]))
    return outcome


def _one_checkpoint(
    model: BayesPFL,
    checkpoint: str,
    files: CheckpointFiles,
    request: EvaluationRequest,
    progress: Progress,
    outcome: Outcome,
) -> None:
    prepare_folder(files.out)
    fingerprint = model_fingerprint(model)
    skipped: list[Skipped] = []
    found: dict[str, dict[str, list[Any]]] = {protocol: {} for protocol in request.protocols}
    for data in request.data:
        for seed in request.seeds:
            settings = replace(request.settings, seed=seed)
            cache = _cache(request, model, fingerprint, settings, data.name)
            records = {}
            for record in evaluate_categories(
                model,
                data.samples,
                settings,
                lambda done: progress.advance(done, {}),
                data.levels,
                cache,
            ):
                record.seal()
                records[record.category] = record
                skipped += [Skipped(data.name, record.category, *s) for s in record.skipped]
                if seed == request.seeds[0]:
                    _draw(model, record, data, settings, request, files)
            files.add_images(data.name, seed, records)
            for protocol, by_dataset in found.items():
                result = dataset_result(records, protocol)  # type: ignore[arg-type]
                by_dataset.setdefault(data.name, []).append(result)
    skipped = list(dict.fromkeys([*request.skipped, *skipped]))
    for protocol, by_dataset in found.items():
        report = _report(protocol, checkpoint, fingerprint, request, by_dataset, skipped)
        outcome.reports[protocol][checkpoint] = report
        table = files.write_report(report, _suffix(request, protocol))
        outcome.by_category[protocol][checkpoint] = table
    files.write_images()
    outcome.skipped += skipped


def _report(
    protocol: str,
    checkpoint: str,
    fingerprint: str,
    request: EvaluationRequest,
    by_dataset: dict[str, list[Any]],
    skipped: Sequence[Skipped],
) -> dict[str, Any]:
    """The object of metrics.json."""
    about = {data.name: data for data in request.data}
    datasets = {}
    for name, results in by_dataset.items():
        extra = {"domain": about[name].domain, "levels": list(about[name].levels)}
        notes = {"notes": list(about[name].notes)} if about[name].notes else {}
        datasets[name] = combine_seeds(results) | extra | notes
    report = {
        "protocol": protocol,
        "checkpoint": checkpoint,
        "checkpoint_sha256": fingerprint,
        "seeds": list(request.seeds),
        "datasets": datasets,
        "skipped": [asdict(item) for item in skipped],
    }
    if len(request.seeds) > 1:
        report["per_seed"] = {
            str(seed): {name: results[place] for name, results in by_dataset.items()}
            for place, seed in enumerate(request.seeds)
        }
    return report


def _draw(
    model: BayesPFL,
    record: CategoryRecord,
    data: EvaluationData,
    settings: EvaluationSettings,
    request: EvaluationRequest,
    files: CheckpointFiles,
) -> None:
    """Curves and contact sheet of a category, if asked for."""
    if not record.rows:
        return
    title = f"{data.name} / {record.category}"
    if request.curves:
        for protocol in request.protocols:
            files.write_curves(data.name, record, protocol, title, _suffix(request, protocol))
    if request.sheets:
        from bayes_pfl.evaluation_pictures import category_sheet

        samples = [sample for sample in data.samples if sample.category == record.category]
        sheet = category_sheet(model, record, samples, settings, title)
        files.write_sheet(data.name, record.category, sheet)


def _cache(
    request: EvaluationRequest,
    model: BayesPFL,
    fingerprint: str,
    settings: EvaluationSettings,
    dataset: str,
) -> DatasetCache | None:
    if request.cache is None:
        return None
    return DatasetCache(request.cache, cache_key(model, fingerprint, settings), dataset)


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
