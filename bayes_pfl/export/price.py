"""What an export in less than float32 costs: AUROC on rendered pictures, before and after."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from bayes_pfl.detect.full_maps import resize_map
from bayes_pfl.detect.inputs import batched, load_pixels
from bayes_pfl.detect.pictures import score_pictures
from bayes_pfl.detect.scorer import Scorer
from bayes_pfl.errors import ConfigError
from bayes_pfl.export.standalone.detector import Detector
from bayes_pfl.metrics import image_metrics, pixel_metrics
from bayes_pfl.rendering import TEST_CATEGORIES, render

_CATEGORIES, _PICTURES = 3, 20
_AT_ONCE = 10

DEFAULT_DROP = 2.0
"""Points of AUROC that an export may cost without being asked."""


class Price(NamedTuple):
    """AUROC of images and of pixels, in percent, as PyTorch in float32 and as the export gives it.

    Means over held-out rendered categories, half the pictures of each with a fault. With
    references, images are ranked by their words: no rendered picture is one of the thing.
    """

    image_before: float
    image: float
    pixel_before: float
    pixel: float
    pictures: int

    @property
    def drop(self) -> float:
        """Points that the worse of the two falls by; NaN where one is undefined."""
        return float(np.max([self.image_before - self.image, self.pixel_before - self.pixel]))


def checked_price(
    detector: Detector, scorer: Scorer, class_name: str, most: float = DEFAULT_DROP
) -> Price:
    """Compare an export with the scorer that it was made of.

    Args:
        most: points of AUROC that it may cost.

    Raises:
        ConfigError: it costs more.
    """
    price = measure_price(detector, scorer, class_name)
    check_price(price, most)
    return price


def measure_price(detector: Detector, scorer: Scorer, class_name: str) -> Price:
    """See :func:`checked_price`."""
    found = [
        _of_category(detector, scorer, class_name, category)
        for category in list(TEST_CATEGORIES)[:_CATEGORIES]
    ]
    image_before, image, pixel_before, pixel = (100 * np.mean(found, axis=0)).tolist()
    return Price(image_before, image, pixel_before, pixel, _CATEGORIES * _PICTURES)


def check_price(price: Price, most: float = DEFAULT_DROP) -> None:
    """Refuse an export that costs more points of AUROC than these, or an unknown number."""
    if not price.drop <= most:
        raise ConfigError(
            f"image AUROC on {price.pictures} rendered pictures {price.image_before:.1f} -> "
            f"{price.image:.1f}, pixel AUROC {price.pixel_before:.1f} -> {price.pixel:.1f}: it "
            f"falls by more than {most:g} points; it was not kept; calibrate on more pictures, "
            f"take float32, or accept it with --accept-drop"
        )


def _of_category(
    detector: Detector, scorer: Scorer, class_name: str, category: str
) -> tuple[float, float, float, float]:
    """In the order of :class:`Price`, as shares."""
    settings, side = scorer.settings, scorer.model.backbone.image_size
    by = "words_score" if scorer.references else "score"
    before, after, masks = _Found([], []), _Found([], []), []
    for batch in batched(_pictures(category, side), _AT_ONCE):
        pictures = [picture for picture, _ in batch]
        loaded = [
            load_pixels(one, at, side, None, settings.tiles(scorer.model), settings.interest)
            for at, one in enumerate(pictures)
        ]
        known = score_pictures(scorer, loaded, [class_name] * len(loaded))
        given = detector.score(pictures)
        for item, one, (numbers, values), (_, mask) in zip(
            loaded, known, given, batch, strict=True
        ):
            assert one is not None and one.map is not None
            before.add(one.figures[by], resize_map(one.map, item.size, item.roi))
            after.add(numbers[by], values)
            masks.append(mask & item.roi.whole(item.size) if item.roi else mask)
    truth = np.stack(masks)
    (image_before, pixel_before), (image, pixel) = (x.auroc(truth) for x in (before, after))
    return image_before, image, pixel_before, pixel


class _Found(NamedTuple):
    """What one of the two gives the pictures of a category."""

    scores: list[float]
    maps: list[np.ndarray]

    def add(self, score: float, values: np.ndarray) -> None:
        self.scores.append(score)
        self.maps.append(values)

    def auroc(self, masks: np.ndarray) -> tuple[float, float]:
        """Of images and of pixels; masks bool (n, H, W)."""
        images = image_metrics(np.array(self.scores), masks.any((1, 2)))["auroc"]
        pixels = pixel_metrics(np.stack(self.maps), masks)["auroc"]
        return (np.nan if images is None else images, np.nan if pixels is None else pixels)


def _pictures(category: str, side: int) -> Iterator[tuple[Image.Image, np.ndarray]]:
    """Pictures and masks, bool (S, S), every second with a fault."""
    for at in range(_PICTURES):
        one = render(category, 0, at, size=side, defect="random" if at % 2 else None)
        yield Image.fromarray(one.image), np.asarray(one.mask, bool)
