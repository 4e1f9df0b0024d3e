"""What a run over a folder found: counts, highest scores, failures, and how it was made."""

from __future__ import annotations

import heapq
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from bayes_pfl.errors import DataError
from bayes_pfl.fit.decision import Decision
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.predict.rows import Row
from bayes_pfl.predict.settings import FolderSettings
from bayes_pfl.support.environment import environment
from bayes_pfl.support.run_names import CSV_NAME

FAILURES_LISTED, HIGHEST_LISTED = 20, 5

_ENOUGH = 8  # images, to doubt that more than half of them are anomalous


@dataclass
class Counts:
    """What the rows of a run add up to; counts of its parts can be added.

    Attributes:
        anomalous, review: rows with the label 1, and to be reviewed.
        highest: titles (see `Row.title`) and scores of the five highest, highest first.
        failures: titles and reasons of the first twenty failures, by title.
        tiled: images that were looked at in tiles.
        tile_sides: of these tiles, in pixels, each once.
        wide, tall: images that are wider than tall, and taller than wide.
    """

    images: int = 0
    failed: int = 0
    anomalous: int = 0
    review: int = 0
    highest: list[tuple[str, float]] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    tiled: int = 0
    tile_sides: list[int] = field(default_factory=list)
    wide: int = 0
    tall: int = 0

    @classmethod
    def of(cls, row: Row) -> Counts:
        """The counts of one row."""
        width, height = row.width or 0, row.height or 0
        return cls(
            1,
            int(bool(row.error)),
            row.label or 0,
            row.needs_review or 0,
            [] if row.score is None else [(row.title, row.score)],
            [(row.title, row.error)] if row.error else [],
            int(row.tile is not None),
            [] if row.tile is None else [row.tile],
            int(width > height),
            int(height > width),
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Counts:
        """The counts that ``asdict`` gave these values of, perhaps through JSON."""
        pairs = {name: [tuple(x) for x in values[name]] for name in ("highest", "failures")}
        return cls(**{**values, **pairs})

    def add(self, other: Counts) -> None:
        """Add the counts of another row or part."""
        for name in ("images", "failed", "anomalous", "review", "tiled", "wide", "tall"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.tile_sides = sorted({*self.tile_sides, *other.tile_sides})
        if other.highest:
            both = [*self.highest, *other.highest]
            self.highest = heapq.nlargest(HIGHEST_LISTED, both, key=lambda entry: entry[1])
        if other.failures:
            both_failures = [*self.failures, *other.failures]
            self.failures = heapq.nsmallest(FAILURES_LISTED, both_failures)


@dataclass
class Summary:
    """What a run over a folder found; summary.json holds it.

    Attributes:
        images, succeeded, failed: counts; an image whose map could not be written has failed too.
        anomalous: scores that reached the threshold; None without one.
        review: images just below the threshold; None without a calibration.
        resumed: images that an earlier, stopped run had done.
        dropped: images that such a run had done and that are gone now: they have no row.
        seconds: from the first file to the last row, without loading the model; of a resumed run,
            since it was resumed. ``images_per_second`` counts what was done in that time.
        finished: date and time of its end, ISO 8601 with the local offset; empty in summaries of
            older versions.
        highest: titles and scores of the five most anomalous images, highest first: the path, and
            the page of a file of several.
        failures: titles and reasons of the first twenty failures.
        tiled, tile_sides: images that were looked at in tiles, and the sides of these.
        remarks: what else lies in the folder and is not read, and why images may not be like
            those of the profile, one line each.
        checkpoint: as it was named.
        settings: see :class:`FolderSettings`, with the number of samples resolved.
        model: the model's config.
        calibration: its rates, thresholds and number of images, without their scores; None if
            there was none.
        environment: versions and device.
        profile: its class name, number of pictures and folder; None if there was none.
        mutual: number and seed of the pictures of the folder that the others were compared with;
            None for a run that did not compare them: then no score depends on the folder.
    """

    folder: str
    out: str
    images: int
    succeeded: int = 0
    failed: int = 0
    anomalous: int | None = None
    review: int | None = None
    resumed: int = 0
    dropped: int = 0
    seconds: float = 0.0
    images_per_second: float = 0.0
    highest: list[tuple[str, float]] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    checkpoint: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    profile: dict[str, Any] | None = None
    mutual: dict[str, Any] | None = None
    tiled: int = 0
    tile_sides: list[int] = field(default_factory=list)
    finished: str = ""

    @classmethod
    def begun(
        cls,
        folder: str,
        out: str,
        images: int,
        checkpoint: str | None,
        model: BayesPFLNetwork,
        settings: FolderSettings,
        rule: Decision,
    ) -> Summary:
        """The summary of a run that begins: how it is made."""
        return cls(
            folder,
            out,
            images,
            checkpoint=checkpoint,
            settings=settings.as_dict(),
            model=asdict(model.config),
            calibration=rule.calibration.summary_dict() if rule.calibration else None,
            profile=rule.profile.summary_dict() if rule.profile else None,
        )

    def finish(self, counts: Counts, seconds: float, device: str) -> None:
        """Fill in what the rows of the run add up to; verdicts only where there is a threshold.

        Args:
            seconds: that the run took.
        """
        self.environment = environment(device)
        self.images, self.failed = counts.images, counts.failed
        self.succeeded = counts.images - counts.failed
        if self.settings.get("threshold") is not None:
            self.anomalous = counts.anomalous
        if self.calibration is not None:
            self.review = counts.review
        self.highest, self.failures = counts.highest, counts.failures
        self.tiled, self.tile_sides = counts.tiled, counts.tile_sides
        self.remarks = [*self.remarks, *self._doubts_of_roi(counts)]
        if self.profile is not None:
            self.remarks = [*self.remarks, *self._doubts()]
        self.seconds = round(seconds, 3)
        self.finished = datetime.now().astimezone().isoformat(timespec="seconds")
        self.images_per_second = round((self.images - self.resumed) / max(seconds, 1e-9), 3)

    def _doubts_of_roi(self, counts: Counts) -> list[str]:
        """Whether one region of interest lies on images that lie in different ways, in a line."""
        roi, few = self.settings.get("roi"), min(counts.wide, counts.tall)
        if not few or roi is None or roi["sha256"] is None:  # each has its own
            return []
        kinds = ["taller than wide", "wider than tall"]
        rare, usual = kinds if few == counts.tall else reversed(kinds)
        return [
            f"{few} of {self.images} images are {rare}, others are {usual}: one region of interest "
            "is stretched over both; turn the images, or give each its region (--roi FOLDER)"
        ]

    def _doubts(self) -> list[str]:
        """Why images may not be like those of the profile, one line each."""
        found = []
        small = self.succeeded - self.tiled
        if small and self.settings.get("tile") is not None:
            found.append(
                f"{small} of {self.images} images are no larger than a tile and were seen only as "
                "a whole: with a profile of larger ones their scores are too low; fit a profile of "
                "such images"
            )
        if (self.anomalous or 0) > self.succeeded / 2 and self.succeeded >= _ENOUGH:
            found.append(
                f"{self.anomalous} of {self.images} images are labelled anomalous: if that is not "
                "true, compare how they and the normal pictures were taken and saved (camera, "
                "light, size, JPEG quality)"
            )
        return found

    def as_json(self) -> str:
        """The text of summary.json: ASCII, so that bytes of a path that are not UTF-8 survive."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @property
    def predictions(self) -> Path:
        """The table."""
        return Path(self.out, CSV_NAME)


def read_summary(path: Path) -> Summary:
    """The summary of a finished run.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return Summary(**json.loads(path.read_text(encoding="ascii")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read ({error}); remove it and run again") from error
