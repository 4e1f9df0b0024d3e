"""One evaluation from a user's request: checkpoints, datasets, seeds, protocols; and its files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bayes_pfl.checkpoints.load import load_checkpoint
from bayes_pfl.errors import DataError
from bayes_pfl.evaluate.checkpoint_run import CheckpointRun, EvaluationContext
from bayes_pfl.evaluate.datasets import read_trees
from bayes_pfl.evaluate.files import folder_names, prepare_folder, write_json, write_tables
from bayes_pfl.evaluate.journal import EvaluationJournal
from bayes_pfl.evaluate.parallel import working_together
from bayes_pfl.evaluate.records import Protocol
from bayes_pfl.evaluate.request import EvaluationOutcome, EvaluationRequest
from bayes_pfl.evaluate.scoring import EvaluationSettings
from bayes_pfl.evaluate.tables import categories_markdown
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.report.runs import report_of_run
from bayes_pfl.support.environment import environment
from bayes_pfl.support.progress import NullProgress, Progress

Load = Callable[[str], BayesPFLNetwork]
_DEFAULTS = EvaluationSettings()


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
    with working_together(request) as (team, own):
        prepare_folder(own.out)
        with closing(EvaluationJournal(own)) as journal:
            shown = progress if team.first else NullProgress()
            return _run(EvaluationContext(own, journal, team, shown), load)


def _run(context: EvaluationContext, load: Load) -> EvaluationOutcome:
    request, outcome = context.request, EvaluationOutcome()
    names = folder_names(request.checkpoints)
    folders = [request.out] if len(names) == 1 else [request.out / name for name in names]
    device = ""
    for checkpoint, name, folder in zip(request.checkpoints, names, folders, strict=True):
        model = load(checkpoint)
        if not device:  # the first checkpoint: loading it may show progress of its own
            steps = request.images * len(request.seeds) * len(names)
            context.progress.start("evaluate", steps)
        device = str(model.device)
        run = CheckpointRun(model, checkpoint, folder, context)
        run.evaluate()
        if context.team.first:
            run.write(name, outcome)
    if context.team.first:
        _write_common(request, outcome, device)
        for folder in folders if request.report else ():
            report_of_run(folder)
        context.journal.end()
    return outcome


def _write_common(request: EvaluationRequest, outcome: EvaluationOutcome, device: str) -> None:
    """Write the files that all checkpoints share, and add their tables to the outcome."""
    for protocol, reports in outcome.reports.items():
        outcome.summaries[protocol], outcome.tables[protocol] = write_tables(
            request, protocol, reports
        )
    write_json(request.out / "config.json", _config(request))
    write_json(request.out / "environment.json", environment(device))


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
    }
