"""The training loop: two stages, validation on held-out categories, checkpoints, resuming.

Engine of tools/train.py. Every random choice of a step is a function of (seed, stage, epoch, step),
so a run that is resumed at an epoch's end goes on as if it had not stopped.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader

from bayes_pfl.backbone import FrozenCLIP, ImageFeatures, frozen_text_checkpointing
from bayes_pfl.checkpoints import save_checkpoint
from bayes_pfl.config import StageConfig, TrainConfig
from bayes_pfl.data.samples import AugmentedDataset, Sample, SampleDataset
from bayes_pfl.data.transforms import TrainTransform
from bayes_pfl.draws import PromptNoise
from bayes_pfl.errors import CheckpointError
from bayes_pfl.evaluation import (
    EvaluationSettings,
    evaluate,
    map_range,
    pixel_average_precision,
    text_score_average_precision,
)
from bayes_pfl.evaluation_records import CategoryRecord
from bayes_pfl.feature_cache import FeatureCache, cache_key, fill
from bayes_pfl.model import BayesPFL
from bayes_pfl.parameter_groups import parameter_groups, set_stage
from bayes_pfl.progress import Progress, Silence
from bayes_pfl.run_files import RunFiles

logger = logging.getLogger(__name__)

SEED_STRIDE = 100_003  # prime: keeps the seeds of neighbouring steps, epochs and stages apart


@dataclass
class TrainingState:
    """Where a run stands after an epoch: everything that ``last`` needs to go on."""

    stage: int = 1
    epoch: int = 0
    best: float = -math.inf
    best_epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)

    def stale_epochs(self) -> int:
        """Epochs of this stage since the best one."""
        return self.epoch - self.best_epoch


class TrainingStep(nn.Module):
    """One forward pass to the losses: a module, so that wrappers for several devices apply."""

    def __init__(
        self, model: BayesPFL, flow_weight: float, text_checkpointing: bool = False
    ) -> None:
        super().__init__()
        self.model, self.flow_weight = model, flow_weight
        self.text_checkpointing = text_checkpointing

    def forward(
        self,
        batch: dict[str, Any],
        names: list[str],
        noise: tuple[Tensor, Tensor, Tensor],
        pair: int,
        stage: int,
    ) -> dict[str, Tensor]:
        """Losses of one batch; see :meth:`BayesPFL.training_losses`."""
        backbone = self.model.backbone
        features = batch_features(backbone, batch)
        with frozen_text_checkpointing(backbone, self.text_checkpointing):
            return self.model.training_losses(
                features,
                names,
                batch["mask"],
                batch["label"],
                PromptNoise(*noise),
                pair,
                stage=stage,
                flow_weight=self.flow_weight,
            )


def batch_features(backbone: FrozenCLIP, batch: dict[str, Any]) -> ImageFeatures:
    """Features of a batch of images, or those that the cache gave for it."""
    if "image" in batch:
        return backbone.encode_image(batch["image"])
    return ImageFeatures(batch["pooled"], tuple(batch["tokens"]), backbone.grid)


class Trainer:
    """Trains the learnt part of a model.

    Args:
        model: with its frozen backbone.
        config: see :class:`TrainConfig`.
        samples: to train on, with masks.
        validation: of other categories; its mean pixel AP ends stage 1, its image AP stage 2.
        out: run folder; best/ and last/ are checkpoints.
        fabric: devices and precision, launched.
        cache: folder for the tokens of augmented views; None encodes every image anew.
    """

    def __init__(
        self,
        model: BayesPFL,
        config: TrainConfig,
        samples: list[Sample],
        validation: list[Sample],
        out: Path,
        fabric: Fabric,
        progress: Progress | None = None,
        cache: Path | None = None,
    ) -> None:
        self.model, self.config, self.fabric = model, config, fabric
        self.validation, self.progress = validation, progress or Silence()
        self.files = RunFiles(out)
        self.dataset = self._dataset(samples)
        self.cache = self._open_cache(cache)
        self.state = TrainingState()
        self._resumed: dict[str, Any] | None = None

    def _dataset(self, samples: list[Sample]) -> SampleDataset:
        backbone = self.model.backbone
        if not self.config.augment:
            return SampleDataset(samples, self.model.transform)
        transform = TrainTransform(backbone.image_size, backbone.mean, backbone.std)
        return AugmentedDataset(
            samples, transform, seed=self.config.seed, mosaic=self.config.mosaic
        )

    def run(self, *, resume: bool = False) -> TrainingState:
        """Train both stages; the model then holds the best weights, as best/ does.

        Raises:
            CheckpointError: ``resume`` without a usable last/, or a folder that cannot be written.
            DataError: a sample that cannot be read.
        """
        try:
            if resume:
                self._restore()
            self._run_stages()
            self._keep_map_range()
        finally:
            self.files.close()
        return self.state

    def _run_stages(self) -> None:
        stages = (self.config.stage1, self.config.stage2)
        for stage, settings in enumerate(stages, start=1):
            if stage < self.state.stage or settings.epochs == 0:
                continue
            if stage > self.state.stage:
                self.state.stage, self.state.epoch = stage, 0
                self.state.best, self.state.best_epoch = -math.inf, 0
            self._run_stage(stage, settings)
            if self.files.has_best():
                self.files.load_best(self.model)

    def _keep_map_range(self) -> None:
        """Colours of the overlays: the median pixel of the validation dark, the highest bright."""
        if not self.files.has_best():
            return
        scoring = self.model.config.scoring
        scoring = replace(scoring, map_range=map_range(self._records()))
        self.model.config = replace(self.model.config, scoring=scoring)
        save_checkpoint(self.model, self.files.out / "best")

    def _run_stage(self, stage: int, settings: StageConfig) -> None:
        set_stage(self.model, stage)
        scoring = replace(self.model.config.scoring, stage=stage)
        self.model.config = replace(self.model.config, scoring=scoring)
        step = TrainingStep(self.model, self.config.flow_weight, self.config.text_checkpointing)
        optimizer = torch.optim.Adam(
            parameter_groups(self.model, self.config), betas=self.config.betas
        )
        total = settings.epochs * self.steps_per_epoch
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._schedule(total))
        if self._resumed:
            optimizer.load_state_dict(self._resumed["optimizer"])
            schedule.load_state_dict(self._resumed["schedule"])
            self._resumed = None
        wrapped, optimizer = self.fabric.setup(step, optimizer)
        while self.state.epoch < settings.epochs:
            if self.state.epoch and self.state.stale_epochs() >= settings.patience:
                break
            self._run_epoch(wrapped, optimizer, schedule, stage, settings)

    @property
    def steps_per_epoch(self) -> int:
        """Configured, or one pass over the data."""
        one_pass = math.ceil(len(self.dataset) / self.config.batch_size)
        return self.config.steps_per_epoch or max(1, one_pass)

    def _schedule(self, total: int) -> Any:
        """Factor on the learning rates: linear warm-up, then a half cosine to zero."""
        warmup = max(1, round(self.config.warmup_fraction * total))

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))

        return factor

    def _run_epoch(
        self, step: Any, optimizer: Any, schedule: Any, stage: int, settings: StageConfig
    ) -> None:
        title = f"stage {stage} epoch {self.state.epoch + 1}/{settings.epochs}"
        sums: dict[str, float] = {}
        started = time.perf_counter()
        for index, batch in enumerate(self._batches(stage)):
            if index == 0:  # after the features, where those have to be made first
                self.progress.start(title, self.steps_per_epoch)
            losses = self._step(step, optimizer, batch, stage, index)
            schedule.step()
            values = {name: float(value.detach()) for name, value in losses.items()}
            self._check_finite(values, title, index)
            sums = {name: sums.get(name, 0.0) + value for name, value in values.items()}
            self.files.log_step(stage, self.state.epoch, index, self.steps_per_epoch, values)
            self.progress.advance(1, values)
        means = {name: value / self.steps_per_epoch for name, value in sums.items()}
        self._close_epoch(means, stage, time.perf_counter() - started, optimizer, schedule)

    def _step(
        self, step: Any, optimizer: Any, batch: dict[str, Any], stage: int, index: int
    ) -> dict[str, Tensor]:
        noise, pair = self._draws(stage, index, len(batch["label"]))
        optimizer.zero_grad(set_to_none=True)
        draws = (noise.specific, noise.normal, noise.abnormal)
        losses = step(batch, self._names(batch), draws, pair, stage)
        self.fabric.backward(losses["total"])
        optimizer.step()
        return losses

    def _draws(self, stage: int, index: int, count: int) -> tuple[PromptNoise, int]:
        """Noise for ``count`` images and a prompt pair, as functions of seed, epoch and step."""
        generator = torch.Generator().manual_seed(self._seed(stage, index))
        noise = PromptNoise.draw(1, self.model.backbone.embed_dim, generator, batch=count)
        pair = int(torch.randint(self.model.config.prompts.pairs, (), generator=generator))
        return noise.to(self.fabric.device), pair

    def _names(self, batch: dict[str, Any]) -> list[str]:
        return [self.dataset.samples[i].class_name for i in batch["index"].tolist()]

    def _open_cache(self, folder: Path | None) -> FeatureCache | None:
        if folder is None:
            return None
        augmentation = {
            "augment": self.config.augment,
            "mosaic": self.config.mosaic,
            "seed": self.config.seed,
            "views": self.config.cache_views,
        }
        key = cache_key(self.model.config.backbone, self.dataset.samples, augmentation)
        return FeatureCache(
            folder / key, len(self.dataset), self.config.cache_views, self.model.backbone
        )

    def _batches(self, stage: int) -> Iterator[dict[str, Any]]:
        """``steps_per_epoch`` batches of random samples, shuffled by (seed, stage, epoch)."""
        order, size = self._order(stage), self.config.batch_size
        if self.cache is None:
            self._set_view(stage * SEED_STRIDE + self.state.epoch)
            yield from self._loader(order)
            return
        view = self.state.epoch % self.cache.views
        self._fill(self.cache, view)
        for start in range(0, len(order), size):
            batch = self.cache.read(view, order[start : start + size])
            yield self.fabric.to_device(batch)

    def _fill(self, cache: FeatureCache, view: int) -> None:
        if missing := cache.missing(view):
            self._set_view(view)
            self.progress.start(f"features, view {view + 1}/{cache.views}", len(missing))
            for done in fill(cache, view, self._loader(missing), self.model.backbone):
                self.progress.advance(done, {})

    def _set_view(self, view: int) -> None:
        if isinstance(self.dataset, AugmentedDataset):
            self.dataset.set_epoch(view)

    def _loader(self, order: list[int]) -> Any:
        loader = DataLoader(
            self.dataset,
            batch_size=self.config.batch_size,
            sampler=order,
            num_workers=self.config.workers,
            generator=torch.Generator(),  # or it takes a seed from the global one
        )
        return self.fabric.setup_dataloaders(loader, use_distributed_sampler=False)

    def _order(self, stage: int) -> list[int]:
        generator = torch.Generator().manual_seed(self._seed(stage, SEED_STRIDE - 1))
        wanted = self.steps_per_epoch * self.config.batch_size
        order: list[int] = []
        while len(order) < wanted:
            order += torch.randperm(len(self.dataset), generator=generator).tolist()
        return order[:wanted]

    def _seed(self, stage: int, index: int) -> int:
        epochs = (self.config.seed * 2 + stage) * SEED_STRIDE + self.state.epoch
        return epochs * SEED_STRIDE + index

    def _close_epoch(
        self, losses: dict[str, float], stage: int, seconds: float, optimizer: Any, schedule: Any
    ) -> None:
        score = self._validate(stage)
        self.state.epoch += 1
        improved = score > self.state.best or self.state.epoch == 1
        if improved:
            self.state.best, self.state.best_epoch = score, self.state.epoch
        row = {"stage": stage, "epoch": self.state.epoch, "validation_ap": score}
        row |= {f"loss_{name}": value for name, value in losses.items()}
        row |= {"learning_rate": schedule.get_last_lr()[0], "seconds": seconds, "best": improved}
        self.state.history.append(row)
        logger.info("stage %d epoch %d: validation AP %.4f", stage, self.state.epoch, score)
        extra = {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
        self.files.save_epoch(self.model, self.state, extra, best=improved)

    def _validate(self, stage: int) -> float:
        """Mean AP of the validation categories; 0 where nothing is defined, as with no samples."""
        records = self._records()
        figure = pixel_average_precision if stage == 1 else text_score_average_precision
        return figure(records) or 0.0

    def _records(self) -> dict[str, CategoryRecord]:
        self.progress.start("validation", len(self.validation))
        settings = EvaluationSettings(
            samples=self.config.validation_samples,
            batch_size=self.config.batch_size,
            workers=self.config.workers,
            seed=self.config.seed,
        )
        return evaluate(
            self.model,
            self.validation,
            settings,
            lambda done: self.progress.advance(done, {}),
        )

    def _check_finite(self, values: dict[str, float], title: str, index: int) -> None:
        if not math.isfinite(values["total"]):
            bad = ", ".join(name for name, value in values.items() if not math.isfinite(value))
            raise CheckpointError(
                f"{title}, step {index + 1}: loss is not finite ({bad}); last/ and best/ hold the "
                "epoch before; lower the learning rates, or use precision 32-true"
            )

    def _restore(self) -> None:
        data = self.files.load_last(self.model)
        state = data["state"]
        self.state = TrainingState(**state)
        self._resumed = {key: data[key] for key in ("optimizer", "schedule")}
        logger.info("resumed after stage %d, epoch %d", self.state.stage, self.state.epoch)
