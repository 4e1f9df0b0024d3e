"""The folder that a prediction writes into: its files, each whole or not at all."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import fields
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from bayes_pfl.data.decoding import Decoded
from bayes_pfl.detect.overlays import MAX_SIDE, overlay
from bayes_pfl.detect.results import NearestNormal, resize_map, score_note
from bayes_pfl.detect.scorer import ScoredImage
from bayes_pfl.errors import ConfigError
from bayes_pfl.predict.rows import Row
from bayes_pfl.predict.settings import FolderSettings, MapFormat
from bayes_pfl.report.html import NAME as REPORT_NAME
from bayes_pfl.report.pictures import FOLDER as REPORT
from bayes_pfl.report.pictures import ReportPictures, picture_name
from bayes_pfl.support.files import (
    mirrored,
    raising_not_written,
    reason_unless_disk_full,
    remove_leftovers,
    write_picture,
)
from bayes_pfl.support.run_names import CSV_NAME, MAPS, OVERLAYS, SUMMARY_NAME

_ROWS_AT_ONCE = 256  # of a huge map, no second copy in floats is made


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

    def has_pictures(self, file: str) -> bool:
        """Whether the pictures of a `Row.file` are there; a power cut leaves empty ones."""
        small = self.small.folder / picture_name(file) if self.settings.report else None
        wanted = self._map_file(file), self._overlay_file(file), small
        try:
            return all(os.stat(path).st_size for path in wanted if path)
        except OSError:
            return False

    def write_pictures(
        self, item: Decoded, row: Row, scored: ScoredImage, near: NearestNormal | None = None
    ) -> str | None:
        """Write the map, overlay and picture of the report of one image, as the settings say.

        Args:
            near: shown in the report.

        Returns:
            Why one was not written; None if all were.

        Raises:
            OSError: the disk is full.
        """
        if scored.map is None or item.size is None:
            return None
        reason, what = None, "map"
        try:
            if file := self._map_file(row.file):
                values = resize_map(scored.map, item.size)
                write_picture(file, encode_map(values, self.settings.maps))
            what = "overlay"
            if item.preview is not None and (file := self._overlay_file(row.file)):
                write_picture(file, self._overlay(row, scored, scored.map, item.preview))
        except Exception as error:  # a picture must not cost the scores of thousands of others
            reason = f"{what} not written: {reason_unless_disk_full(error)}"
        if not self.settings.report or item.preview is None or scored.spread is None:
            return reason
        panels = item.preview, scored.map.numpy(), scored.spread.numpy()
        name = picture_name(row.file)
        small = self.small.write(name, *panels)
        if near is not None:
            small = small or self.small.write_nearest(name, item.preview, item.size, near)
        return reason or small

    def _map_file(self, file: str) -> Path | None:
        suffix = self.settings.map_suffix
        return self.out / MAPS / mirrored(file, suffix) if suffix else None

    def _overlay_file(self, file: str) -> Path | None:
        return self.out / OVERLAYS / mirrored(file, ".png") if self.settings.overlays else None

    def _overlay(
        self, row: Row, scored: ScoredImage, anomaly_map: Tensor, preview: np.ndarray
    ) -> bytes:
        doubt = scored.spread if self.settings.overlay_uncertainty else None
        picture = overlay(
            Image.fromarray(preview),
            anomaly_map.numpy(),
            threshold=self.settings.map_threshold,
            title=row.title,
            note=score_note(scored.score, (scored.low, scored.high)),
            limits=self.limits,
            uncertainty=None if doubt is None else doubt.numpy(),
        )
        return encode_png(picture)


def writing_to(folder: Path) -> AbstractContextManager[None]:
    """Within, an OSError becomes the ConfigError for an output folder that cannot be written."""
    mend = "choose another output folder, on a disk with room"
    return raising_not_written(folder, mend, ConfigError)


@contextmanager
def table_of_rows(path: Path) -> Iterator[Callable[[Row], object]]:
    """Within, a function that adds a row to a CSV file, which gets its name ``path`` at the end.

    UTF-8; bytes of file names that are not UTF-8 are kept (``errors="surrogateescape"``). Text is
    quoted, so that any name (with line breaks, beginning with "=") is read back unchanged.

    Raises:
        ConfigError: the folder cannot be made or written in.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with writing_to(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open(
                "w", encoding="utf-8", errors="surrogateescape", newline=""
            ) as file:
                writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
                writer.writerow([item.name for item in fields(Row)])
                yield lambda row: writer.writerow(row.cells())
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink()


def encode_map(anomaly_map: np.ndarray, kind: MapFormat | None) -> bytes:
    """float32 (H, W) in [0, 1] -> a file's bytes; ``png16`` holds round(65535 * value)."""
    if kind == "npy":
        buffer = io.BytesIO()
        np.save(buffer, anomaly_map)
        return buffer.getvalue()
    deep = np.empty(anomaly_map.shape, np.uint16)
    for start in range(0, len(deep), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        deep[rows] = np.rint(anomaly_map[rows] * np.float32(65535))
    return encode_png(Image.fromarray(deep))


def encode_png(picture: Image.Image) -> bytes:
    """A picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)  # a third of the time for a tenth more bytes
    return buffer.getvalue()
