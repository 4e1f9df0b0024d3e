"""From a score to a verdict: label, doubt, p-value."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from bayes_pfl.detect.settings import ScoringSettings
from bayes_pfl.errors import ConfigError
from bayes_pfl.fit.calibration import Calibration, load_calibration, settings_of
from bayes_pfl.model.network import BayesPFLNetwork


def reaches(scores: float | np.ndarray, threshold: float) -> np.ndarray:
    """Whether scores are at or above a threshold: the one comparison behind labels and rates.

    Scores (any shape) are rounded to float32, as the model gives them; the threshold is not.
    """
    return np.asarray(np.asarray(scores, np.float32).astype(np.float64) >= threshold)


class Verdict(NamedTuple):
    """What a threshold and a calibration say about an image; None without them.

    Attributes:
        label: 1 if the score reached the threshold, else 0.
        needs_review: whether the credible interval straddles the threshold: low < threshold and
            threshold <= high. The prompt pairs, asked one by one, do not agree on the label then.
        p_value: share of normal images that score as high, by the calibration.
    """

    label: int | None = None
    needs_review: bool | None = None
    p_value: float | None = None


@dataclass(frozen=True)
class Decision:
    """Thresholds of a run, from the user or from a calibration.

    Attributes:
        threshold: of the score.
        map_threshold: of the map, to be outlined.

    Raises:
        ConfigError: one that is not a finite number.
    """

    threshold: float | None = None
    map_threshold: float | None = None
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        for name in ("threshold", "map_threshold"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise ConfigError(f"{name} = {value}: give a number; scores lie within 0 and 1")

    def verdict(self, score: float, low: float, high: float) -> Verdict:
        """Judge a score with its credible interval."""
        if self.threshold is None:
            return Verdict()
        return Verdict(
            int(reaches(score, self.threshold)),
            bool(reaches(high, self.threshold) and not reaches(low, self.threshold)),
            self.calibration.p_value(score) if self.calibration else None,
        )


def resolve_decision(
    model: BayesPFLNetwork,
    class_name: object,
    settings: ScoringSettings,
    *,
    threshold: float | None = None,
    map_threshold: float | None = None,
    calibration: Calibration | str | os.PathLike[str] | None = None,
    generator: torch.Generator | None = None,
) -> Decision:
    """The decision of a run; a calibration must fit its settings.

    Args:
        class_name: with a calibration, one word for all images.

    Raises:
        ConfigError: a threshold that is no number; a calibration that is unreadable, does not fit,
            or comes with a threshold.
    """
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
    limit = calibration.pixel_threshold if map_threshold is None else map_threshold
    return Decision(calibration.threshold, limit, calibration)
