"""Whether an exported folder gives what PyTorch gives: on rendered pictures, before it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from bayes_pfl.detect.full_maps import resize_map
from bayes_pfl.detect.inputs import load_pixels
from bayes_pfl.detect.pictures import score_pictures
from bayes_pfl.detect.scorer import ScoredImage, Scorer
from bayes_pfl.errors import ConfigError
from bayes_pfl.export.standalone.detector import Detector
from bayes_pfl.rendering import TRAIN_CATEGORIES, render

TOLERANCE = 1e-4
"""Of scores and map values between PyTorch and an export in float32."""

_RENDERED = 3


class Agreement(NamedTuple):
    """The largest differences from PyTorch over some pictures.

    Attributes:
        score: of the score, its interval, its uncertainty and the two scores it is made of.
        map: of the map's pixels, at the size of the picture.
        pictures: how many were compared.
    """

    score: float
    map: float
    pictures: int


def check_agreement(
    detector: Detector,
    scorer: Scorer,
    class_name: str,
    own: Sequence[np.ndarray] = (),
    *,
    exact: bool = True,
) -> Agreement:
    """Compare an export with the scorer that it was made of.

    Args:
        own: reference pictures, uint8 (S, S, 3), which are compared with the others alone.
        exact: whether the export computes in float32.

    Raises:
        ConfigError: they differ by more than :data:`TOLERANCE`, or in less than float32 by what is
            no number.
    """
    found = compare(detector, scorer, class_name, [*_rendered(scorer), *map(Image.fromarray, own)])
    most = TOLERANCE if exact else 1.0
    if not (found.score <= most and found.map <= most):
        raise ConfigError(
            f"the export differs from PyTorch by {found.score:.2g} in scores and {found.map:.2g} "
            f"in maps, more than {most:g}; it was not kept"
        )
    return found


def compare(
    detector: Detector, scorer: Scorer, class_name: str, pictures: Sequence[Image.Image]
) -> Agreement:
    """The differences on these pictures, mode RGB."""
    side, tiles = scorer.model.backbone.image_size, scorer.settings.tiles(scorer.model)
    roi = scorer.settings.interest
    loaded = [load_pixels(one, at, side, tiles=tiles, roi=roi) for at, one in enumerate(pictures)]
    wanted = score_pictures(scorer, loaded, [class_name] * len(pictures))
    scores, maps = [0.0], [0.0]
    for want, (numbers, values), item in zip(wanted, detector.score(pictures), loaded, strict=True):
        assert want is not None and want.map is not None
        scores += [abs(numbers[name] - value) for name, value in _numbers(want).items()]
        maps.append(float(np.abs(values - resize_map(want.map, item.size, item.roi)).max()))
    # Unlike max(), this keeps a NaN.
    return Agreement(float(np.max(scores)), float(np.max(maps)), len(pictures))


def _numbers(scored: ScoredImage) -> dict[str, float]:
    figures = {**scored.figures, "low": scored.low, "high": scored.high}
    return {name: value for name, value in figures.items() if value is not None}


def _rendered(scorer: Scorer) -> list[Image.Image]:
    """Pictures of several things with faults; with tiles the first is large enough for them."""
    tile = scorer.settings.tile
    sizes = [256] * _RENDERED
    if isinstance(tile, int):
        sizes[0] = min(tile * 3 // 2, 4096)
    return [
        Image.fromarray(render(category, seed=0, index=at, size=size, defect="random").image)
        for at, (category, size) in enumerate(
            zip(list(TRAIN_CATEGORIES)[:_RENDERED], sizes, strict=True)
        )
    ]
