"""The benchmark loop: samples in, a record of each category out. Engine of tools/evaluate.py.

Masks are compared at the model's own size S x S, as in the published protocol; maps are smoothed.
Symbols: B images, S the model's image side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from bayes_pfl.data.records import Sample
from bayes_pfl.draws import RunSamples
from bayes_pfl.errors import ConfigError, DataError
from bayes_pfl.evaluation_input import Batch, file_identity, read_batches
from bayes_pfl.evaluation_records import (
    IMAGE_KEYS,
    LEVELS,
    PIXEL_KEYS,
    CategoryRecord,
    ImageRow,
    Protocol,
    dataset_result,
    figures,
    mean,
)
from bayes_pfl.metrics import ImageMetrics
from bayes_pfl.metrics.curves import Levels, average_precision
from bayes_pfl.model import BatchScores, BayesPFL
from bayes_pfl.precision import autocast
from bayes_pfl.scorer import top_spread
from bayes_pfl.scoring import DEPLOY_FRACTION, gaussian_smooth, top_k_for, top_mean

if TYPE_CHECKING:
    from bayes_pfl.evaluation_cache import DatasetCache

__all__ = [
    "IMAGE_KEYS",
    "PIXEL_KEYS",
    "CategoryRecord",
    "EvaluationSettings",
    "Protocol",
    "dataset_result",
    "evaluate",
    "evaluate_categories",
    "map_range",
    "pixel_average_precision",
    "text_score_average_precision",
]

PUBLISHED_SIZE = 518
"""Side, in pixels, at which the published k of the top-k score and sigma = 8 were chosen."""

_AP_STEPS = 1024

Tick = Callable[[int], None]
Watch = Callable[[Batch, BatchScores], None]


@dataclass(frozen=True)
class EvaluationSettings:
    """How to run: R, batches, precision, decoding processes, seed of the run's draws.

    ``skip_unreadable``: images that cannot be read are listed in the record instead of raised.
    """

    samples: int | None = None
    batch_size: int = 8
    precision: str = "float32"
    workers: int = 0
    seed: int = 0
    skip_unreadable: bool = False


def evaluate(
    model: BayesPFL,
    samples: Sequence[Sample],
    settings: EvaluationSettings = EvaluationSettings(),  # noqa: B008  (frozen)
    tick: Tick | None = None,
) -> dict[str, CategoryRecord]:
    """Score every sample once; both protocols can be read off the records.

    Args:
        tick: called with the number of images done since the last call.

    Returns:
        A record per category, in order of appearance.

    Raises:
        DataError: what reading the samples raises, unless the settings skip it.
    """
    return {r.category: r for r in evaluate_categories(model, samples, settings, tick)}


def evaluate_categories(
    model: BayesPFL,
    samples: Sequence[Sample],
    settings: EvaluationSettings,
    tick: Tick | None = None,
    levels: Sequence[str] = LEVELS,
    cache: DatasetCache | None = None,
    watch: Watch | None = None,
) -> Iterator[CategoryRecord]:
    """As :func:`evaluate`, one record after the other: seal each to stay in bounded memory.

    Args:
        levels: results that the dataset is meant for, of "image" and "pixel".
        cache: where scores are kept, so that a stopped run goes on.
        watch: shown every batch that is scored, with its maps.
    """
    draws = model.draw(settings.samples, settings.seed)
    for category in dict.fromkeys(sample.category for sample in samples):
        chosen = [sample for sample in samples if sample.category == category]
        record = cache.load(category, chosen, tuple(levels)) if cache else None
        record = record or CategoryRecord(category, tuple(levels))
        _evaluate_category(model, chosen, record, draws, settings, tick, cache, watch)
        yield record


def _evaluate_category(
    model: BayesPFL,
    samples: Sequence[Sample],
    record: CategoryRecord,
    draws: RunSamples,
    settings: EvaluationSettings,
    tick: Tick | None,
    cache: DatasetCache | None,
    watch: Watch | None,
) -> None:
    """Score the samples that the record does not hold yet."""
    done = {row.identity for row in record.rows}
    waiting = [sample for sample in samples if not done or file_identity(sample) not in done]
    if tick and done:
        tick(len(samples) - len(waiting))
    try:
        for batch in read_batches(model.transform, waiting, settings.batch_size, settings.workers):
            _refuse_or_list(batch, record, settings)
            if batch.samples:
                scores = _score(model, batch, record, draws, settings)
                if watch:
                    watch(batch, scores)
            if tick:
                tick(len(batch.samples) + len(batch.failures))
            if cache:
                cache.keep(record)
    finally:  # also when the user stops the run
        if cache and waiting:
            cache.keep(record, now=True)


def _refuse_or_list(batch: Batch, record: CategoryRecord, settings: EvaluationSettings) -> None:
    for sample, reason in batch.failures:
        if not settings.skip_unreadable:
            raise DataError(reason)
        record.skipped.append((str(sample.path), reason))


def _score(
    model: BayesPFL,
    batch: Batch,
    record: CategoryRecord,
    draws: RunSamples,
    settings: EvaluationSettings,
) -> BatchScores:
    names = [sample.class_name for sample in batch.samples]
    try:
        with autocast(model.device, settings.precision):
            scores = model.score_batch(batch.images.to(model.device), names, draws)
        record.settled = False
        _count(record, scores, batch, model)
        record.settled = True
        return scores
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            f"{model.device} has no memory for a batch of {len(names)} with {draws.count} samples; "
            "use a smaller batch size, or fewer samples"
        ) from error


def _count(record: CategoryRecord, scores: BatchScores, batch: Batch, model: BayesPFL) -> None:
    """Add a batch to the record: pixels first, for they can be refused."""
    columns = _columns(scores, top_k_at(record.category, model.backbone.image_size))
    has_mask = [sample.label == 0 or sample.mask is not None for sample in batch.samples]
    aps = [float("nan")] * len(has_mask)
    if record.counts_pixels and all(has_mask):
        sigma = model.config.scoring.smoothing * model.backbone.image_size
        smooth = gaussian_smooth(scores.map, sigma).cpu().numpy()
        record.pixel.update(smooth, batch.masks, [str(sample.path) for sample in batch.samples])
        aps = [image_pixel_ap(*pair) for pair in zip(smooth, batch.masks, strict=True)]
    rows = zip(batch.samples, has_mask, columns, aps, strict=True)
    for sample, masked, values, ap in rows:
        identity = file_identity(sample)
        record.rows.append(
            ImageRow(identity, str(sample.path), sample.label, masked, *values, pixel_ap=ap)
        )


def _columns(scores: BatchScores, k: int) -> list[list[float]]:
    """Text score, map score, top mean and uncertainty of each image."""
    spread = (scores.text_spread + top_spread(scores.map, scores.map_spread)) / 2
    columns: list[Tensor] = [
        scores.text_score,
        top_mean(scores.map, fraction=DEPLOY_FRACTION),
        top_mean(scores.map, k=k),
        spread,
    ]
    return torch.stack([column.float() for column in columns], dim=1).tolist()


def top_k_at(category: str, size: int) -> int:
    """The published k covers the same share of the map at every size."""
    return max(1, round(top_k_for(category) * (size / PUBLISHED_SIZE) ** 2))


def image_pixel_ap(anomaly_map: np.ndarray, mask: np.ndarray) -> float:
    """Average precision of one image's pixels, its map (H, W) cut into 1024 equal steps.

    Good enough to rank images by, at a hundredth of the exact one's time. NaN for an empty mask.
    """
    if not mask.any():
        return float("nan")
    low, high = float(anomaly_map.min()), float(anomaly_map.max())
    scale = (_AP_STEPS - 1) / (high - low) if high > low else 0.0
    steps = ((anomaly_map - low) * scale).astype(np.int32)
    total = np.bincount(steps.ravel(), minlength=_AP_STEPS)[::-1]
    positive = np.bincount(steps[mask], minlength=_AP_STEPS)[::-1]
    return average_precision(Levels(np.arange(_AP_STEPS)[::-1], positive, total - positive))


def text_score_average_precision(records: dict[str, CategoryRecord]) -> float | None:
    """Mean over categories of the image AP of the text score: what stage 2 of training improves."""
    values = []
    for record in records.values():
        metric = ImageMetrics()
        metric.update(record.text_scores, record.labels)
        values.append(figures(metric.compute(), ("ap",))["ap"])
    return mean(values)


def pixel_average_precision(records: dict[str, CategoryRecord]) -> float | None:
    """Mean over categories of the pixel AP: what stage 1 of training improves."""
    return mean([record.pixel_result()["ap"] for record in records.values()])


def map_range(records: dict[str, CategoryRecord]) -> tuple[float, float]:
    """Median and 95th percentile of all map pixels: what colours should span; (0, 1) if none."""
    levels = [record.pixel.levels() for record in records.values()]
    values = np.concatenate([level.thresholds for level in levels]) if levels else np.empty(0)
    if len(values) == 0:
        return 0.0, 1.0
    counts = np.concatenate([level.positives + level.negatives for level in levels])
    order = np.argsort(values)
    share = np.cumsum(counts[order]) / counts.sum()
    low, high = (float(values[order][np.searchsorted(share, part)]) for part in (0.5, 0.95))
    return (low, high) if 0 <= low < high <= 1 else (0.0, 1.0)
