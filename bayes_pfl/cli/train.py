"""``bayes-pfl train``."""

from __future__ import annotations

from dataclasses import asdict, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from bayes_pfl.cli import options as opt
from bayes_pfl.cli.options import backbone_config, bars, names_in, say
from bayes_pfl.support.processes import is_first_process

if TYPE_CHECKING:
    from bayes_pfl.config import TrainConfig


Validation = Literal["held-out", "authors"]


class Part(str, Enum):
    """Choices of ``--without``: the switches of AblationConfig."""

    flow = "flow"
    specific = "specific"
    agnostic = "agnostic"
    attention = "attention"


def train(
    data: Annotated[
        Path, typer.Option(help="MVTec-style tree or meta.json with masks; root of --dataset.")
    ],
    out: opt.Out,
    dataset: Annotated[
        str | None, typer.Option(help="A benchmark's name or a card.yaml, found below --data.")
    ] = None,
    backbone: opt.Backbone = opt.EMBEDDED_BACKBONE,
    pretrained: opt.Pretrained = None,
    image_size: opt.ImageSize = None,
    layers: opt.Layers = None,
    join_layers: opt.JoinLayers = False,
    grid: opt.Grid = None,
    config: Annotated[
        Path | None, typer.Option(help="TrainConfig as JSON; the options below override it.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=0, help="Most epochs of stage 1.")] = None,
    epochs2: Annotated[int | None, typer.Option(min=0, help="Most epochs of stage 2.")] = None,
    patience: Annotated[int | None, typer.Option(min=1, help="Epochs without a gain.")] = None,
    steps_per_epoch: Annotated[int | None, typer.Option(min=1, help="Default: all data.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images of a step.")] = None,
    validation: Annotated[Validation | None, typer.Option(help="What chooses the epoch.")] = None,
    held_out: Annotated[float | None, typer.Option(help="Share of categories held out.")] = None,
    validation_data: Annotated[
        Path | None, typer.Option(help="Another tree to validate on (needed for 'authors').")
    ] = None,
    validation_dataset: Annotated[
        str | None, typer.Option(help="A benchmark or card to validate on, as --dataset.")
    ] = None,
    validation_categories: Annotated[
        str | None, typer.Option(help="Categories to validate on, separated by commas.")
    ] = None,
    mosaic: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of anomalous images in mosaics.")
    ] = None,
    augment: Annotated[bool | None, typer.Option(help="Random rotation, light, noise.")] = None,
    precision: Annotated[str | None, typer.Option(help="32-true, bf16-mixed or 16-mixed.")] = None,
    accelerator: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    devices: Annotated[
        int, typer.Option(min=1, help="Devices of this machine; they divide each batch.")
    ] = 1,
    accumulate: Annotated[
        int | None, typer.Option(min=1, help="Micro-batches of each device in a step.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Decoding processes.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Fixes every random choice.")] = None,
    cache_features: Annotated[
        Path | None, typer.Option(help="Keep the tokens of augmented views here: faster epochs.")
    ] = None,
    text_checkpointing: Annotated[
        bool | None, typer.Option(help="Recompute text activations: less memory, more time.")
    ] = None,
    without: Annotated[
        list[Part] | None, typer.Option(help="Leave a part of the model out; repeatable.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume from the last epoch.")] = False,
) -> None:
    """Train the prompts, flows and attention on one auxiliary dataset; the backbone is frozen."""
    from bayes_pfl.config import AblationConfig
    from bayes_pfl.train.run import TrainingRequest, run_training

    stages = {"epochs": epochs, "epochs2": epochs2, "patience": patience}
    settings = {
        "steps_per_epoch": steps_per_epoch,
        "batch_size": batch_size,
        "validation": validation,
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
            backbone_config(backbone, pretrained, image_size, layers), joined=join_layers, grid=grid
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
        say(f"best checkpoint: {out / 'best'} (validation AP {state.best:.4f})")


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
