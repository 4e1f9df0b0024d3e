"""The benchmark loop: samples in, a record of each category out.

Masks are compared at the model's own size S x S, as in the published protocol; maps are smoothed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from bayes_pfl.data.records import Sample
from bayes_pfl.evaluate.cache import DatasetCache
from bayes_pfl.evaluate.figures import figures, mean
from bayes_pfl.evaluate.records import LEVELS, CategoryRecord
from bayes_pfl.evaluate.scoring import CategoryScoring, EvaluationSettings, OnBatch, OnProgress
from bayes_pfl.metrics import ImageMetrics
from bayes_pfl.model.network import BayesPFLNetwork

_DEFAULTS = EvaluationSettings()


def evaluate(
    model: BayesPFLNetwork,
    samples: Sequence[Sample],
    settings: EvaluationSettings = _DEFAULTS,
    on_progress: OnProgress | None = None,
) -> dict[str, CategoryRecord]:
    """Score every sample once; both protocols can be read off the records.

    Args:
        on_progress: called with the number of images done since the last call.

    Returns:
        A record per category, in order of appearance.

    Raises:
        DataError: what reading the samples raises, unless the settings skip it.
    """
    return {r.category: r for r in evaluate_categories(model, samples, settings, on_progress)}


def evaluate_categories(
    model: BayesPFLNetwork,
    samples: Sequence[Sample],
    settings: EvaluationSettings,
    on_progress: OnProgress | None = None,
    levels: Sequence[str] = LEVELS,
    cache: DatasetCache | None = None,
    on_batch: OnBatch | None = None,
) -> Iterator[CategoryRecord]:
    """As :func:`evaluate`, one record after the other: seal each to stay in bounded memory.

    Args:
        levels: results that the dataset is meant for, of "image" and "pixel".
        cache: where scores are kept, so that a stopped run can be resumed.
        on_batch: called with every batch that is scored, and its maps.
    """
    score = CategoryScoring(model, settings, on_progress, cache, on_batch)
    for category in dict.fromkeys(sample.category for sample in samples):
        chosen = [sample for sample in samples if sample.category == category]
        record = cache.load(category, chosen, tuple(levels)) if cache else None
        record = record or CategoryRecord(category, tuple(levels))
        score(chosen, record)
        yield record


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
