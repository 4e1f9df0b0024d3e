"""The images of a category that are worth a look, scored again for their maps.

An evaluation keeps no maps, so the few that are shown are computed again. The same draws give the
same maps, also after a resumed run.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
import torch

from bayes_pfl.data.images import read_image
from bayes_pfl.data.records import Sample
from bayes_pfl.data.samples import load_mask
from bayes_pfl.data.transforms import resize_image
from bayes_pfl.detect.scorer import ScoredImage, Scorer
from bayes_pfl.evaluate.records import CategoryRecord, ImageRow
from bayes_pfl.evaluate.scoring import EvaluationSettings
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.report.contact_sheet import SIDE, Tile, contact_sheet

_PERCENTILES = (1.0, 99.8)


def category_sheet(
    model: BayesPFLNetwork,
    record: CategoryRecord,
    samples: Sequence[Sample],
    settings: EvaluationSettings,
    title: str,
) -> bytes:
    """Contact sheet of a category as a PNG file: best, worst, false alarms, most uncertain."""
    picked = pick(record)
    by_path = {str(sample.path): sample for sample in samples}
    chosen = list(dict.fromkeys(row.path for _, rows in picked for row in rows))
    scored = _scored(model, [by_path[path] for path in chosen], settings)
    limits = _limits([item.map for item in scored.values()])
    rows = [
        (heading, [_tile(by_path[row.path], row, scored[row.path]) for row in rows])
        for heading, rows in picked
    ]
    buffer = io.BytesIO()
    contact_sheet(title, rows, limits).save(buffer, format="PNG")
    return buffer.getvalue()


def pick(record: CategoryRecord, shown: int = 4) -> list[tuple[str, list[ImageRow]]]:
    """Headings, each with up to ``shown`` rows.

    Anomalous images are ranked by the average precision of their own pixels; without masks, by the
    share of normal images that score lower; without normal images, by their score.
    """
    normal = [row for row in record.rows if row.label == 0]
    anomalous = [row for row in record.rows if row.label == 1]
    quality, kind = _quality(anomalous, normal)
    ranked = sorted(anomalous, key=lambda row: (-quality[row.path], -row.deploy_score, row.path))
    worst = ranked[shown:][::-1][:shown]
    alarms = sorted(normal, key=lambda row: (-row.deploy_score, row.path))
    doubtful = sorted(record.rows, key=lambda row: (-row.uncertainty, row.path))
    return [
        (f"Best: anomalous, highest {kind}", ranked[:shown]),
        (f"Worst: anomalous, lowest {kind}", worst),
        ("Worst: normal, highest score", alarms[:shown]),
        ("Most uncertain", doubtful[:shown]),
    ]


def _quality(
    anomalous: Sequence[ImageRow], normal: Sequence[ImageRow]
) -> tuple[dict[str, float], str]:
    """How well each anomalous image was found, by path; and the name of that measure."""
    if anomalous and all(not math.isnan(row.pixel_ap) for row in anomalous):
        return {row.path: row.pixel_ap for row in anomalous}, "pixel AP"
    if not normal:
        return {row.path: row.deploy_score for row in anomalous}, "score"
    scores = np.sort([row.deploy_score for row in normal])
    shares = {
        row.path: float(np.searchsorted(scores, row.deploy_score)) / len(scores)
        for row in anomalous
    }
    return shares, "rank among the normal ones"


def _scored(
    model: BayesPFLNetwork, samples: Sequence[Sample], settings: EvaluationSettings
) -> dict[str, ScoredImage]:
    scorer = Scorer(model, settings, spread=False)
    side = model.backbone.image_size
    scored: dict[str, ScoredImage] = {}
    for start in range(0, len(samples), settings.batch_size):
        batch = samples[start : start + settings.batch_size]
        pixels = [resize_image(read_image(sample.path), side) for sample in batch]
        results = scorer(pixels, [sample.class_name for sample in batch])
        scored |= {str(s.path): r for s, r in zip(batch, results, strict=True)}
    return scored


def _limits(maps: Sequence[torch.Tensor | None]) -> tuple[float, float]:
    """Map values at the two ends of the sheet's colours, from the maps shown."""
    values = [tensor.flatten() for tensor in maps if tensor is not None]
    if not values:
        return 0.0, 1.0
    low, high = np.percentile(torch.cat(values).numpy(), _PERCENTILES)
    return (float(low), float(high)) if high > low else (float(low), float(low) + 1e-3)


def _tile(sample: Sample, row: ImageRow, scored: ScoredImage) -> Tile:
    image = read_image(sample.path)
    mask = load_mask(sample, image.size) if sample.mask else None
    image.thumbnail((2 * SIDE, 2 * SIDE))
    ap = "" if math.isnan(row.pixel_ap) else f"  pixel AP {row.pixel_ap:.2f}"
    note = f"{sample.defect}  score {row.deploy_score:.3f} ± {row.uncertainty:.3f}{ap}"
    return Tile(image, np.asarray(scored.map), mask, sample.path.name, note)
