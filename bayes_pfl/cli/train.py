"""``bayes-pfl train``."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from bayes_pfl.cli import options as opt
from bayes_pfl.cli.options import backbone_config, bars, names_in, say
from bayes_pfl.errors import ConfigError
from bayes_pfl.support.processes import is_first_process

if TYPE_CHECKING:
    from bayes_pfl.config import BackboneConfig, TrainConfig


Validation = Literal["held-out", "authors"]
Preset = Literal["published"]


class Log(str, Enum):
    """Choices of ``--logger``."""

    tensorboard = "tensorboard"
    csv = "csv"
    wandb = "wandb"
    mlflow = "mlflow"


class Part(str, Enum):
    """Choices of ``--without``: the switches of AblationConfig."""

    flow = "flow"
    specific = "specific"
    agnostic = "agnostic"
    attention = "attention"


def train(
    data: Annotated[
        Path,
        typer.Option(
            help="MVTec-style tree or meta.json with masks; with --dataset, the folder of datasets."
        ),
    ],
    out: opt.Out,
    dataset: Annotated[
        str | None,
        typer.Option(help="Name of a benchmark, or a card file; its data are below --data."),
    ] = None,
    preset: Annotated[
        Preset | None,
        typer.Option(
            help="published: the settings of the authors' run; needs --dataset visa or mvtec."
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(help=f"{opt.BACKBONE_HELP}  [default: {opt.EMBEDDED_BACKBONE}]"),
    ] = None,
    pretrained: opt.Pretrained = None,
    image_size: opt.ImageSize = None,
    layers: opt.Layers = None,
    join_layers: opt.JoinLayers = False,
    grid: opt.Grid = None,
    activation: Annotated[
        Literal["auto", "gelu", "quick_gelu"] | None,
        typer.Option(help="Activation of the backbone; auto: what its weights were trained with."),
    ] = None,
    flow: Annotated[
        Literal["constrained", "free"] | None,
        typer.Option(help="constrained: each flow step stays invertible. free: as published."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="Settings as JSON, or a run's config.json; options override it."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=0, help="Most epochs of stage 1.")] = None,
    epochs2: Annotated[int | None, typer.Option(min=0, help="Most epochs of stage 2.")] = None,
    patience: Annotated[
        int | None, typer.Option(min=1, help="Epochs without a gain after which a stage ends.")
    ] = None,
    steps_per_epoch: Annotated[
        int | None, typer.Option(min=1, help="Steps of an epoch; default: all data once.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images of a training step.")
    ] = None,
    validation: Annotated[
        Validation | None, typer.Option(help="What chooses the best epoch.")
    ] = None,
    held_out: Annotated[
        float | None, typer.Option(help="Share of categories that is held out to validate.")
    ] = None,
    validation_data: Annotated[
        Path | None, typer.Option(help="Another tree to validate on (needed for 'authors').")
    ] = None,
    validation_dataset: Annotated[
        str | None, typer.Option(help="Benchmark or card to validate on, given as for --dataset.")
    ] = None,
    validation_categories: Annotated[
        str | None, typer.Option(help="Categories to validate on, separated by commas.")
    ] = None,
    mosaic: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of anomalous images that are put into mosaics."),
    ] = None,
    augment: Annotated[
        bool | None, typer.Option(help="Change rotation, light, noise at random.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="Precision of the training: 32-true, bf16-mixed or 16-mixed.")
    ] = None,
    accelerator: Annotated[
        str, typer.Option(help="Kind of device: auto, cpu, cuda, mps.")
    ] = "auto",
    devices: Annotated[
        int, typer.Option(min=1, help="Devices of this machine; they divide each batch.")
    ] = 1,
    accumulate: Annotated[
        int | None,
        typer.Option(min=1, help="Parts that each device divides its batch into, to save memory."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Processes that decode images.  [default: by the cores beside a GPU, else 0]",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Fixes every random choice.")] = None,
    cache_features: Annotated[
        Path | None,
        typer.Option(help="Folder that keeps the backbone's features: epochs are faster."),
    ] = None,
    text_checkpointing: Annotated[
        bool | None, typer.Option(help="Recompute text activations: less memory, more time.")
    ] = None,
    without: Annotated[
        list[Part] | None, typer.Option(help="Leave a part of the model out; repeatable.")
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            help="Fine-tune this checkpoint (embedded name, folder or hub repository): begin with "
            "its weights, on its backbone, at a tenth of the learning rates."
        ),
    ] = None,
    logger: Annotated[
        list[Log] | None,
        typer.Option(
            help="Where figures go besides metrics.csv; repeatable.  [default: tensorboard]"
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume from the last epoch.")] = False,
) -> None:
    """Train the prompts, flows and attention on one auxiliary dataset; the backbone is frozen."""
    from bayes_pfl.train.first_weights import find_initial
    from bayes_pfl.train.recipes import Recipe, fine_tuning_recipe, published_recipe, with_file
    from bayes_pfl.train.run import TrainingRequest, run_training

    if init and preset:
        raise ConfigError("--init with --preset, which begins with new weights: leave one out")
    if begin := find_initial(init) if init else None:
        recipe = fine_tuning_recipe(begin.config)
    else:
        recipe = published_recipe(dataset) if preset else Recipe()
    if config:
        recipe = with_file(recipe, config)
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
    model = recipe.model
    given = backbone_config(backbone or model.backbone.name, pretrained, image_size, layers)
    given = replace(given, activation=activation or model.backbone.activation, grid=grid)
    tower = given if backbone and not begin else _overridden(model.backbone, given)
    parts = {part.value: False for part in without or ()}
    request = TrainingRequest(
        data=data,
        out=out,
        backbone=replace(tower, joined=join_layers or tower.joined),
        config=_train_config(recipe.train, stages, settings),
        dataset=dataset,
        validation_data=validation_data,
        validation_dataset=validation_dataset or recipe.validation_dataset,
        validation_categories=names_in(validation_categories),
        accelerator=accelerator,
        devices=devices,
        cache=cache_features,
        resume=resume,
        ablation=replace(model.ablation, **parts),
        prompts=model.prompts,
        flow=replace(model.flow, constrained=flow == "constrained") if flow else model.flow,
        init=begin,
        loggers=tuple(one.value for one in logger) if logger else ("tensorboard",),
    )
    with bars() as progress:
        state = run_training(request, progress)
    if is_first_process():
        reached = (
            f" (stage {state.stage}, epoch {state.best_epoch}: validation {state.metric} "
            f"{100 * state.best:.1f}%)"
        )
        say(f"best checkpoint: {out / 'best'}{reached if state.best_epoch else ''}")


def _overridden(base: BackboneConfig, given: BackboneConfig) -> BackboneConfig:
    """``base`` with what the options give; its name is the same."""
    chosen = {item.name: getattr(given, item.name) for item in fields(given)}
    return replace(base, **{name: value for name, value in chosen.items() if value})


def _train_config(
    config: TrainConfig, stages: dict[str, int | None], settings: dict[str, Any]
) -> TrainConfig:
    from bayes_pfl.config import TrainConfig
    from bayes_pfl.support.typed_json import from_dict

    patience = stages["patience"]
    for name, epochs in (("stage1", stages["epochs"]), ("stage2", stages["epochs2"])):
        stage = getattr(config, name)
        stage = replace(stage, epochs=stage.epochs if epochs is None else epochs)
        stage = replace(stage, patience=stage.patience if patience is None else patience)
        config = replace(config, **{name: stage})
    chosen = {key: value for key, value in settings.items() if value is not None}
    return from_dict(TrainConfig, asdict(config) | chosen, "options")
