"""What is known of the images of a batch once they are scored, at either size.

Symbols: S the model's image side, H×W pixels of an image.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from bayes_pfl.detect.full_maps import resize_map
from bayes_pfl.detect.scorer import ScoredBatch, ScoredImage
from bayes_pfl.metrics.curves import Levels, average_precision
from bayes_pfl.model.scoring import deploy_scores, top_mean

_AP_STEPS = 1024
_ROWS = 512  # of a map, counted at once


class ScoresAndMaps(NamedTuple):
    """Scores of a batch.

    Attributes:
        values: of each image the columns of an :class:`ImageRow` from the text score to the
            uncertainty and, with references, the last three.
        maps: float32, as large as the masks.
        spreads: uncertainty maps, likewise; None if they were not asked for.
    """

    values: list[list[float]]
    maps: np.ndarray
    spreads: np.ndarray | None


def of_batch(scored: ScoredBatch, k: int, spread: bool) -> ScoresAndMaps:
    """Of images at the model's size.

    Args:
        k: highest pixels of the map that count in the top mean.
        spread: whether uncertainty maps are wanted.
    """
    found, top_means = deploy_scores(scored.words), top_mean(scored.words.map, k=k)
    both = scored.combined
    scores = both.deviations.scores() if both else found
    columns = [found.text_score, found.map_score, top_means, scores.uncertainty]
    columns += [scores.score, both.words_score, both.memory_score] if both else []
    values = torch.stack([column.float() for column in columns], dim=1).tolist()
    spreads = scored.spread.float().cpu().numpy() if spread else None
    return ScoresAndMaps(values, scored.maps.float().cpu().numpy(), spreads)


def of_picture(scored: ScoredImage, size: tuple[int, ...]) -> ScoresAndMaps:
    """Of one picture of (W, H) pixels, at its own size."""
    width, height = size
    values = [scored.text_score, scored.map_score, float("nan"), scored.uncertainty]
    if scored.words_score is not None and scored.memory_score is not None:
        values += [scored.score, scored.words_score, scored.memory_score]
    maps = [
        None if one is None else resize_map(one, (width, height))[None]  # (1, H, W)
        for one in (scored.map, scored.spread)
    ]
    assert maps[0] is not None  # a scorer of an evaluation has maps
    return ScoresAndMaps([values], maps[0], maps[1])


def image_pixel_ap(anomaly_map: np.ndarray, mask: np.ndarray) -> float:
    """Average precision of one image's pixels, its map (H, W) cut into 1024 equal steps.

    Good enough to rank images by, at a hundredth of the exact one's time. NaN for an empty mask.
    """
    if not mask.any():
        return float("nan")
    low, high = float(anomaly_map.min()), float(anomaly_map.max())
    scale = (_AP_STEPS - 1) / (high - low) if high > low else 0.0
    total, positive = np.zeros((2, _AP_STEPS), np.int64)
    for start in range(0, len(mask), _ROWS):
        rows = slice(start, start + _ROWS)
        steps = ((anomaly_map[rows] - low) * scale).astype(np.int32)
        total += np.bincount(steps.ravel(), minlength=_AP_STEPS)
        positive += np.bincount(steps[mask[rows]], minlength=_AP_STEPS)
    negative = total - positive
    return average_precision(Levels(np.arange(_AP_STEPS)[::-1], positive[::-1], negative[::-1]))
