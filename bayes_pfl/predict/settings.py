"""What a run over a folder is asked for."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Literal, get_args

from bayes_pfl.detect.settings import ScoringSettings, check_whole
from bayes_pfl.errors import ConfigError
from bayes_pfl.fit.calibration import Calibration
from bayes_pfl.fit.decision import Decision, resolve_decision
from bayes_pfl.fit.profile import ProfileLike
from bayes_pfl.fit.profile_files import with_roi_of, with_settings_of
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.support.parsing import short

MapFormat = Literal["png16", "npy", "none"]
REGION_FORMATS = ("coco", "labelme", "masks")
Zoom = Literal["anomalous", "all", "none"]
MAP_SUFFIX = {"png16": ".png", "npy": ".npy"}


@dataclass(frozen=True, kw_only=True)
class FolderSettings(ScoringSettings):
    """How a folder is scored and what is written for each image; the run's summary keeps it.

    Attributes:
        threshold: scores of at least this get the label 1, others 0.
        map_threshold: of the map; outlined on the overlays.
        maps: anomaly maps at each image's own size; ``png16``: 0..65535 for 0..1; ``npy``: float32;
            or ``none``. None for the engine's default: png16, on Ray none.
        min_area: regions of fewer pixels are left out.
        formats: files of the regions for other tools: coco, labelme, masks.
        overlays: pictures with the heat map.
        overlay_uncertainty: overlays get a third panel, of the uncertainty.
        report: report.html, a page to look through.
        zoom: of which images the report gets a copy at full resolution: ``anomalous`` (those that
            reach the threshold, or score 0.5 or more), ``all`` or ``none``.
        class_name: what the run used, for its summary; filled in by the run.

    Raises:
        ConfigError: a value that cannot be used.
    """

    threshold: float | None = None
    map_threshold: float | None = None
    maps: MapFormat | None = None
    min_area: int = 1
    formats: tuple[str, ...] = ()
    overlays: bool = True
    overlay_uncertainty: bool = False
    report: bool = True
    zoom: Zoom = "anomalous"
    class_name: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.maps not in (None, *MAP_SUFFIX, "none"):
            raise ConfigError(f"maps = {self.maps!r}: use one of {', '.join(MAP_SUFFIX)}, none")
        if self.zoom not in get_args(Zoom):
            raise ConfigError(f"zoom = {short(self.zoom)}: use {', '.join(get_args(Zoom))}")
        check_whole("min_area", self.min_area, 1)
        for name in self.formats:
            if name not in REGION_FORMATS:
                raise ConfigError(f"formats = {short(name)}: use {', '.join(REGION_FORMATS)}")

    @property
    def map_suffix(self) -> str | None:
        """How the files of maps end; None if none are written."""
        return MAP_SUFFIX.get(self.maps or "none")

    def resolved(
        self,
        model: BayesPFLNetwork,
        class_name: object,
        calibration: Calibration | str | os.PathLike[str] | None,
        maps: MapFormat,
        profile: ProfileLike | None = None,
    ) -> tuple[FolderSettings, Decision]:
        """The settings with every default filled in, and what makes labels of scores.

        Args:
            maps: the engine's default.

        Raises:
            ConfigError: a calibration or profile that does not fit, or comes with a threshold;
                options for regions where no pixel threshold is known.
        """
        scoring = with_roi_of(profile, with_settings_of(profile, self))
        rule = resolve_decision(
            model,
            class_name,
            scoring,
            threshold=self.threshold,
            map_threshold=self.map_threshold,
            calibration=calibration,
            profile=profile,
        )
        self._refuse_without_regions(rule.map_threshold)
        settings = replace(
            scoring,
            class_name=str(class_name),
            samples=scoring.sample_count(model),
            threshold=rule.threshold,
            map_threshold=rule.map_threshold,
            maps=self.maps or maps,
        )
        return settings, rule

    def _refuse_without_regions(self, map_threshold: float | None) -> None:
        asked = [f"formats = {name}" for name in self.formats]
        asked += [f"min_area = {self.min_area}"] if self.min_area > 1 else []
        if asked and map_threshold is None:
            raise ConfigError(
                f"{', '.join(asked)}: there are no regions, because no pixel threshold is known; "
                "give map_threshold (--map-threshold), or a profile that has thresholds"
            )
