"""From a score to a verdict: label, doubt, p-value."""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from bayes_pfl.data.roi import PictureRoi
from bayes_pfl.data.tiles import Tile
from bayes_pfl.detect.references import COMBINED_RANGE, Place, References
from bayes_pfl.detect.regions import Box, PValues, RegionRule
from bayes_pfl.detect.results import NearestNormal, cell_box
from bayes_pfl.detect.settings import ScoringSettings
from bayes_pfl.errors import ConfigError
from bayes_pfl.fit.calibration import Calibration, load_calibration, settings_of
from bayes_pfl.fit.conformal import p_values
from bayes_pfl.fit.profile import Profile, ProfileLike
from bayes_pfl.fit.profile_files import load_profile
from bayes_pfl.fit.review import needs_review
from bayes_pfl.model.network import BayesPFLNetwork

WORTH_A_LOOK = 0.5
"""Combined score from which a person is shown what of the references is nearest, even if no
threshold says so."""


def reaches(scores: float | np.ndarray, threshold: float) -> np.ndarray:
    """Whether scores are at or above a threshold: the one comparison behind labels and rates.

    Scores (any shape) are rounded to float32, as the model gives them; the threshold is not.
    """
    return np.asarray(np.asarray(scores, np.float32).astype(np.float64) >= threshold)


class Verdict(NamedTuple):
    """What a threshold and a calibration say about an image; None without them.

    Attributes:
        label: 1 if the score reached the threshold, else 0.
        needs_review: whether it did not, but nearly: :func:`bayes_pfl.fit.review.needs_review`.
        p_value: share of normal images that score as high, by the calibration.
    """

    label: int | None = None
    needs_review: bool | None = None
    p_value: float | None = None


class ReferencePictures(NamedTuple):
    """The pictures behind references, in their order.

    Attributes:
        names: of the pictures.
        pixels: the picture of a number, uint8 (S, S, 3).
        tile: the tile of a picture, by both numbers; None for references without tiles.
    """

    names: Sequence[str]
    pixels: Callable[[int], np.ndarray]
    tile: Callable[[int, int], Image.Image] | None = None


@dataclass(frozen=True)
class Decision:
    """Thresholds of a run, from the user or from a calibration, and what its images are compared
    with.

    Attributes:
        threshold: of the score.
        map_threshold: of the map; pixels at or above it belong to regions, and are outlined.
        region_threshold: of the map; regions whose peak is lower are left out. None for all, as
            where the user gave the map's threshold.
        profile: brings references, and perhaps the calibration.
        references: by class name, what images are compared with; empty for words alone.
        compared_with: what that is, in words; "" for words alone.
        pictures: by class name, the name of each reference picture, and its pixels by number.

    Raises:
        ConfigError: one that is not a finite number.
    """

    threshold: float | None = None
    map_threshold: float | None = None
    calibration: Calibration | None = None
    profile: Profile | None = None
    references: Mapping[str, References] = field(default_factory=dict)
    compared_with: str = ""
    pictures: Mapping[str, ReferencePictures] = field(default_factory=dict)
    region_threshold: float | None = None

    def __post_init__(self) -> None:
        for name in ("threshold", "map_threshold"):
            value = getattr(self, name)
            number = isinstance(value, numbers.Real) and not isinstance(value, bool)
            if value is not None and not (number and math.isfinite(value)):
                raise ConfigError(f"{name} = {value!r}: give a number; scores lie within 0 and 1")

    def region_rule(self, min_area: int) -> RegionRule | None:
        """What counts as a region of a map; None without a threshold of it."""
        if self.map_threshold is None:
            return None
        return RegionRule(self.map_threshold, min_area, self.peak_p_values, self.region_threshold)

    @property
    def peak_p_values(self) -> PValues | None:
        """From peaks of regions to p-values; None where no peaks of normal images are known."""
        return self.calibration.peak_p_values if self.calibration else None

    def map_range(self, model: BayesPFLNetwork) -> tuple[float, float]:
        """Map values at the two ends of the colours of a run."""
        return COMBINED_RANGE if self.references else model.config.scoring.map_range

    def verdict(self, score: float) -> Verdict:
        """Judge a score."""
        known = self.calibration
        return verdict_of(score, self.threshold, known.scores if known else None)


def verdict_of(
    score: float, threshold: float | None, normal_scores: Sequence[float] | None
) -> Verdict:
    """Judge a score by a threshold and, where they are known, by the scores of normal images.

    Args:
        normal_scores: in rising order.
    """
    if threshold is None:
        return Verdict()
    label = int(reaches(score, threshold))
    if not normal_scores:
        return Verdict(label)
    p_value = float(p_values(normal_scores, np.array([score]))[0])
    return Verdict(label, needs_review(label, p_value), p_value)


def resolve_decision(
    model: BayesPFLNetwork,
    class_name: object,
    settings: ScoringSettings,
    *,
    threshold: float | None = None,
    map_threshold: float | None = None,
    calibration: Calibration | str | os.PathLike[str] | None = None,
    profile: ProfileLike | None = None,
    generator: torch.Generator | None = None,
) -> Decision:
    """The decision of a run; a calibration or profile must fit its settings.

    Args:
        class_name: with a calibration or profile, one word for all images.

    Raises:
        ConfigError: a threshold that is no number; a calibration or profile that is unreadable,
            does not fit, or comes with a threshold or another of the two.
    """
    if profile is not None:
        if calibration is not None:
            raise ConfigError(
                "a calibration with a profile, which brings its own: give one of them"
            )
        return _by_profile(
            model, class_name, settings, threshold, map_threshold, profile, generator
        )
    if calibration is None:
        return Decision(threshold, map_threshold)
    if threshold is not None:
        raise ConfigError(
            f"threshold = {threshold} with a calibration, which brings its own: give one of them"
        )
    if generator is not None:
        raise ConfigError("generator with a calibration: its draws would differ; give the seed")
    if not isinstance(class_name, str):
        raise ConfigError("a calibration is for one class name: give one for all images")
    if not isinstance(calibration, Calibration):
        calibration = load_calibration(calibration)
    calibration.check(model, settings_of(model, class_name, settings))
    low, high = _of_map(calibration, map_threshold)
    return Decision(calibration.threshold, low, calibration, region_threshold=high)


def _by_profile(
    model: BayesPFLNetwork,
    class_name: object,
    settings: ScoringSettings,
    threshold: float | None,
    map_threshold: float | None,
    profile: ProfileLike,
    generator: torch.Generator | None,
) -> Decision:
    if generator is not None:
        raise ConfigError("generator with a profile: its draws would differ; give the seed")
    found = profile if isinstance(profile, Profile) else load_profile(profile)
    if class_name != found.class_name:
        raise ConfigError(
            f"class name {class_name!r} with a profile for {found.class_name!r}: leave the name out"
        )
    found.check(model, settings_of(model, found.class_name, settings))
    known = found.calibration
    references, compared, pictures = {}, "", {}
    if found.references and found.pixels:
        names = [picture.name for picture in found.pictures]
        tile = found.tile if found.references.tiles else None
        pictures[found.class_name] = ReferencePictures(names, found.pixels, tile)
        references[found.class_name] = found.references
        compared = f"profile of {len(found.pictures)} pictures"
    if known is None:
        return Decision(threshold, map_threshold, None, found, references, compared, pictures)
    if threshold is not None:
        raise ConfigError(
            f"threshold = {threshold} with a profile, which brings its own: leave one of them out"
        )
    low, high = _of_map(known, map_threshold)
    return Decision(known.threshold, low, known, found, references, compared, pictures, high)


def _of_map(known: Calibration, map_threshold: float | None) -> tuple[float, float | None]:
    """Thresholds of the map and of regions: the calibration's; or the user's, and all regions."""
    if map_threshold is not None:
        return map_threshold, None
    return known.pixel_threshold, known.region_threshold


def worth_a_look(score: float, label: int | None) -> bool:
    """Whether a person should be shown the strongest regions and the nearest normal place."""
    return bool(label) or score >= WORTH_A_LOOK


def nearest_normal(
    rule: Decision,
    class_name: str,
    place: Place | None,
    size: tuple[int, int],
    roi: PictureRoi | None = None,
) -> NearestNormal | None:
    """What the reference pictures show that is most like the most anomalous patch of an image.

    Args:
        place: of the image, from its scores.
        size: (width, height) of the image.
        roi: its region of interest, within whose rectangle the place lies.

    Raises:
        ConfigError: the profile's picture cannot be read any more.
    """
    known = rule.pictures.get(class_name)
    if place is None or known is None:
        return None
    grid, size = rule.references[class_name].settings.grid, roi.crop_size if roi else size
    view, cell = divmod(place.reference_cell, grid[0] * grid[1])
    if place.tile is None or known.tile is None:
        picture = Image.fromarray(known.pixels(place.picture))
        box = cell_box(place.cell, grid, size)
    else:
        picture = known.tile(place.picture, view)
        box = _box_in_tile(place.tile, place.cell, grid, size)
    left, top = roi.box[:2] if roi else (0, 0)
    return NearestNormal(
        known.names[place.picture],
        place.distance,
        Box(box.left + left, box.top + top, box.right + left, box.bottom + top),
        cell_box(cell, grid, picture.size),
        picture,
    )


def _box_in_tile(tile: Tile, cell: int, grid: tuple[int, int], size: tuple[int, int]) -> Box:
    """The rectangle of a tile's cell in the picture, of (width, height) pixels."""
    box = cell_box(cell, grid, (tile.side, tile.side))
    return Box(
        min(tile.left + box.left, size[0] - 1),
        min(tile.top + box.top, size[1] - 1),
        min(tile.left + box.right, size[0]),
        min(tile.top + box.bottom, size[1]),
    )
