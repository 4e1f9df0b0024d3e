"""Images from files or memory through the model: what `BayesPFL.predict` does.

Symbols: B images, S model's image side, H×W pixels of an image.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat, zip_longest
from operator import length_hint
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bayes_pfl.data.decoding import PICTURES_AT_ONCE
from bayes_pfl.data.tiles import TileSettings
from bayes_pfl.detect.class_names import check_class_name
from bayes_pfl.detect.full_maps import resize_map
from bayes_pfl.detect.inputs import ImageLike, Loaded, batched, load_pixels
from bayes_pfl.detect.pictures import score_pictures
from bayes_pfl.detect.results import AnomalyResult
from bayes_pfl.detect.scorer import ScoredImage, Scorer
from bayes_pfl.detect.settings import ScoringSettings, check_whole
from bayes_pfl.errors import ConfigError
from bayes_pfl.fit.calibration import Calibration
from bayes_pfl.fit.decision import Decision, nearest_normal, resolve_decision
from bayes_pfl.fit.profile import ProfileLike
from bayes_pfl.fit.profile_files import known_profile, with_roi_of, with_settings_of
from bayes_pfl.model.network import BayesPFLNetwork

_DEFAULTS = ScoringSettings()


def predict_stream(
    model: BayesPFLNetwork,
    images: Iterable[ImageLike],
    class_name: str | Iterable[str] | None,
    settings: ScoringSettings = _DEFAULTS,
    *,
    generator: torch.Generator | None = None,
    threshold: float | None = None,
    calibration: Calibration | str | os.PathLike[str] | None = None,
    profile: ProfileLike | None = None,
    uncertainty: bool = True,
    min_area: int = 1,
) -> Iterator[AnomalyResult]:
    """Detect anomalies in images of any sizes, one after the other; see :meth:`BayesPFL.predict`.

    Settings are checked at once, images when their turn comes; one batch is held at a time.

    Raises:
        ConfigError: a setting that cannot be used, or names and images that differ in number.
        DataError: an image that cannot be read (the message names it), or an unusable class name.
    """
    check_whole("min_area", min_area, 1)
    profile, its_name = known_profile(profile)
    name = its_name if class_name is None else class_name
    if isinstance(name, str):
        check_class_name(model, name)
    elif len({length_hint(items, -1) for items in (images, name)} - {-1}) > 1:
        raise _unequal()
    predictor = Predictor.of(
        model,
        name,
        settings,
        generator=generator,
        threshold=threshold,
        calibration=calibration,
        profile=profile,
        uncertainty=uncertainty,
        min_area=min_area,
    )
    return _stream(predictor, _named(images, name))


@dataclass(frozen=True)
class Predictor:
    """A model with all that is decided before the first picture; pictures become results.

    Attributes:
        rule: makes verdicts of scores.
        min_area: regions of fewer pixels are left out.
    """

    scorer: Scorer
    rule: Decision
    min_area: int = 1

    @classmethod
    def of(
        cls,
        model: BayesPFLNetwork,
        class_name: object,
        settings: ScoringSettings,
        *,
        generator: torch.Generator | None = None,
        threshold: float | None = None,
        map_threshold: float | None = None,
        calibration: Calibration | str | os.PathLike[str] | None = None,
        profile: ProfileLike | None = None,
        uncertainty: bool = True,
        min_area: int = 1,
    ) -> Predictor:
        """The predictor of a run; see :func:`predict_stream`.

        Raises:
            ConfigError: a setting that cannot be used, or does not fit the profile.
        """
        settings = with_roi_of(profile, with_settings_of(profile, settings))
        rule = resolve_decision(
            model,
            class_name,
            settings,
            threshold=threshold,
            map_threshold=map_threshold,
            calibration=calibration,
            profile=profile,
            generator=generator,
        )
        scorer = Scorer(
            model,
            settings,
            generator=generator,
            spread=uncertainty,
            references=rule.references,
        )
        return cls(scorer, rule, min_area)

    @property
    def tiles(self) -> TileSettings | None:
        """How large pictures are cut; None if they are not."""
        return self.scorer.settings.tiles(self.scorer.model)

    def load(self, image: ImageLike, index: int = 0) -> Loaded:
        """An image, ready for the model; see :func:`bayes_pfl.detect.inputs.load_pixels`."""
        settings, side = self.scorer.settings, self.scorer.model.backbone.image_size
        return load_pixels(image, index, side, settings.window, self.tiles, settings.interest)

    def score(
        self, items: Sequence[Loaded], class_names: Sequence[str]
    ) -> list[ScoredImage | None]:
        """Scores of several images together."""
        return score_pictures(self.scorer, items, class_names)

    def result(self, item: Loaded, class_name: str, scores: ScoredImage) -> AnomalyResult:
        """What the user gets of an image.

        Raises:
            ConfigError: a score that is not finite.
        """
        if not scores.finite:
            raise ConfigError(
                f"the score of {item.path or 'an image'} is not finite: the precision overflowed; "
                "use bfloat16 or float32"
            )
        spread, roi, rule = scores.spread, item.roi, self.rule
        return AnomalyResult(
            **scores.figures,
            **rule.verdict(scores.score)._asdict(),
            interval=(scores.low, scores.high),
            anomaly_map=resize_map(scores.map, item.size, roi),  # type: ignore[arg-type]
            uncertainty_map=None if spread is None else resize_map(spread, item.size, roi),
            class_name=class_name,
            size=item.size,
            path=item.path,
            image=item.image,
            map_range=rule.map_range(self.scorer.model),
            map_threshold=rule.map_threshold,
            region_threshold=rule.region_threshold,
            nearest_normal=nearest_normal(rule, class_name, scores.place, item.size, roi),
            window=self.scorer.settings.window,
            min_area=self.min_area,
            peak_p_values=rule.peak_p_values,
            roi=roi,
        )


def _stream(
    predictor: Predictor, named: Iterator[tuple[ImageLike, str]]
) -> Iterator[AnomalyResult]:
    loaded = ((predictor.load(image, at), name) for at, (image, name) in enumerate(named))
    size = predictor.scorer.settings.batch_size
    for batch in batched(loaded, min(size, PICTURES_AT_ONCE) if predictor.tiles else size):
        found = predictor.score([item for item, _ in batch], [name for _, name in batch])
        for (item, name), scores in zip(batch, found, strict=True):
            if scores is not None:
                yield predictor.result(item, name, scores)


def is_single(images: Any) -> bool:
    """Whether this is one image, rather than several."""
    if isinstance(images, np.ndarray | Tensor):
        return images.ndim != 4
    # What is neither an image nor iterable is refused with the images' own message.
    known = isinstance(images, str | bytes | os.PathLike | Image.Image)
    return known or not isinstance(images, Iterable)


def _named(
    images: Iterable[ImageLike], class_name: str | Iterable[str]
) -> Iterator[tuple[ImageLike, str]]:
    if isinstance(class_name, str):
        yield from zip(images, repeat(class_name))  # noqa: B905  (the name never ends)
        return
    missing: Any = object()
    for image, name in zip_longest(images, class_name, fillvalue=missing):
        if image is missing or name is missing:
            raise _unequal()
        if not isinstance(name, str):
            raise ConfigError(f"class name {name!r} is not a word; give strings")
        yield image, name  # type: ignore[misc]


def _unequal() -> ConfigError:
    return ConfigError(
        "images and class names differ in number; give one name for all, or one for each image"
    )
