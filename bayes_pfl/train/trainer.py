"""The training loop: two stages, validation on held-out categories, checkpoints, resuming.

Every random choice of a step is a function of (seed, stage, epoch, step), so a run that is resumed
after an epoch gives the same weights as one that was not interrupted. With several processes all of
them run this loop; only the first one writes files.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from bayes_pfl.checkpoints.format import save_checkpoint
from bayes_pfl.config import StageConfig, TrainConfig
from bayes_pfl.data.records import Sample
from bayes_pfl.errors import CheckpointError, ConfigError
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.support.progress import NullProgress, Progress
from bayes_pfl.train.batches import TrainingBatches
from bayes_pfl.train.loggers import FigureLog
from bayes_pfl.train.parameter_groups import parameter_groups, set_stage
from bayes_pfl.train.run_files import RunFiles
from bayes_pfl.train.state import TrainingState
from bayes_pfl.train.step import GradientStep, TrainingStep
from bayes_pfl.train.validation import validate

logger = logging.getLogger(__name__)


class Trainer:
    """Trains the learned part of a model in the two stages of the paper (section 4).

    Args:
        model: the network with its frozen backbone.
        config: see :class:`bayes_pfl.config.TrainConfig`.
        samples: training images with masks.
        validation: images of other categories; early stopping watches their mean pixel AP in
            stage 1 and their image AP in stage 2.
        out: run folder; best/ and last/ are checkpoints.
        fabric: launched, with devices and precision; its processes divide each batch.
        cache: folder for the tokens of augmented views; None encodes every image in every epoch.
    """

    def __init__(
        self,
        model: BayesPFLNetwork,
        config: TrainConfig,
        samples: list[Sample],
        validation: list[Sample],
        out: Path,
        fabric: Fabric,
        progress: Progress | None = None,
        cache: Path | None = None,
    ) -> None:
        self.model, self.config, self.fabric = model, config, fabric
        if config.last_batch == "short" and fabric.world_size > 1:
            raise ConfigError("last_batch = 'short': one device; use 'filled' with several")
        self.validation, self.progress = validation, progress or NullProgress()
        self.files = RunFiles(out) if fabric.is_global_zero else None
        self.figures = FigureLog(fabric)
        self.batches = TrainingBatches(samples, model, config, fabric, self.progress, cache)
        self.state = TrainingState()

    def run(self, *, resume: bool = False) -> TrainingState:
        """Train both stages; afterwards the model has the weights of best/.

        Raises:
            CheckpointError: ``resume`` without a usable last/, a folder that cannot be written, or
                a loss that is not finite.
            DataError: a sample that cannot be read.
        """
        finished = False
        try:
            optimization = self._restore() if resume else None
            self._run_stages(optimization)
            if self.files and self.state.map_range:
                self.model.update_scoring(map_range=self.state.map_range)  # colours of overlays
                save_checkpoint(self.model, self.files.out / "best")
            finished = True
        finally:
            self.figures.close(finished=finished)
        return self.state

    def _restore(self) -> dict[str, Any] | None:
        """Load last/; returns the states of the optimization, None without a finished epoch."""
        data = self.files.load_last(self.model) if self.files else None
        data = self.fabric.broadcast(data)  # other machines may not see the run folder
        if data is None:
            logger.info("no epoch was finished: training starts again from the beginning")
            return None
        self.state = TrainingState(**data["state"])
        self.model.update_scoring(stage=self.state.stage)
        if self.files:  # the run may have been stopped between the state and these
            best = bool(self.state.history[-1]["best"])
            self.files.save_results(self.model, self.state, best=best)
        logger.info("resumed after stage %d, epoch %d", self.state.stage, self.state.epoch)
        return {name: value for name, value in data.items() if name != "state"}

    def _run_stages(self, optimization: dict[str, Any] | None) -> None:
        stages = (self.config.stage1, self.config.stage2)
        for stage, settings in enumerate(stages, start=1):
            if stage < self.state.stage or settings.epochs == 0:
                continue
            if stage > self.state.stage:
                if self.state.is_spent(self.config.max_epochs):
                    break
                self.state.begin_stage(stage)
                optimization = None  # it is that of the stage before
            self._run_stage(stage, settings, optimization)
            if self.files:  # the other processes get these weights when the next stage is set up
                self.files.load_best(self.model)

    def _run_stage(
        self, stage: int, settings: StageConfig, optimization: dict[str, Any] | None
    ) -> None:
        set_stage(self.model, stage)
        self.model.update_scoring(stage=stage)
        step = TrainingStep(self.model, self.config.flow_weight, self.config.text_checkpointing)
        groups = parameter_groups(self.model, self.config)
        optimizer = torch.optim.Adam(groups, betas=self.config.betas)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._schedule(settings))
        module, wrapped = self.fabric.setup(step, optimizer)
        if optimization:  # now that the parameters are on their device, the moments follow them
            optimizer.load_state_dict(optimization["optimizer"])
            schedule.load_state_dict(optimization["schedule"])
            if scale := optimization.get("precision"):  # runs of before 16-mixed kept it have none
                self.fabric.strategy.precision.load_state_dict(scale)
        gradients = GradientStep(self.fabric, module, self.model)
        while not self.state.is_over(settings, self.config.max_epochs):
            self._run_epoch(gradients, wrapped, schedule, settings.epochs)

    def _schedule(self, settings: StageConfig) -> Callable[[int], float]:
        """Factor of the learning rates by step, see :class:`StageConfig`."""
        total = settings.epochs * self.batches.per_epoch
        warmup = max(1, round(self.config.warmup_fraction * total))

        def factor(step: int) -> float:
            if settings.schedule == "constant":
                return 1.0
            if step < warmup:
                return (step + 1) / warmup
            return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))

        return factor

    def _run_epoch(
        self, gradients: GradientStep, optimizer: Any, schedule: Any, epochs: int
    ) -> None:
        stage, epoch, count = self.state.stage, self.state.epoch, self.batches.per_epoch
        title = f"stage {stage}, epoch {epoch + 1} of {epochs}"
        sums: dict[str, float] = {}
        started = time.perf_counter()
        for index, micros in enumerate(self.batches.steps(stage, epoch)):
            if index == 0:  # after the features, where those have to be made first
                self.progress.start(title, count)
            optimizer.zero_grad(set_to_none=True)
            values = gradients(micros, stage)
            if (longest := self.config.max_gradient_norm) is not None:
                self.fabric.clip_gradients(
                    gradients.module, optimizer, max_norm=longest, error_if_nonfinite=False
                )
            optimizer.step()
            schedule.step()
            self._check_finite(values, title, index)
            sums = {name: sums.get(name, 0.0) + value for name, value in values.items()}
            self.figures.log(stage, values, len(self.state.history) * count + index)
            self.progress.advance(1, values)
        means = {name: value / count for name, value in sums.items()}
        self._close_epoch(title, means, time.perf_counter() - started, optimizer, schedule)

    def _close_epoch(
        self, title: str, losses: dict[str, float], seconds: float, optimizer: Any, schedule: Any
    ) -> None:
        stage, size = self.state.stage, self.batches.micro
        score, map_range = validate(
            self.model, self.validation, self.config, size, self.state, self.fabric, self.progress
        )
        improved = self.state.finish_epoch(score, map_range, self.config.ties_improve)
        row = {"stage": stage, "epoch": self.state.epoch, "validation_ap": score}
        row |= {f"loss_{name}": value for name, value in losses.items()}
        row |= {"learning_rate": schedule.get_last_lr()[0], "seconds": seconds, "best": improved}
        self.state.history.append(row)
        if self.files:
            figure = "undefined" if math.isnan(score) else f"{100 * score:.1f}%"
            best = ", the best so far" * improved
            loss, metric = losses["total"], self.state.metric
            logger.info("%s: loss %.3f, validation %s %s%s", title, loss, metric, figure, best)
        extra = {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
        extra["precision"] = self.fabric.strategy.precision.state_dict()  # the scale of 16-mixed
        if self.files:
            self.files.save_epoch(self.model, self.state, extra, best=improved)
        of_epoch = {name: value for name, value in row.items() if name not in ("stage", "epoch")}
        steps = len(self.state.history) * self.batches.per_epoch
        self.figures.log(stage, of_epoch, steps - 1)  # with the last step of the epoch
        self.figures.save()

    def _check_finite(self, values: dict[str, float], title: str, index: int) -> None:
        if not math.isfinite(values["total"]):
            bad = ", ".join(name for name, value in values.items() if not math.isfinite(value))
            raise CheckpointError(
                f"{title}, step {index + 1}: loss is not finite ({bad}); last/ and best/ hold the "
                "epoch before; lower the learning rates, or use precision 32-true"
            )
