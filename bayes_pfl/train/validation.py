"""Validation during training: each process scores its share, the first one computes the AP."""

from __future__ import annotations

import math

import torch
from lightning_fabric import Fabric

from bayes_pfl.config import TrainConfig
from bayes_pfl.data.records import Sample
from bayes_pfl.evaluate.parallel import merge_records
from bayes_pfl.evaluate.records import CategoryRecord
from bayes_pfl.evaluate.scoring import (
    EvaluationSettings,
    evaluate,
    map_range,
    pixel_average_precision,
    text_score_average_precision,
)
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.support.progress import Progress
from bayes_pfl.train.batches import SEED_STRIDE
from bayes_pfl.train.devices import reading_processes
from bayes_pfl.train.state import TrainingState


def validate(
    model: BayesPFLNetwork,
    samples: list[Sample],
    config: TrainConfig,
    batch_size: int,
    state: TrainingState,
    fabric: Fabric,
    progress: Progress,
) -> tuple[float, tuple[float, float]]:
    """Mean AP of the validation categories, and the range of their maps.

    Every process gets the same result; the pixel counts of all are merged exactly.

    Args:
        batch_size: images that a process scores at once.
        state: in stage 1 the AP of pixels, in stage 2 that of text scores; new draws by epoch.

    Returns:
        The AP in [0, 1], NaN where it is not defined (as without samples), and the median and the
        highest value of the maps.
    """
    settings = EvaluationSettings(
        samples=config.validation_samples,
        batch_size=batch_size,
        workers=reading_processes(config.workers, fabric),
        smoothing=config.validation_smoothing,
        smooth_masks=True,  # as in training
        seed=_seed(config, state),
    )
    categories = list(dict.fromkeys(sample.category for sample in samples))
    ordered = [s for category in categories for s in samples if s.category == category]
    own = ordered[fabric.global_rank :: fabric.world_size]
    progress.start("validation", len(own))
    records = evaluate(model, own, settings, lambda done: progress.advance(done, {}))
    result = (math.nan, (0.0, 1.0))
    gathered = _gather(records, fabric)
    if fabric.is_global_zero:
        records = {
            category: merge_records(
                [part[category] for part in gathered if category in part], samples
            )
            for category in categories
        }
        average_precision = (
            pixel_average_precision if state.stage == 1 else text_score_average_precision
        )
        found = average_precision(records)
        result = math.nan if found is None else found, map_range(records)
    return fabric.broadcast(result)


def _seed(config: TrainConfig, state: TrainingState) -> int:
    if config.validation_draws == "fixed":
        return config.seed
    return (config.seed * 2 + state.stage) * SEED_STRIDE + state.epoch


def _gather(records: dict[str, CategoryRecord], fabric: Fabric) -> list[dict[str, CategoryRecord]]:
    """The records of all processes; only the first process gets them."""
    if fabric.world_size == 1:
        return [records]
    gathered: list[dict[str, CategoryRecord]] = [{}] * fabric.world_size
    torch.distributed.gather_object(records, gathered if fabric.is_global_zero else None)
    return gathered
