"""What an evaluation is asked for, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bayes_pfl.data.records import Sample
from bayes_pfl.errors import ConfigError
from bayes_pfl.evaluate.datasets import EvaluationData
from bayes_pfl.evaluate.published import Published
from bayes_pfl.evaluate.records import Protocol, Skipped
from bayes_pfl.evaluate.reference_draw import MUTUAL, PROFILE, Method
from bayes_pfl.evaluate.scoring import EvaluationSettings
from bayes_pfl.fit.calibration import Calibration
from bayes_pfl.fit.profile import Profile
from bayes_pfl.fit.profile_files import with_settings_of


@dataclass(frozen=True)
class EvaluationRequest:
    """What the user asked for; see ``bayes-pfl evaluate --help``.

    Attributes:
        checkpoints: evaluated one after the other; only one model is in memory at a time.
        protocols: "deploy", "authors" or both; the files of the first have the plain names.
        seeds: of the random draws; figures are means over them, with their standard deviation.
        cache: folder for the scores, so that a stopped run can be resumed; None for no cache.
        include_trained: count categories that a checkpoint was trained on in its means.
        resume: refuse to continue where checkpoints, settings or images have changed.
        curves, sheets: whether to draw curves and contact sheets.
        calibration: its threshold is tried on the category of its class name.
        report: whether to write report.html, with pictures of up to 5,000 images.
        skipped: datasets that could not be read; listed with the images that cannot be read.
        shots: numbers of normal pictures that images are compared with, each a method of its own; 0
            for words alone.
        mutual: also compare the test images of each category with each other.
        profile: also compare with its normal pictures, in the categories of its class name; its
            threshold, if it has one, is tried there.

    Raises:
        ConfigError: references with a calibration, or with the protocol `authors`; tiles with that
            protocol or with ``mutual``.
    """

    checkpoints: tuple[str, ...]
    data: tuple[EvaluationData, ...]
    out: Path
    protocols: tuple[Protocol, ...] = ("deploy",)
    settings: EvaluationSettings = EvaluationSettings(skip_unreadable=True)
    seeds: tuple[int, ...] = (0,)
    published: Published | None = None
    curves: bool = False
    sheets: bool = False
    cache: Path | None = None
    report: bool = False
    skipped: tuple[Skipped, ...] = ()
    calibration: Calibration | None = None
    include_trained: bool = False
    resume: bool = False
    shots: tuple[int, ...] = ()
    mutual: bool = False
    profile: Profile | None = None

    def __post_init__(self) -> None:
        if self.references and "authors" in self.protocols:
            raise ConfigError(
                "--shots, --mutual and --profile with the protocol authors, which scores by words "
                "alone: use --protocol deploy"
            )
        if self.references and self.calibration:
            raise ConfigError(
                "--calibration is for scores by words alone: leave it out, or leave out --shots, "
                "--mutual and --profile"
            )
        if self.settings.tile is not None:
            self._check_tiles()

    def _check_tiles(self) -> None:
        if "authors" in self.protocols:
            raise ConfigError(
                "--tile with the protocol authors, whose maps and masks are of the model's size: "
                "use --protocol deploy, or leave --tile out"
            )

    @property
    def methods(self) -> tuple[Method, ...]:
        """What images are compared with, in the order of the tables."""
        found: list[Method] = [*self.shots]
        found += [MUTUAL] if self.mutual else []
        found += [PROFILE] if self.profile else []
        return tuple(found) or (0,)

    def threshold(self, method: Method) -> Calibration | None:
        """The threshold that is tried on the scores of a method."""
        if method == PROFILE and self.profile:
            return self.profile.calibration
        return self.calibration

    @property
    def references(self) -> bool:
        """Whether any method has references."""
        return self.methods != (0,)

    @property
    def images(self) -> int:
        """Number of images in all datasets."""
        return sum(len(data.samples) for data in self.data)

    def with_its_tiles(self) -> EvaluationRequest:
        """With the tiles of its profile, where the settings do not say how large tiles are.

        Raises:
            ConfigError: tiles are asked for, and the profile has none.
        """
        settings = with_settings_of(self.profile, self.settings)
        if self.settings.tile is not None and settings.tile is None:
            raise ConfigError(
                "--tile auto with a profile that was made without tiles: fit it with --tile, or "
                "leave --tile out"
            )
        return replace(self, settings=settings)

    def for_its_protocol(self) -> EvaluationRequest:
        """With the authors' words and masks, where their protocol is the only one."""
        if self.protocols != ("authors",):
            return self

        def as_published(sample: Sample) -> Sample:
            return replace(sample, class_name=sample.authors_word or sample.class_name)

        data = tuple(replace(d, samples=tuple(map(as_published, d.samples))) for d in self.data)
        return replace(self, data=data, settings=replace(self.settings, smooth_masks=True))

    def suffix(self, protocol: Protocol) -> str:
        """End of the names of a protocol's files: nothing for the first one, else "_authors"."""
        return "" if protocol == self.protocols[0] else f"_{protocol}"


@dataclass
class EvaluationOutcome:
    """What an evaluation found; empty in all processes of ``torchrun`` but the first.

    Attributes:
        reports: metrics.json by protocol and checkpoint (its short name).
        tables: table.md by protocol: the paper's tables, then every category.
        summaries: the paper's tables alone, by protocol.
        skipped: images and datasets that could not be read.
        shots: shots.md, where shots were asked for.
        pages: report.html of each checkpoint and method, where pages were asked for.
    """

    reports: dict[Protocol, dict[str, Any]] = field(default_factory=dict)
    tables: dict[Protocol, str] = field(default_factory=dict)
    summaries: dict[Protocol, str] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    shots: str = ""
    pages: list[Path] = field(default_factory=list)
