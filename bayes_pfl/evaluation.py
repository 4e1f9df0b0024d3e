"""The benchmark loop: samples in, metrics by category out. Engine of tools/evaluate.py.

Masks are compared at the model's own size S x S, as in the published protocol; maps are smoothed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader

from bayes_pfl.data.samples import Sample, SampleDataset
from bayes_pfl.draws import RunSamples
from bayes_pfl.metrics import ImageMetrics, PixelMetrics
from bayes_pfl.model import BatchScores, BayesPFL
from bayes_pfl.precision import autocast
from bayes_pfl.scoring import authors_scores, deploy_score, gaussian_smooth, top_k_for, top_mean

Protocol = Literal["deploy", "authors"]
PIXEL_KEYS = ("auroc", "aupro", "ap", "f1_max", "iou")
IMAGE_KEYS = ("auroc", "ap", "f1_max")
PUBLISHED_SIZE = 518
"""Side, in pixels, at which the published k of the top-k score and sigma = 8 were chosen."""

Tick = Callable[[int], None]


@dataclass(frozen=True)
class EvaluationSettings:
    """How to run: R, batches, precision, decoding processes, seed of the run's draws."""

    samples: int | None = None
    batch_size: int = 8
    precision: str = "float32"
    workers: int = 0
    seed: int = 0


@dataclass
class CategoryRecord:
    """What is kept of a category while it is read: streaming pixel counts, one row per image."""

    pixel: PixelMetrics = field(default_factory=PixelMetrics)
    labels: list[int] = field(default_factory=list)
    text_scores: list[float] = field(default_factory=list)
    deploy_scores: list[float] = field(default_factory=list)
    top_means: list[float] = field(default_factory=list)
    unmasked: int = 0

    def image_scores(self, protocol: Protocol) -> np.ndarray:
        """One score per image; for image-only sets the authors use the text score alone."""
        if protocol == "deploy":
            return np.asarray(self.deploy_scores)
        if self.unmasked:
            return np.asarray(self.text_scores)
        return authors_scores(np.asarray(self.text_scores), np.asarray(self.top_means))

    def result(self, protocol: Protocol) -> dict[str, Any]:
        """The category's entry of metrics.json; undefined figures are None, with a reason."""
        image = ImageMetrics()
        image.update(self.image_scores(protocol), np.asarray(self.labels))
        anomalous = sum(self.labels)
        return {
            "pixel": self._pixel_result(),
            "image": _figures(image.compute(), IMAGE_KEYS),
            "n_normal": len(self.labels) - anomalous,
            "n_anomalous": anomalous,
        }

    def _pixel_result(self) -> dict[str, Any]:
        if self.unmasked:
            reason = f"{self.unmasked} anomalous images have no mask"
            return {key: None for key in PIXEL_KEYS} | {"reason": dict.fromkeys(PIXEL_KEYS, reason)}
        return _figures(self.pixel.compute(), PIXEL_KEYS)


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
        A record per category, in order of appearance. Raises what reading the samples raises.
    """
    draws = model.draw(settings.samples, settings.seed)
    categories = dict.fromkeys(sample.category for sample in samples)
    records = {}
    for category in categories:
        chosen = [sample for sample in samples if sample.category == category]
        records[category] = _evaluate_category(model, chosen, draws, settings, tick)
    return records


def _evaluate_category(
    model: BayesPFL,
    samples: Sequence[Sample],
    draws: RunSamples,
    settings: EvaluationSettings,
    tick: Tick | None,
) -> CategoryRecord:
    record = CategoryRecord()
    k = top_k_at(samples[0].category, model.backbone.image_size)
    sigma = model.config.scoring.smoothing * model.backbone.image_size
    for batch, chosen in _batches(model, samples, settings):
        names = [sample.class_name for sample in chosen]
        with autocast(model.device, settings.precision):
            scores = model.score_batch(batch["image"].to(model.device), names, draws)
        _keep(record, scores, batch, chosen, k, sigma)
        if tick:
            tick(len(chosen))
    return record


def _batches(
    model: BayesPFL, samples: Sequence[Sample], settings: EvaluationSettings
) -> Iterator[tuple[dict[str, Tensor], list[Sample]]]:
    dataset = SampleDataset(samples, model.transform, missing_mask="none")
    loader = DataLoader(dataset, batch_size=settings.batch_size, num_workers=settings.workers)
    for batch in loader:
        yield batch, [samples[i] for i in batch["index"].tolist()]


def _keep(
    record: CategoryRecord,
    scores: BatchScores,
    batch: dict[str, Tensor],
    samples: Sequence[Sample],
    k: int,
    sigma: float,
) -> None:
    record.labels += batch["label"].tolist()
    record.text_scores += scores.text_score.tolist()
    record.deploy_scores += deploy_score(scores.text_score, scores.map).tolist()
    record.top_means += top_mean(scores.map, k=k).tolist()
    has_mask = batch["has_mask"]
    record.unmasked += int((~has_mask).sum())
    if record.unmasked == 0:
        names = [str(sample.path) for sample in samples]
        smooth = gaussian_smooth(scores.map, sigma).cpu()
        record.pixel.update(smooth, batch["mask"] > 0.5, names)


def top_k_at(category: str, size: int) -> int:
    """The published k covers the same share of the map at every size."""
    return max(1, round(top_k_for(category) * (size / PUBLISHED_SIZE) ** 2))


def dataset_result(records: dict[str, CategoryRecord], protocol: Protocol) -> dict[str, Any]:
    """{"categories": ..., "mean": ...} of one dataset; undefined figures stay out of means."""
    categories = {name: record.result(protocol) for name, record in records.items()}
    mean = {
        level: {key: _mean([c[level][key] for c in categories.values()]) for key in keys}
        for level, keys in (("pixel", PIXEL_KEYS), ("image", IMAGE_KEYS))
    }
    return {"categories": categories, "mean": mean}


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def _figures(computed: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    figures: dict[str, Any] = {
        key: None if math.isnan(computed[key]) else float(computed[key]) for key in keys
    }
    threshold = computed.get("f1_max_threshold", math.nan)
    figures["f1_max_threshold"] = None if math.isnan(threshold) else float(threshold)
    reasons = {key: text for key, text in computed.get("reason", {}).items() if key in keys}
    return figures | ({"reason": reasons} if reasons else {})


def text_score_average_precision(records: dict[str, CategoryRecord]) -> float | None:
    """Mean over categories of the image AP of the text score: what stage 2 of training improves."""
    values = []
    for record in records.values():
        metric = ImageMetrics()
        metric.update(np.asarray(record.text_scores), np.asarray(record.labels))
        values.append(_figures(metric.compute(), ("ap",))["ap"])
    return _mean(values)


def pixel_average_precision(records: dict[str, CategoryRecord]) -> float | None:
    """Mean over categories of the pixel AP: what stage 1 of training improves."""
    return _mean([record._pixel_result()["ap"] for record in records.values()])
