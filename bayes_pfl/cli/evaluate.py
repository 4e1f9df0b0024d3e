"""``bayes-pfl evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Option

from bayes_pfl.cli import options as opt
from bayes_pfl.cli import profiles
from bayes_pfl.cli.calibrate import CalibrationFile
from bayes_pfl.cli.tables import show
from bayes_pfl.errors import ConfigError
from bayes_pfl.support.processes import is_first_process

if TYPE_CHECKING:
    from bayes_pfl.evaluate.datasets import EvaluationData
    from bayes_pfl.evaluate.records import Skipped

_LISTED = 20
"""Categories up to which the terminal shows each of them."""

Protocols = Literal["deploy", "authors", "both"]
Form = Literal["auto", "standardised", "distributed"]


def evaluate(
    out: opt.Out,
    data: Annotated[
        list[Path] | None,
        Option(
            help="With --dataset: the folder that holds the datasets. Alone: an MVTec-style tree "
            "or meta.json; repeatable."
        ),
    ] = None,
    dataset: Annotated[
        list[str] | None,
        Option(help="Name of a benchmark, a card file, or all; repeatable."),
    ] = None,
    categories: Annotated[
        str | None, Option(help="Only these categories of one dataset, separated by commas.")
    ] = None,
    form: Annotated[Form, Option(help="Which form of a benchmark to read.")] = "auto",
    checkpoint: opt.Checkpoints = None,
    pretrained: opt.Pretrained = None,
    protocol: Annotated[
        Protocols, Option(help="Which scores are measured: deploy, authors or both.")
    ] = "deploy",
    seeds: Annotated[
        str, Option(help="Seeds of the draws, as in 0,1,2: figures become mean ± sd.")
    ] = "0",
    seed: Annotated[int | None, Option(min=0, help="One seed, instead of --seeds.")] = None,
    shots: Annotated[
        str | None,
        Option(help="Numbers of normal pictures to compare with, as in 0,1,2,4; 0: words alone."),
    ] = None,
    mutual: Annotated[
        bool, Option("--mutual", help="Compare the test images of a category with each other.")
    ] = False,
    profile: Annotated[
        Path | None,
        Option(
            help="Folder of bayes-pfl fit: categories of its class name are compared with its "
            "pictures, and its threshold is applied to them."
        ),
    ] = None,
    compare: Annotated[
        str | None, Option(help="'published', or a YAML file of scores to compare with.")
    ] = None,
    include_trained: Annotated[
        bool, Option("--include-trained", help="Count categories that were trained on in means.")
    ] = False,
    calibration: CalibrationFile = None,
    curves: Annotated[
        bool, Option("--curves", help="Draw ROC, PR and PRO curves and histograms of scores.")
    ] = False,
    sheets: Annotated[
        bool, Option("--sheets", help="Draw the best, worst and most uncertain images.")
    ] = False,
    report: opt.Report = True,
    cache: Annotated[
        Path | None, Option(help="Folder that keeps scores between runs; default: OUT/cache.")
    ] = None,
    no_cache: Annotated[bool, Option("--no-cache", help="Keep no scores between runs.")] = False,
    resume: Annotated[
        bool, Option("--resume", help="Resume the run in --out, or refuse if it differs.")
    ] = False,
    samples: opt.Samples = None,
    tile: Annotated[
        str | None,
        Option(
            help="Measure at the images' own size, large ones in overlapping tiles too: their side "
            "in pixels, or auto; default: the profile's, or no tiles and the model's size."
        ),
    ] = None,
    overlap: opt.Overlap = None,
    batch_size: opt.BatchSize = 8,
    precision: opt.Precision = "float32",
    workers: opt.Workers = 0,
    device: opt.Device = None,
) -> None:
    """Image and pixel metrics on labelled data: metrics.json, tables, CSV, pictures.

    The same command again resumes a stopped run; with --resume it refuses where settings,
    checkpoint or images have changed. Exit code 1: images were skipped. 130, 143: stopped.
    """
    from bayes_pfl.evaluate.parallel import device_of_process
    from bayes_pfl.evaluate.published import load_published
    from bayes_pfl.evaluate.request import EvaluationRequest
    from bayes_pfl.evaluate.run import run_benchmark
    from bayes_pfl.evaluate.scoring import EvaluationSettings
    from bayes_pfl.fit.calibration import load_calibration

    published = load_published(compare) if compare else None
    chosen = _seeds(seeds, seed)
    numbers = opt.whole_numbers("--shots", shots, "0,1,2,4") if shots is not None else ()
    known, default = profiles.opened(profile, None)
    checkpoints = opt.checked(checkpoint, (default,))
    found, skipped = _read(data or [], dataset or [], form, opt.names_in(categories))
    request = EvaluationRequest(
        checkpoints=checkpoints,
        data=tuple(found),
        out=out,
        protocols=("deploy", "authors") if protocol == "both" else (protocol,),
        settings=EvaluationSettings(
            samples=samples,
            precision=precision,
            seed=chosen[0],
            batch_size=batch_size,
            workers=workers,
            skip_unreadable=True,
            **opt.tiles_of(tile, overlap),
        ),
        seeds=chosen,
        shots=numbers,
        mutual=mutual,
        profile=known,
        published=published,
        curves=curves,
        sheets=sheets,
        report=report,
        cache=None if no_cache else cache or out / "cache",
        skipped=tuple(skipped),
        resume=resume,
        include_trained=include_trained,
        calibration=load_calibration(calibration) if calibration else None,
    )
    with opt.bars() as progress:
        outcome = run_benchmark(
            request,
            progress,
            load=lambda name: opt.load_model(name, device_of_process(device), pretrained),
        )
    if not is_first_process():
        return
    whole = sum(len({sample.category for sample in one.samples}) for one in found) <= _LISTED
    for name, table in (outcome.tables if whole else outcome.summaries).items():
        show(f"protocol {name}\n\n{table}")
    if outcome.shots:
        show(outcome.shots)
    opt.say(f"written to {out}" + ("" if whole else "; every category: table.md"))
    reasons = [item.reason for item in outcome.skipped]
    pages = ", ".join(map(str, outcome.pages)) or str(out / "table.md")
    opt.finish(reasons, "skipped: listed under 'skipped' in metrics.json", f"open {pages}")


def _seeds(seeds: str, seed: int | None) -> tuple[int, ...]:
    if seed is not None:
        return (seed,)
    return opt.whole_numbers("--seeds", seeds, "0,1,2")


def _read(
    data: list[Path], wanted: list[str], form: str, categories: tuple[str, ...]
) -> tuple[list[EvaluationData], list[Skipped]]:
    from bayes_pfl.evaluate.datasets import read_cards, read_trees

    if not data and not wanted:
        raise ConfigError(
            "nothing to evaluate on: give --data TREE, or --dataset NAME with --data ROOT"
        )
    if wanted:
        if len(data) > 1:
            raise ConfigError(
                f"--dataset with {len(data)} folders: give one --data ROOT that holds the datasets"
            )
        found, skipped = read_cards(wanted, data[0] if data else None, form)
    else:
        found, skipped = read_trees(data), []
    if categories and len(found) != 1:
        raise ConfigError(f"--categories with {len(found)} datasets: choose one dataset")
    found = [one.only(categories) for one in found] if categories else found
    for note in [note for one in found for note in one.notes if is_first_process()]:
        opt.warn(f"note: {note}", style="yellow")
    return found, skipped
