"""One training run from a user's request: data, backbone, devices, run folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bayes_pfl.checkpoints.authors import AUTHORS_VALIDATION
from bayes_pfl.checkpoints.load import build_model
from bayes_pfl.config import (
    AblationConfig,
    BackboneConfig,
    FlowConfig,
    ModelConfig,
    PromptConfig,
    TrainConfig,
    TrainingRecord,
)
from bayes_pfl.data.cards import read_dataset
from bayes_pfl.data.records import Sample, select_categories
from bayes_pfl.data.sources import hold_out, read_source
from bayes_pfl.errors import CheckpointError, ConfigError, DataError
from bayes_pfl.support.environment import environment
from bayes_pfl.support.files import raising_not_written, write_atomically
from bayes_pfl.support.precision import warn_if_slow
from bayes_pfl.support.processes import (
    close_process_group,
    first_error_only,
    is_first_process,
    launched_outside,
)
from bayes_pfl.support.progress import NullProgress, Progress
from bayes_pfl.train.devices import count_processes, join_devices
from bayes_pfl.train.first_weights import InitialCheckpoint
from bayes_pfl.train.loggers import check_loggers, make_loggers
from bayes_pfl.train.run_files import SETTINGS_NAME, STATE_NAME
from bayes_pfl.train.spawning import spawn
from bayes_pfl.train.state import TrainingState
from bayes_pfl.train.trainer import Trainer


@dataclass(frozen=True)
class TrainingRequest:
    """The options of ``bayes-pfl train``.

    Attributes:
        data: tree or meta.json to train on; with ``dataset`` the folder that its card reads.
        out: run folder.
        dataset: a benchmark's name or a card.yaml.
        validation_data: like ``data``, for validation; None validates on categories of ``data``.
        validation_dataset: like ``dataset``, for validation.
        validation_categories: categories to validate on; empty for the default choice.
        devices: how many of this machine, with one process each.
        cache: folder for the tokens of augmented views; None encodes every image in every epoch.
        resume: continue after the last finished epoch of ``out``.
        prompts, flow, ablation: of the model.
        init: the checkpoint whose weights and further settings the model begins with; None for new
            weights. See :func:`bayes_pfl.train.first_weights.find_initial`.
        loggers: of :data:`bayes_pfl.train.loggers.LOGGERS`.
    """

    data: Path
    out: Path
    backbone: BackboneConfig
    config: TrainConfig
    dataset: str | None = None
    validation_data: Path | None = None
    validation_dataset: str | None = None
    validation_categories: tuple[str, ...] = ()
    accelerator: str = "auto"
    devices: int = 1
    cache: Path | None = None
    resume: bool = False
    ablation: AblationConfig = AblationConfig()
    prompts: PromptConfig = PromptConfig()
    flow: FlowConfig = FlowConfig()
    init: InitialCheckpoint | None = None
    loggers: tuple[str, ...] = ("tensorboard",)

    def model(self, samples: list[Sample], validation: list[Sample]) -> ModelConfig:
        """The model to train on these samples.

        Raises:
            ConfigError: the weights of ``init`` belong to another model.
        """
        trained, validated = (
            tuple(sorted({f"{s.dataset}/{s.category}" for s in part}))
            for part in (samples, validation)
        )
        record = TrainingRecord("test", trained, validated)
        config = replace(
            self.init.config if self.init else ModelConfig(),
            backbone=self.backbone,
            prompts=self.prompts,
            flow=self.flow,
            ablation=self.ablation,
            training=self.init.record(record) if self.init else record,
        )
        if self.init:
            self.init.check(config)
        return config


def run_training(request: TrainingRequest, progress: Progress | None = None) -> TrainingState:
    """Train as requested and write the run folder: best/, last/, metrics.csv and the settings.

    With several devices new processes train. They import the main module again, so a script that
    calls this needs ``if __name__ == "__main__":``.

    Raises:
        DataError, BackboneError, CheckpointError, ConfigError: before any work where possible.
    """
    progress = progress or NullProgress()
    if launched_outside():
        with first_error_only():
            prepared = _prepare(request)
            return _train(*prepared, progress if is_first_process() else NullProgress())
    prepared = _prepare(request)
    if request.devices > 1:
        state: TrainingState = spawn(request.devices, _train, prepared, progress)
        return state
    return _train(*prepared, progress)


def _prepare(request: TrainingRequest) -> tuple[TrainingRequest, list[Sample], list[Sample]]:
    """Check the request and read its samples to train and to validate on."""
    if (request.out / "last" / STATE_NAME).exists() and not request.resume:
        raise ConfigError(
            f"{request.out}: holds a run already; add --resume to continue it, or choose another "
            "--out"
        )
    config = request.config
    count_processes(request.accelerator, request.devices, config.batch_size, config.accumulate)
    check_loggers(request.loggers)
    request.model([], [])  # raises where it does not fit the first weights
    return request, *training_data(request)


def _train(
    request: TrainingRequest, samples: list[Sample], validation: list[Sample], progress: Progress
) -> TrainingState:
    """What each process of the run does, whether it is the only one or one of several."""
    config = request.config
    loggers = make_loggers(request.loggers, request.out)
    fabric = join_devices(request.accelerator, request.devices, config.precision, loggers)
    if config.precision == "bf16-mixed":
        warn_if_slow(fabric.device, torch.bfloat16)
    with torch.random.fork_rng(devices=[]):  # modules draw from the global random state
        torch.manual_seed(config.seed)
        model = build_model(request.model(samples, validation))
    if request.init:
        request.init.load_into(model)
    trainer = Trainer(
        model, config, samples, validation, request.out, fabric, progress, request.cache
    )
    if fabric.is_global_zero:
        if request.resume and trainer.files:
            trainer.files.check_resumable(model.config, config)
        trainer.figures.begin(_write_settings(request, trainer))
    state = trainer.run(resume=request.resume)
    if fabric.is_global_zero:
        _write(request.out / "results.json", {"best": state.best, "history": state.history})
    if fabric.world_size > 1:
        close_process_group()
    return state


def training_data(request: TrainingRequest) -> tuple[list[Sample], list[Sample]]:
    """Samples to train on and samples to validate on.

    By default some categories of the training data are held out; no category with the prompt word
    of one that validates is trained on. ``validation = "authors"`` takes five categories of another
    benchmark, those of the published code for VisA and MVTec AD, else the first ones; this leaks
    test data if that benchmark is also the test set.

    Raises:
        DataError: nothing to train on, a validation that could judge nothing, or "authors" without
            a benchmark to validate on.
    """
    samples, validation = _divided(request, _read(request.data, request.dataset))
    if not any(sample.label and sample.mask for sample in samples):
        raise DataError(
            f"{request.data}: no anomalous image with a mask to train on"
            f"{_left_out(samples, validation)}; add masks, or hold out others"
        )
    _check_validation(request.config, validation)
    return samples, validation


def _left_out(samples: list[Sample], validation: list[Sample]) -> str:
    """Which categories of the data are held out, where some are."""
    names = sorted({s.category for s in validation} - {s.category for s in samples})
    return f" once {', '.join(names[:5])} are held out" if names else ""


def _check_validation(config: TrainConfig, samples: list[Sample]) -> None:
    """Refuse samples on which the AP of a stage is not defined.

    Raises:
        DataError: it says which stage, and what its validation needs.
    """
    labels = {(sample.category, sample.label) for sample in samples}
    both = [name for name, label in labels if label and (name, 0) in labels]
    masked = any(sample.label and sample.mask for sample in samples)
    needs = {1: "an anomalous image with a mask", 2: "normal and anomalous images of one category"}
    for stage, settings, enough in ((1, config.stage1, masked), (2, config.stage2, bool(both))):
        if settings.epochs and not enough:
            names = ", ".join(sorted({sample.category for sample in samples})[:5])
            raise DataError(
                f"the validation ({names}) cannot judge stage {stage}: it needs {needs[stage]}; "
                "choose other --validation-categories or --validation-data"
            )


def _divided(request: TrainingRequest, samples: list[Sample]) -> tuple[list[Sample], list[Sample]]:
    config = request.config
    if request.validation_data is None and request.validation_dataset is None:
        if config.validation == "authors":
            raise DataError("validation 'authors' needs --validation-data, the other benchmark")
        if request.validation_categories:
            chosen = select_categories(samples, request.validation_categories)
            held_out = {sample.class_name for sample in chosen}
            return [s for s in samples if s.class_name not in held_out], chosen
        return hold_out(samples, config.held_out, config.seed)
    others = _read(request.validation_data or request.data, request.validation_dataset)
    names = request.validation_categories
    if config.validation == "authors" and not names:
        first = tuple(sorted({s.category for s in others}))[:5]
        names = AUTHORS_VALIDATION.get(others[0].dataset, first)
    return samples, select_categories(others, names) if names else others


def _read(path: Path, card: str | None) -> list[Sample]:
    return read_dataset(card, path) if card else read_source(path)


def _write_settings(request: TrainingRequest, trainer: Trainer) -> dict[str, Any]:
    """Write and return the settings of the run."""
    fabric, samples = trainer.fabric, trainer.batches.dataset.samples
    settings = {
        "data": str(request.data),
        "dataset": request.dataset,
        "validation_dataset": request.validation_dataset,
        "validation_data": str(request.validation_data) if request.validation_data else None,
        "categories": sorted({sample.category for sample in samples}),
        "validation_categories": sorted({sample.category for sample in trainer.validation}),
        "processes": fabric.world_size,
        "init": request.init.name if request.init else None,
        "train": asdict(request.config),
        "model": asdict(trainer.model.config),
    }
    _write(request.out / SETTINGS_NAME, settings)
    device = str(fabric.device) if fabric.world_size == 1 else fabric.device.type
    _write(request.out / "environment.json", environment(device))
    return settings


def _write(path: Path, data: Any) -> None:
    with raising_not_written(path, "choose another --out, or make room", CheckpointError):
        write_atomically(path, json.dumps(data, indent=2) + "\n")
