"""What scores the pictures of the service: a checkpoint or profile by PyTorch, or an export.

Both give what `bayes-pfl predict` gives, as :class:`bayes_pfl.detect.results.AnomalyResult`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from bayes_pfl.data.decoding import PICTURES_AT_ONCE
from bayes_pfl.data.dicom import Window
from bayes_pfl.detect.class_names import check_class_name
from bayes_pfl.detect.inputs import Loaded
from bayes_pfl.detect.results import AnomalyResult
from bayes_pfl.detect.scorer import ScoredImage
from bayes_pfl.detect.settings import ScoringSettings
from bayes_pfl.errors import ConfigError
from bayes_pfl.export.standalone.detector import Detector, Refused
from bayes_pfl.fit.conformal import p_values
from bayes_pfl.fit.decision import Decision, verdict_of
from bayes_pfl.fit.profile import Profile
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.predict.images import Predictor

_WARM_SIDE = 64


class ServedDetector(Protocol):
    """A detector of one class name.

    Attributes:
        window: of DICOM values; None for the files' own.
        at_once: pictures that are scored together at most; None for any number.
    """

    class_name: str
    rule: Decision
    window: Window | None
    at_once: int | None

    def load(self, picture: Image.Image) -> Any:
        """A picture, mode RGB, ready to be scored; called by several threads."""

    def score(self, loaded: Sequence[Any]) -> list[Any]:
        """The scores of several pictures; called by one thread alone."""

    def result(self, loaded: Any, scored: Any) -> AnomalyResult:
        """What the user gets of a picture; called by several threads."""


@dataclass
class ServedModel:
    """A checkpoint, perhaps with a profile."""

    predictor: Predictor
    class_name: str

    def __post_init__(self) -> None:
        self.rule, self.window = self.predictor.rule, self.predictor.scorer.settings.window
        self.at_once = PICTURES_AT_ONCE if self.predictor.tiles else None

    @classmethod
    def of(
        cls,
        model: BayesPFLNetwork,
        class_name: str,
        settings: ScoringSettings,
        *,
        profile: Profile | None = None,
        threshold: float | None = None,
        map_threshold: float | None = None,
        min_area: int = 1,
    ) -> ServedModel:
        """The detector of a run with these settings.

        Raises:
            ConfigError: they do not fit the profile.
            DataError: an unusable class name.
        """
        check_class_name(model, class_name)
        predictor = Predictor.of(
            model,
            class_name,
            settings,
            threshold=threshold,
            map_threshold=map_threshold,
            profile=profile,
            uncertainty=False,
            min_area=min_area,
        )
        return cls(predictor, class_name)

    def load(self, picture: Image.Image) -> Loaded:
        """Resized, and cut into tiles where the profile says so; the picture itself is let go."""
        return replace(self.predictor.load(picture), image=None)

    def score(self, loaded: Sequence[Loaded]) -> list[ScoredImage | None]:
        """By the one scoring path of all jobs."""
        return self.predictor.score(loaded, [self.class_name] * len(loaded))

    def result(self, loaded: Loaded, scored: ScoredImage) -> AnomalyResult:
        """With the verdict of the profile's thresholds."""
        return self.predictor.result(loaded, self.class_name, scored)


class ServedExport:
    """The folder of an export, and nothing besides.

    Args:
        map_threshold: in place of the export's.
        threads: that compute.

    Raises:
        ConfigError: it is none, was changed, or its runtime is not installed.
    """

    at_once: int | None = None

    def __init__(
        self,
        folder: Path,
        *,
        batch_size: int,
        threads: int = 0,
        map_threshold: float | None = None,
        min_area: int = 1,
    ) -> None:
        try:
            self.detector = Detector(folder, threads)
        except Refused as error:
            raise ConfigError(str(error)) from error
        except ImportError as error:
            raise ConfigError(
                f"{error.name} is not installed; run: pip install 'bayes-pfl[export]'"
            ) from error
        known = self.detector.manifest
        self.class_name: str = known["class_name"]
        self.batch_size, self.min_area = batch_size, min_area
        window = known["settings"].get("window")
        self.window: Window | None = None if window is None else (window[0], window[1])
        own = map_threshold is None
        self.rule = Decision(
            known["threshold"],
            known["map_threshold"] if own else map_threshold,
            compared_with=known["compared_with"],
            region_threshold=known.get("region_threshold") if own else None,
        )
        self.scores, self.peaks = known["normal_scores"], known.get("normal_peaks")

    def load(self, picture: Image.Image) -> Image.Image:
        """As it is: the program of the export resizes it."""
        return picture

    def score(self, loaded: Sequence[Image.Image]) -> list[tuple[dict[str, Any], np.ndarray]]:
        """The numbers of each picture, and its map, float32 (H, W)."""
        return self.detector.score(loaded, self.batch_size)

    def result(
        self, loaded: Image.Image, scored: tuple[dict[str, Any], np.ndarray]
    ) -> AnomalyResult:
        """With the verdict of the export's thresholds."""
        numbers, values = scored
        names = ("score", "text_score", "map_score", "uncertainty", "words_score", "memory_score")
        verdict = verdict_of(numbers["score"], self.rule.threshold, self.scores)
        return AnomalyResult(
            **{name: numbers.get(name) for name in names},  # type: ignore[arg-type]
            **verdict._asdict(),
            interval=(numbers["low"], numbers["high"]),
            anomaly_map=values,
            uncertainty_map=None,
            class_name=self.class_name,
            size=loaded.size,
            map_threshold=self.rule.map_threshold,
            region_threshold=self.rule.region_threshold,
            min_area=self.min_area,
            peak_p_values=partial(p_values, self.peaks) if self.peaks else None,
        )


def warm_up(detector: ServedDetector) -> None:
    """Score a grey picture: the first request need not wait, and faults show at the start."""
    grey = detector.load(Image.new("RGB", (_WARM_SIDE, _WARM_SIDE), "grey"))
    detector.result(grey, detector.score([grey])[0])
