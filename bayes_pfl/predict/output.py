"""The folder that a prediction writes into: what lies there, what is written, what goes."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

from bayes_pfl.data.decoding import Decoded
from bayes_pfl.detect.overlays import MAX_SIDE
from bayes_pfl.detect.scorer import ScoredImage
from bayes_pfl.predict.files import Pictures, Row
from bayes_pfl.predict.settings import FolderSettings
from bayes_pfl.predict.summary import Summary
from bayes_pfl.report.html import NAME as REPORT_NAME
from bayes_pfl.report.pictures import FOLDER as REPORT
from bayes_pfl.report.pictures import ReportPictures, picture_name
from bayes_pfl.support.files import not_writable, remove_leftovers, write_atomically
from bayes_pfl.support.run_names import CSV_NAME, MAPS, OVERLAYS, SUMMARY_NAME


class OutputFolder:
    """Pictures and tables of one run.

    Args:
        colours: map values at the two ends of the overlays' colours.
        count: images of the run.
    """

    def __init__(
        self, out: Path, settings: FolderSettings, colours: tuple[float, float], count: int
    ) -> None:
        self.out, self.settings = out, settings
        limit, doubt = settings.map_threshold, settings.draws_uncertainty
        self.pictures = Pictures(
            out, settings.maps or "none", settings.overlays, limit, colours, doubt
        )
        self.small = ReportPictures(out, colours, count)

    @property
    def preview_side(self) -> int:
        """Longest side of the pictures that are drawn on; 0 if none are."""
        if self.settings.overlays:
            return MAX_SIDE
        return self.small.side if self.settings.report else 0

    def begin(self) -> None:
        """Take away what an earlier run has written, but for pictures that are replaced.

        Raises:
            ConfigError: it cannot be.
        """
        self._remove_leftovers()
        self.remove_tables()
        if self.settings.report:
            self.small.prepare()

    def continue_(self) -> None:
        """Take away what a killed run has left half-written."""
        self._remove_leftovers()
        if self.settings.report and not self.small.folder.is_dir():
            self.small.prepare()

    def _remove_leftovers(self) -> None:
        # The folder itself may be that of the user's own images: not below it.
        remove_leftovers(self.out)
        remove_leftovers(*(self.out / name for name in (MAPS, OVERLAYS, REPORT)), below=True)

    def remove_tables(self) -> None:
        """Take table, summary and page away: nothing may look whole that is not.

        Raises:
            ConfigError: they cannot be removed.
        """
        for name in (SUMMARY_NAME, REPORT_NAME, CSV_NAME):
            try:
                (self.out / name).unlink(missing_ok=True)
            except OSError as error:
                raise not_writable(self.out, error) from error

    def has_tables(self) -> bool:
        """Whether they are all there."""
        names = [CSV_NAME, SUMMARY_NAME] + [REPORT_NAME] * self.settings.report
        return all((self.out / name).is_file() for name in names)

    def has_pictures(self, path: str) -> bool:
        """Whether the pictures of an image are there; a power cut leaves empty ones."""
        wanted = self.pictures.names(path)
        if self.settings.report:
            wanted.append(self.small.folder / picture_name(path))
        try:
            return all(os.stat(name).st_size for name in wanted)
        except OSError:
            return False

    def write_pictures(self, item: Decoded, row: Row, scored: ScoredImage) -> str:
        """Write what was asked for of one image; returns why that failed, or an empty string.

        Raises:
            OSError: the disk is full.
        """
        preview = item.preview if self.settings.overlays else None
        parts = (scored.map, item.size, preview, scored.spread)
        error = self.pictures.write(row, *parts)  # type: ignore[arg-type]
        if not self.settings.report or item.preview is None:
            return error
        if scored.map is None or scored.spread is None:
            return error
        panels = item.preview, scored.map.numpy(), scored.spread.numpy()
        small = self.small.write(picture_name(row.path), *panels)
        return error or small or ""

    def write_summary(self, summary: Summary) -> None:
        """Write summary.json.

        Raises:
            ConfigError: it cannot be written.
        """
        # ASCII, so that undecodable bytes of a path survive as escapes.
        text = json.dumps(asdict(summary), indent=2) + "\n"
        try:
            write_atomically(self.out / SUMMARY_NAME, text)
        except OSError as error:
            raise not_writable(self.out, error) from error
