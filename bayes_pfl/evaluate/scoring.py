"""The benchmark loop: samples in, a record of each category out.

Masks are compared at the model's own size S x S, as in the published protocol; with tiles each at
its own size H x W. Maps are smoothed. An anomalous image without a mask is left out of what is
counted of pixels.
Symbols: B images, S the model's image side, H×W pixels of an image.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bayes_pfl.data.labelled_batches import (
    LabelledBatch,
    file_identity,
    read_batches,
    read_pictures,
)
from bayes_pfl.data.records import Sample
from bayes_pfl.detect.pictures import score_pictures
from bayes_pfl.detect.scorer import Scorer, out_of_memory_explained
from bayes_pfl.detect.settings import ScoringSettings
from bayes_pfl.errors import DataError
from bayes_pfl.evaluate.batch_scores import (
    ScoresAndMaps,
    image_pixel_ap,
    of_batch,
    of_picture,
)
from bayes_pfl.evaluate.cache import DatasetCache
from bayes_pfl.evaluate.records import LEVELS, CategoryRecord, Counted, ImageRow, figures, mean
from bayes_pfl.evaluate.reference_draw import Drawn
from bayes_pfl.metrics import ImageMetrics
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.model.scoring import top_k_for

PUBLISHED_SIZE = 518
"""Side, in pixels, at which the published k of the top-k score and sigma = 8 were chosen."""

OnProgress = Callable[[int], None]
OnBatch = Callable[[LabelledBatch, np.ndarray, np.ndarray], None]
"""Takes a batch, its maps and its uncertainty maps, both as large as its masks."""


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings(ScoringSettings):
    """How to evaluate.

    Attributes:
        skip_unreadable: images that cannot be read are listed in the record instead of raised.
        smooth_masks: masks are resized as the authors do it, not to the nearest pixel.
    """

    skip_unreadable: bool = False
    smooth_masks: bool = False


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
    references: Mapping[str, Drawn] | None = None,
) -> Iterator[CategoryRecord]:
    """As :func:`evaluate`, one record after the other: seal each to stay in bounded memory.

    Args:
        levels: results that the dataset is meant for, of "image" and "pixel".
        cache: where scores are kept, so that a stopped run can be resumed.
        on_batch: called with every batch that is scored, and its maps.
        references: by category; None for scores by words alone.
    """
    progress = on_progress or (lambda done: None)
    score = _CategoryScoring(model, settings, progress, cache, on_batch, references or {})
    for category in dict.fromkeys(sample.category for sample in samples):
        chosen = [sample for sample in samples if sample.category == category]
        record = cache.load(category, chosen, tuple(levels)) if cache else None
        record = record or CategoryRecord(category, tuple(levels))
        score(chosen, record)
        yield record


@dataclass
class _CategoryScoring:
    """Scores what the record of a category lacks, category after category."""

    model: BayesPFLNetwork
    settings: EvaluationSettings
    on_progress: OnProgress
    cache: DatasetCache | None
    on_batch: OnBatch | None
    references: Mapping[str, Drawn]

    def __post_init__(self) -> None:
        spread = self.on_batch is not None
        self._words = self.scorer = Scorer(self.model, self.settings, spread=spread)
        self._read: Path | None = None
        self._identity: dict[Sample, str] = {}

    def __call__(self, samples: Sequence[Sample], record: CategoryRecord) -> None:
        """Score the samples that the record does not hold yet.

        What could not be read before comes first: so the other batches are those of a run that was
        never stopped, and their scores the same to the last bit.
        """
        self._identity = {sample: file_identity(sample) for sample in samples}
        done = {row.identity for row in record.rows}
        missing = [sample for sample in samples if self._identity[sample] not in done]
        again = [sample for sample in missing if self._identity[sample] in record.unread]
        fresh = [sample for sample in missing if self._identity[sample] not in record.unread]
        if len(missing) < len(samples):
            self.on_progress(len(samples) - len(missing))
        drawn = self.references.get(record.category)
        self.scorer = drawn.fitted(self._words) if drawn and missing else self._words
        try:
            for part in (again, fresh):
                for batch in self._batches(part):
                    self._take(batch, record)
        finally:  # also when the user stops the run
            if self.cache and missing:
                self.cache.keep(record, now=True)
        if again:
            places = {self._identity[sample]: place for place, sample in enumerate(samples)}
            record.rows.sort(key=lambda row: places[row.identity])

    def _batches(self, samples: Sequence[Sample]) -> Iterator[LabelledBatch]:
        """The samples as they are compared: at the model's size, or (with tiles) at their own."""
        side, settings = self.model.backbone.image_size, self.settings
        if settings.tile is None:
            size, smooth = settings.batch_size, settings.smooth_masks
            return read_batches(samples, side, size, settings.workers, smooth)
        # Each by itself: so the scores of a resumed run are the same to the last bit.
        tiles = self.scorer.settings.tiles(self.model)
        return read_pictures(samples, side, tiles, settings.workers)

    def _take(self, batch: LabelledBatch, record: CategoryRecord) -> None:
        for sample, reason in batch.failures:
            if not self.settings.skip_unreadable:
                raise DataError(reason)
            self._refuse_vanished(sample)
            record.skipped.append((str(sample.path), reason))
        counted = Counted()
        if batch.samples:
            self._read = self._read or batch.samples[0].path
            counted = self._scored(batch, record)
        unread = tuple(self._identity[sample] for sample, _ in batch.failures)
        counted = replace(counted, unread=unread)
        record.add(counted)
        if self.cache:
            self.cache.add(record, counted)
        self.on_progress(len(batch.samples) + len(batch.failures))
        if self.cache:
            self.cache.keep(record)

    def _refuse_vanished(self, sample: Sample) -> None:
        """A file out of reach is listed; a folder that was there when the run began is not."""
        if self._read is None:
            return
        shared = os.path.commonpath([os.path.abspath(self._read), os.path.abspath(sample.path)])
        if not os.path.exists(shared):
            raise DataError(
                f"{shared}: has vanished during the run; bring it back, then give the same "
                "command again"
            )

    def _scored(self, batch: LabelledBatch, record: CategoryRecord) -> Counted:
        names = [sample.class_name for sample in batch.samples]
        with out_of_memory_explained(self.model, len(names), self.scorer.draws):
            if batch.pictures:
                (scored,) = score_pictures(self.scorer, batch.pictures, names)
                assert scored is not None  # it was read
                found = of_picture(scored, batch.masks.shape[:0:-1])
            else:
                k = top_k_at(record.category, self.model.backbone.image_size)
                found = of_batch(self.scorer.batch(batch.pixels, names), k, self.scorer.spread)
            if self.on_batch:  # first: an image that counts as done must have its pictures
                assert found.spreads is not None
                self.on_batch(batch, found.maps, found.spreads)
            return self._counted(batch, found, record)

    def _counted(
        self, batch: LabelledBatch, found: ScoresAndMaps, record: CategoryRecord
    ) -> Counted:
        """What the record keeps of a batch."""
        has_mask = np.array([s.label == 0 or s.mask is not None for s in batch.samples])
        pixel_aps = np.full(len(has_mask), np.nan)
        maps = masks = None
        if "pixel" in record.levels:
            every = bool(has_mask.all())  # large ones are not copied
            maps = found.maps if every else found.maps[has_mask]
            masks = batch.masks if every else batch.masks[has_mask]
            pixel_aps[has_mask] = [image_pixel_ap(*pair) for pair in zip(maps, masks, strict=True)]
        images = zip(
            batch.samples, has_mask.tolist(), found.values, pixel_aps.tolist(), strict=True
        )
        rows = tuple(
            ImageRow(
                self._identity[s],
                str(s.path),
                s.label,
                masked,
                text,
                mapped,
                top,
                spread,
                ap,
                *rest,
            )
            for s, masked, (text, mapped, top, spread, *rest), ap in images
        )
        return Counted(rows, maps=maps, masks=masks)


def top_k_at(category: str, size: int) -> int:
    """The published k covers the same share of the map at every size."""
    return max(1, round(top_k_for(category) * (size / PUBLISHED_SIZE) ** 2))


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
