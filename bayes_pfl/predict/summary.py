"""What a run over a folder found: counts, highest scores, failures, and how it was made."""

from __future__ import annotations

import heapq
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bayes_pfl.errors import DataError
from bayes_pfl.predict.files import Row
from bayes_pfl.support.run_names import CSV_NAME

_LISTED_FAILURES, _LISTED_HIGHEST = 20, 5


@dataclass
class Summary:
    """What a run over a folder found; summary.json holds it.

    Attributes:
        images, succeeded, failed: counts; an image whose map could not be written has failed too.
        anomalous: scores that reached the threshold; None without one.
        review: images whose credible interval straddles the threshold; None without one.
        resumed: images that an earlier, stopped run had done.
        dropped: images that such a run had done and that are gone now: they have no row.
        seconds: from the first file to the last row, without loading the model; of a resumed run,
            since it was resumed. ``images_per_second`` counts what was done in that time.
        highest: paths and scores of the five most anomalous images, highest first.
        failures: paths and reasons of the first twenty failures.
        checkpoint: as it was named.
        settings: see :class:`FolderSettings`, with the number of samples resolved.
        model: the model's config.
        calibration: its rates, thresholds and number of images, without their scores; None if
            there was none.
        environment: versions and device.
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
    checkpoint: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] | None = None
    environment: dict[str, Any] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Count one image."""
        if row.error:
            self.failed += 1
            if self.failed <= _LISTED_FAILURES:
                self.failures.append((row.path, row.error))
        else:
            self.succeeded += 1
        if row.score is not None:
            best = [*self.highest, (row.path, row.score)]
            self.highest = heapq.nlargest(_LISTED_HIGHEST, best, key=lambda entry: entry[1])
        if row.label is not None:
            self.anomalous = (self.anomalous or 0) + row.label
        if row.needs_review is not None:
            self.review = (self.review or 0) + row.needs_review

    @property
    def done(self) -> int:
        """Images that were scored and whose files were written: ``succeeded``."""
        return self.succeeded

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
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); remove it and run again") from error
