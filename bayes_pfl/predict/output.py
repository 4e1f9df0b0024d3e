"""The folder that a prediction writes into: what lies there, what is written, what goes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from bayes_pfl.data.decoding import Decoded
from bayes_pfl.detect.overlays import MAX_SIDE, overlay
from bayes_pfl.detect.results import resize_map, score_note
from bayes_pfl.detect.scorer import ScoredImage
from bayes_pfl.predict.files import encode_map, encode_png, writing_to
from bayes_pfl.predict.rows import Row
from bayes_pfl.predict.settings import FolderSettings
from bayes_pfl.report.html import NAME as REPORT_NAME
from bayes_pfl.report.pictures import FOLDER as REPORT
from bayes_pfl.report.pictures import ReportPictures, picture_name
from bayes_pfl.support.files import (
    mirrored,
    reason_unless_disk_full,
    remove_leftovers,
    write_picture,
)
from bayes_pfl.support.run_names import CSV_NAME, MAPS, OVERLAYS, SUMMARY_NAME


class OutputFolder:
    """Pictures and tables of one run.

    Args:
        limits: map values at the two ends of the pictures' colours.
        count: images of the run.
    """

    def __init__(
        self, out: Path, settings: FolderSettings, limits: tuple[float, float], count: int
    ) -> None:
        self.out, self.settings, self.limits = out, settings, limits
        self.small = ReportPictures(out, limits, count)

    @property
    def preview_side(self) -> int:
        """Longest side of the pictures that are drawn on; 0 if none are."""
        if self.settings.overlays:
            return MAX_SIDE
        return self.small.side if self.settings.report else 0

    def prepare(self, resume: bool) -> None:
        """Remove the half-written files of a killed run.

        Args:
            resume: otherwise also remove what an earlier run has written, except pictures: they
                are replaced.

        Raises:
            ConfigError: it cannot be removed.
        """
        # The folder itself may be that of the user's own images: not below it.
        remove_leftovers(self.out)
        remove_leftovers(*(self.out / name for name in (MAPS, OVERLAYS, REPORT)), below=True)
        if not resume:
            self.remove_tables()
        if self.settings.report and not (resume and self.small.folder.is_dir()):
            self.small.prepare()

    def remove_tables(self) -> None:
        """Remove table, summary and page: nothing may look whole that is not.

        Raises:
            ConfigError: they cannot be removed.
        """
        with writing_to(self.out):
            for name in (SUMMARY_NAME, REPORT_NAME, CSV_NAME):
                (self.out / name).unlink(missing_ok=True)

    def has_tables(self) -> bool:
        """Whether table, summary and page are all there."""
        names = [CSV_NAME, SUMMARY_NAME] + [REPORT_NAME] * self.settings.report
        return all((self.out / name).is_file() for name in names)

    def has_pictures(self, path: str) -> bool:
        """Whether the pictures of an image are there; a power cut leaves empty ones."""
        small = self.small.folder / picture_name(path) if self.settings.report else None
        wanted = self._map_file(path), self._overlay_file(path), small
        try:
            return all(os.stat(file).st_size for file in wanted if file)
        except OSError:
            return False

    def write_pictures(self, item: Decoded, row: Row, scored: ScoredImage) -> str | None:
        """Write the map, overlay and picture of the report of one image, as the settings say.

        Returns:
            Why one was not written; None if all were.

        Raises:
            OSError: the disk is full.
        """
        if scored.map is None or item.size is None:
            return None
        reason, what = None, "map"
        try:
            if file := self._map_file(row.path):
                values = resize_map(scored.map, item.size)
                write_picture(file, encode_map(values, self.settings.maps))
            what = "overlay"
            if item.preview is not None and (file := self._overlay_file(row.path)):
                write_picture(file, self._overlay(row, scored, scored.map, item.preview))
        except Exception as error:  # a picture must not cost the scores of thousands of others
            reason = f"{what} not written: {reason_unless_disk_full(error)}"
        if not self.settings.report or item.preview is None or scored.spread is None:
            return reason
        panels = item.preview, scored.map.numpy(), scored.spread.numpy()
        small = self.small.write(picture_name(row.path), *panels)
        return reason or small

    def _map_file(self, path: str) -> Path | None:
        suffix = self.settings.map_suffix
        return mirrored(self.out / MAPS, path, suffix) if suffix else None

    def _overlay_file(self, path: str) -> Path | None:
        return mirrored(self.out / OVERLAYS, path, ".png") if self.settings.overlays else None

    def _overlay(
        self, row: Row, scored: ScoredImage, anomaly_map: Tensor, preview: np.ndarray
    ) -> bytes:
        doubt = scored.spread if self.settings.overlay_uncertainty else None
        picture = overlay(
            Image.fromarray(preview),
            anomaly_map.numpy(),
            threshold=self.settings.map_threshold,
            title=row.path,
            note=score_note(scored.score, (scored.low, scored.high)),
            limits=self.limits,
            uncertainty=None if doubt is None else doubt.numpy(),
        )
        return encode_png(picture)
