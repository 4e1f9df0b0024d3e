"""The profile of a part: everything that a verdict on its pictures needs, but the checkpoint.

Symbols: n reference pictures, S image side.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from bayes_pfl.data.roi import Roi
from bayes_pfl.data.tiles import Tiling
from bayes_pfl.detect.name_sensitivity import NameEffect
from bayes_pfl.detect.references import References
from bayes_pfl.detect.settings import ScoringSettings
from bayes_pfl.errors import ConfigError
from bayes_pfl.fit.calibration import (
    CalibratedCheckpoint,
    CalibratedSettings,
    Calibration,
    check_fit,
)
from bayes_pfl.fit.conformal import images_needed
from bayes_pfl.fit.references import ReferenceOptions
from bayes_pfl.model.network import BayesPFLNetwork


@dataclass(frozen=True)
class ReferencePicture:
    """A normal picture of a profile.

    Attributes:
        name: as it was given.
        digest: see :func:`bayes_pfl.detect.references.picture_digest`; "" in a profile of words.
        score: by the words and the other references; None if it is the only one.
        words_score: by words alone.
        memory_score: distance to the others; None if it is the only one.
        size: (width, height) of the picture, or of the rectangle around its region of interest;
            None where it is not known.
        whole: with a region of interest, (width, height) of the whole picture; else None.
    """

    name: str
    digest: str
    score: float | None
    words_score: float
    memory_score: float | None
    size: tuple[int, int] | None = None
    whole: tuple[int, int] | None = None


@dataclass(frozen=True)
class Profile:
    """What :func:`bayes_pfl.fit.fit.fit_profile` found.

    Attributes:
        checkpoint, settings: that the scores belong to; another model or setting is refused.
        options: how the references were made.
        fpr, pixel_fpr: false positive rates asked for.
        pictures: the n references.
        references: None for a profile of words alone.
        calibration: thresholds and p-values; None where n is too small for the rates.
        pixels: the picture of a number, uint8 (S, S, 3); None for a profile of words alone.
        large: a smaller copy of the large picture of a number, the bytes of a WEBP file, to show
            what its tiles are; None for a profile without tiles.
        folder: where it was read from; None for one in memory.
        name_effect: what "object" in place of the class name changes on the normal pictures; None
            where it is the class name.
        roi: the region of interest of all pictures; None for whole pictures, or where each has its
            own (``settings.roi`` is then "folder").
    """

    checkpoint: CalibratedCheckpoint
    settings: CalibratedSettings
    options: ReferenceOptions
    fpr: float
    pixel_fpr: float
    pictures: tuple[ReferencePicture, ...]
    references: References | None = field(repr=False)
    calibration: Calibration | None
    pixels: Callable[[int], np.ndarray] | None = field(default=None, repr=False, compare=False)
    large: Callable[[int], bytes] | None = field(default=None, repr=False, compare=False)
    folder: str | None = None
    name_effect: NameEffect | None = None
    roi: Roi | None = None

    @property
    def class_name(self) -> str:
        """The word of the prompts."""
        return self.settings.class_name

    def tile(self, number: int, tile: int) -> Image.Image:
        """A tile of a reference picture, mode RGB, as large as the copy that is kept shows it.

        Raises:
            ConfigError: the copy is damaged, or shows no such tile.
        """
        size = self.pictures[number].size
        side, overlap = self.settings.tile, self.settings.overlap
        if self.large is None or size is None or side is None:
            raise no_pictures(self)
        try:
            with Image.open(io.BytesIO(self.large(number)), formats=["WEBP"]) as picture:
                left, top, _ = Tiling(side, overlap).tiles(size)[tile]
                scale = picture.width / size[0]
                corners = (left, top, min(left + side, size[0]), min(top + side, size[1]))
                crop = picture.convert("RGB").crop([round(scale * x) for x in corners])
        except (OSError, IndexError, ValueError) as error:
            where = f"{self.folder or 'the profile'}: picture {number}"
            raise ConfigError(f"{where} cannot be shown ({error}); fit it again") from error
        return crop

    def scoring(self) -> ScoringSettings:
        """The settings that its pictures were scored with."""
        known = self.settings
        return ScoringSettings(
            samples=known.samples,
            precision=known.precision,
            seed=known.seed,
            smoothing=known.smoothing,
            tile=known.tile,
            overlap=known.overlap,
            window=known.window,
            roi=self.roi,
        )

    @property
    def missing(self) -> int:
        """Further normal pictures that thresholds for the rates asked for need."""
        needed = max(images_needed(self.fpr), images_needed(self.pixel_fpr))
        return max(0, needed - len(self.pictures))

    def summary_dict(self) -> dict[str, Any]:
        """What summaries say of it."""
        return {
            "class_name": self.class_name,
            "pictures": len(self.pictures),
            "missing": self.missing,
            "sha256": self.sha256,
            "folder": self.folder,
            "roi": self.settings.roi,
            **asdict(self.options),
        }

    @property
    def sha256(self) -> str:
        """Hash of all that shapes a score and a verdict."""
        parts = {
            "checkpoint": self.checkpoint.sha256,
            "settings": asdict(self.settings),
            "options": asdict(self.options),
            "pictures": [asdict(picture) for picture in self.pictures],
            "calibration": asdict(self.calibration) if self.calibration else None,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def check(self, model: BayesPFLNetwork, settings: CalibratedSettings) -> None:
        """Refuse a run whose scores are not comparable.

        Raises:
            ConfigError: naming every setting that differs.
        """
        check_fit("profile", "fit it", self.checkpoint, self.settings, model, settings)
        known = model.backbone.layers
        layers = self.references.settings.layers if self.references else ()
        if not set(layers) <= set(known):
            raise ConfigError(
                f"the profile compares layers {list(layers)}, the backbone has {list(known)}: fit "
                "it again"
            )


ProfileLike = Profile | str | os.PathLike[str]


def whole_roi(settings: ScoringSettings) -> Roi | None:
    """The region that a profile keeps; None for whole pictures, or where each has its own."""
    return settings.roi if isinstance(settings.roi, Roi) else None


def no_pictures(profile: Profile) -> ConfigError:
    """The error for a profile of words alone where pictures are needed."""
    return ConfigError(
        f"{profile.folder or 'the profile'}: made from words alone, it keeps no pictures; fit it "
        "without --words-only"
    )
