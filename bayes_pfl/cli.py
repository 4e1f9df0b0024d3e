"""The command line: ``bayes-pfl train | evaluate | predict | convert | ...``.

Heavy imports wait inside the commands, so that ``--help`` and mistakes answer at once.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from dataclasses import asdict, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from bayes_pfl.commands import app as pages
from bayes_pfl.commands import (
    benchmark,
    calibrate,
    class_names,
    datasets,
    evaluate,
    hub,
    predict,
    resize,
    scoreboard,
)
from bayes_pfl.commands.options import (
    EMBEDDED_BACKBONE,
    Backbone,
    Grid,
    ImageSize,
    JoinLayers,
    Json,
    Layers,
    Out,
    Pretrained,
    Seed,
    bars,
    console,
    errors,
    names_in,
    write_json,
)
from bayes_pfl.errors import BayesPFLError, ConfigError
from bayes_pfl.processes import StoppedElsewhere, is_first_process
from bayes_pfl.signals import Terminated, terminable

if TYPE_CHECKING:
    from bayes_pfl.config import BackboneConfig, TrainConfig

_RESUMABLE = ("predict", "evaluate", "train")


class _Stopped(Exception):
    """Ctrl-C or SIGTERM, past the framework, which would end with 130 and no word."""

    def __init__(self, stop: KeyboardInterrupt, command: str | None) -> None:
        self.code = 128 + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)
        kept = str(stop.args[0]) if stop.args else "what was finished is kept"
        super().__init__(f"stopped; {kept}" + "; go on with --resume" * (command in _RESUMABLE))


class _Commands(TyperGroup):
    """The commands; stops are told of."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            raise _Stopped(stop, ctx.invoked_subcommand) from stop


app = typer.Typer(
    name="bayes-pfl",
    cls=_Commands,
    help="Zero-shot anomaly detection by Bayesian prompt flow learning.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(datasets.app, name="datasets")
app.add_typer(benchmark.app, name="benchmark")


class Validation(str, Enum):
    """Choices of ``--validation``."""

    held_out = "held-out"
    authors = "authors"


class Part(str, Enum):
    """Choices of ``--without``: the switches of AblationConfig."""

    flow = "flow"
    specific = "specific"
    agnostic = "agnostic"
    attention = "attention"


def main() -> None:
    """Entry point: one line and an exit code for what a user can mend, no traceback."""
    _run(sys.argv[1:])


def run_tool(command: str) -> None:
    """Entry point of ``tools/<command>.py``: the same as ``bayes-pfl <command>``."""
    _run([command, *sys.argv[1:]])


def _run(arguments: list[str]) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        with terminable():
            app(arguments)
    except StoppedElsewhere:
        sys.exit(2)
    except BayesPFLError as error:
        _complain(str(error))
        sys.exit(2)
    except OSError as error:
        _complain(f"{error.filename or 'file system'}: {error.strerror or error}")
        sys.exit(2)
    except KeyboardInterrupt as stop:  # before a command has begun, or after its end
        _say_stopped(_Stopped(stop, None))
    except _Stopped as stop:
        _say_stopped(stop)
    except SystemExit as end:
        stop = getattr(end.__context__, "__cause__", None)
        if isinstance(stop, KeyboardInterrupt):  # while the arguments were read
            _say_stopped(_Stopped(stop, None))
        raise


def _say_stopped(stop: _Stopped) -> None:
    if is_first_process():
        errors.print(str(stop), style="yellow", markup=False, highlight=False, soft_wrap=True)
    sys.exit(stop.code)


def _complain(message: str) -> None:
    if "Original Traceback" in message:  # from a worker process: its last line is the error
        message = message.strip().splitlines()[-1].partition(": ")[2]
    # Names of files and texts from them may hold what a terminal would obey.
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(message.split()))
    errors.print(f"error: {line}", style="red", markup=False, highlight=False, soft_wrap=True)


@app.command()
def train(
    data: Annotated[
        Path, typer.Option(help="MVTec-style tree or meta.json with masks; root of --dataset.")
    ],
    out: Out,
    dataset: Annotated[
        str | None, typer.Option(help="A benchmark's name or a card.yaml, found below --data.")
    ] = None,
    backbone: Backbone = EMBEDDED_BACKBONE,
    pretrained: Pretrained = None,
    image_size: ImageSize = None,
    layers: Layers = None,
    join_layers: JoinLayers = False,
    grid: Grid = None,
    config: Annotated[
        Path | None, typer.Option(help="TrainConfig as JSON; the options below override it.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=0, help="Stage 1, at most.")] = None,
    epochs2: Annotated[int | None, typer.Option(min=0, help="Stage 2, at most.")] = None,
    patience: Annotated[int | None, typer.Option(min=1, help="Epochs without gain.")] = None,
    steps_per_epoch: Annotated[int | None, typer.Option(min=1)] = None,
    batch_size: Annotated[int | None, typer.Option(min=1)] = None,
    validation: Annotated[Validation | None, typer.Option(help="What ends a stage.")] = None,
    held_out: Annotated[float | None, typer.Option(help="Share of categories held out.")] = None,
    validation_data: Annotated[
        Path | None, typer.Option(help="Another tree to validate on (needed for 'authors').")
    ] = None,
    validation_dataset: Annotated[
        str | None, typer.Option(help="A benchmark or card to validate on, as --dataset.")
    ] = None,
    validation_categories: Annotated[
        str | None, typer.Option(help="Which of its categories, separated by commas.")
    ] = None,
    mosaic: Annotated[float | None, typer.Option(min=0, max=1)] = None,
    augment: Annotated[bool | None, typer.Option(help="Random rotation, light, noise.")] = None,
    precision: Annotated[str | None, typer.Option(help="32-true, bf16-mixed or 16-mixed.")] = None,
    accelerator: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    devices: Annotated[
        int, typer.Option(min=1, help="Of this machine; they share each batch out.")
    ] = 1,
    accumulate: Annotated[
        int | None, typer.Option(min=1, help="Parts a device takes its share of a batch in.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=0)] = None,
    seed: Annotated[int | None, typer.Option(min=0)] = None,
    cache_features: Annotated[
        Path | None, typer.Option(help="Folder for tokens of augmented views: fast epochs.")
    ] = None,
    text_checkpointing: Annotated[
        bool | None, typer.Option(help="Text activations made anew in the backward pass.")
    ] = None,
    without: Annotated[
        list[Part] | None, typer.Option(help="Leave a part of the model out; repeatable.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after the last epoch.")] = False,
) -> None:
    """Train the prompts, flows and attention on one auxiliary dataset; the backbone is frozen."""
    from bayes_pfl.config import AblationConfig
    from bayes_pfl.training_run import TrainingRequest, run_training

    stages = {"epochs": epochs, "epochs2": epochs2, "patience": patience}
    settings = {
        "steps_per_epoch": steps_per_epoch,
        "batch_size": batch_size,
        "validation": validation.value if validation else None,
        "held_out": held_out,
        "mosaic": mosaic,
        "augment": augment,
        "precision": precision,
        "workers": workers,
        "seed": seed,
        "text_checkpointing": text_checkpointing,
        "accumulate": accumulate,
    }
    request = TrainingRequest(
        data=data,
        out=out,
        backbone=replace(
            _backbone(backbone, pretrained, image_size, layers), joined=join_layers, grid=grid
        ),
        config=_train_config(config, stages, settings),
        dataset=dataset,
        validation_data=validation_data,
        validation_dataset=validation_dataset,
        validation_categories=names_in(validation_categories),
        accelerator=accelerator,
        devices=devices,
        cache=cache_features,
        resume=resume,
        ablation=AblationConfig(**{part.value: False for part in without or ()}),
    )
    with bars() as progress:
        state = run_training(request, progress)
    if is_first_process():
        console.print(f"best checkpoint: {out / 'best'} (validation AP {state.best:.4f})")


app.command()(evaluate.evaluate)
app.command()(predict.predict)
app.command()(scoreboard.scoreboard)
app.command()(calibrate.calibrate)
app.command()(resize.resize)
app.command("class-names")(class_names.class_names)
app.command("report")(pages.report)
app.command("app")(pages.app)
app.command()(hub.push)


@app.command()
def convert(
    authors: Annotated[Path, typer.Argument(help="The authors' .pth.")],
    out: Out,
    backbone: Backbone = "ViT-L-14-336",
    pretrained: Pretrained = "openai",
    image_size: ImageSize = 518,
    layers: Layers = None,
    stage: Annotated[int, typer.Option(min=1, max=2, help="Training stage it comes from.")] = 2,
) -> None:
    """Turn a checkpoint of the authors' research code into one of this package."""
    from bayes_pfl.conversion import convert_authors_checkpoint

    known = _backbone(backbone, pretrained, image_size, layers)
    convert_authors_checkpoint(authors, known, stage).save_pretrained(out)
    console.print(f"written to {out}")


@app.command()
def synthesize(
    out: Out,
    categories: Annotated[
        str, typer.Option(help="train, further, validation, test or names, separated by commas.")
    ] = "train",
    normals: Annotated[int, typer.Option(min=0, help="Normal test images per category.")] = 20,
    anomalies: Annotated[int, typer.Option(min=0, help="Anomalous ones per category.")] = 20,
    train_normals: Annotated[int, typer.Option(min=0, help="Normal ones in train/.")] = 0,
    size: Annotated[int, typer.Option(min=32, help="Side in pixels.")] = 256,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that render; default: one for each core.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Render surfaces, objects and scans with defects and exact masks as an MVTec-style tree."""
    from bayes_pfl.data.synthetic import write_mvtec_tree

    names = _rendered_categories(categories)
    started = time.perf_counter()
    write_mvtec_tree(
        out,
        names,
        normals=normals,
        anomalies=anomalies,
        train_normals=train_normals,
        size=size,
        seed=seed,
        workers=(os.cpu_count() or 1) if workers is None else workers,
    )
    seconds = time.perf_counter() - started
    pictures = len(names) * (normals + anomalies + train_normals)
    rate = f"{pictures} pictures in {seconds:.1f} s, {pictures / seconds:.0f} a second"
    console.print(f"{len(names)} categories written to {out}: {rate}", soft_wrap=True)


@app.command()
def demo(
    out: Out = Path("demo"),
    quick: Annotated[bool, typer.Option("--quick", help="A minute's version, for tests.")] = False,
) -> None:
    """From nothing to results: render, train, evaluate, predict on real photographs."""
    from bayes_pfl.demo import run_demo

    with bars() as progress:
        report = run_demo(out, progress, quick=quick)
    console.print(report, markup=False, highlight=False, soft_wrap=True)


@app.command("verify-parity")
def verify_parity(
    folder: Annotated[Path, typer.Argument(help="Fixture in the format of docs/parity.md.")],
    json_out: Json = None,
) -> None:
    """Largest error of every output against the published implementation; exit 1 over 1e-4."""
    from bayes_pfl.verification.parity import TOLERANCE, verify

    differences = verify(folder)
    for item in differences:
        mark = "ok  " if item.passed else "FAIL"
        console.print(f"{mark} {item.error:9.2e}  {item.name}", markup=False, highlight=False)
    failed = [item.name for item in differences if not item.passed]
    console.print(f"{len(differences)} outputs, {len(failed)} over {TOLERANCE:g}")
    if json_out:
        report = {"tolerance": TOLERANCE, "errors": {d.name: d.error for d in differences}}
        write_json(json_out, report | {"passed": not failed})
    if failed:
        raise typer.Exit(1)


app.command("verify-metrics")(evaluate.verify_metrics)


def _backbone(
    name: str, pretrained: str | None, image_size: int | None, layers: str | None
) -> BackboneConfig:
    from bayes_pfl.config import BackboneConfig

    try:
        taps = tuple(int(part) for part in layers.split(",")) if layers else None
    except ValueError as error:
        raise ConfigError(f"--layers {layers!r}: give numbers, as in 6,12,18,24") from error
    return BackboneConfig(name, pretrained, image_size, taps)


def _train_config(
    path: Path | None, stages: dict[str, int | None], settings: dict[str, Any]
) -> TrainConfig:
    from bayes_pfl.config import TrainConfig, from_dict, load_json

    config = load_json(TrainConfig, path) if path else TrainConfig()
    patience = stages["patience"]
    for name, epochs in (("stage1", stages["epochs"]), ("stage2", stages["epochs2"])):
        stage = getattr(config, name)
        stage = replace(stage, epochs=stage.epochs if epochs is None else epochs)
        stage = replace(stage, patience=stage.patience if patience is None else patience)
        config = replace(config, **{name: stage})
    chosen = {key: value for key, value in settings.items() if value is not None}
    return from_dict(TrainConfig, asdict(config) | chosen, "options")


def _rendered_categories(text: str) -> tuple[str, ...]:
    from bayes_pfl.data import synthetic

    splits = {
        "train": synthetic.TRAIN_CATEGORIES,
        "further": synthetic.FURTHER_CATEGORIES,
        "medical": synthetic.MEDICAL_CATEGORIES,
        "validation": synthetic.VALIDATION_CATEGORIES,
        "test": synthetic.TEST_CATEGORIES,
    }
    parts = (name for part in names_in(text) for name in splits.get(part, (part,)))
    names = tuple(dict.fromkeys(parts))
    if unknown := [name for name in names if name not in synthetic.CATEGORIES]:
        raise ConfigError(
            f"categories {', '.join(unknown)} cannot be rendered; give train, further, medical, "
            f"validation, test, or some of {', '.join(synthetic.CATEGORIES)}"
        )
    return names


if __name__ == "__main__":
    main()
