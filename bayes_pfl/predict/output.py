"""The folder that a prediction writes into: its files, each whole or not at all."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from bayes_pfl.data.decoding import Decoded
from bayes_pfl.detect.full_maps import new_map, resize_map, small_map
from bayes_pfl.detect.overlays import MAX_SIDE, overlay
from bayes_pfl.detect.regions import FoundRegions, RegionRule, find_regions
from bayes_pfl.detect.results import NearestNormal, score_note
from bayes_pfl.detect.scorer import ScoredImage
from bayes_pfl.predict.details import DetailPictures
from bayes_pfl.predict.formats.coco import runs_of, write_coco
from bayes_pfl.predict.formats.labelme import labelme_file
from bayes_pfl.predict.rows import Row
from bayes_pfl.predict.settings import FolderSettings, MapFormat
from bayes_pfl.predict.summary import Counts
from bayes_pfl.predict.tables import table_of_regions, table_of_rows, writing_to
from bayes_pfl.report.html import NAME as REPORT_NAME
from bayes_pfl.report.pictures import FOLDER as REPORT
from bayes_pfl.report.pictures import ReportPictures, picture_name
from bayes_pfl.report.zoom import ZoomFolder
from bayes_pfl.support.files import (
    mirrored,
    reason_unless_disk_full,
    remove_leftovers,
    write_picture,
)
from bayes_pfl.support.run_names import (
    COCO_NAME,
    CSV_NAME,
    IMAGE_FOLDERS,
    LABELME,
    MAPS,
    MASKS,
    OVERLAYS,
    REGIONS_NAME,
    SUMMARY_NAME,
)

_ROWS_AT_ONCE = 256  # of a huge map, no second copy in floats is made


class OutputFolder:
    """Pictures and tables of one run.

    Args:
        limits: map values at the two ends of the pictures' colours.
        count: images of the run.
        rule: what counts as a region; None without a pixel threshold.
    """

    def __init__(
        self,
        out: Path,
        settings: FolderSettings,
        limits: tuple[float, float],
        count: int,
        rule: RegionRule | None = None,
    ) -> None:
        self.out, self.settings, self.limits, self.rule = out, settings, limits, rule
        self.small = ReportPictures(out, limits, count)
        self.details = DetailPictures(self.small, ZoomFolder(out), settings.zoom)

    @property
    def preview_side(self) -> int:
        """Longest side of the pictures that are drawn on; 0 if none are."""
        if self.settings.overlays:
            return MAX_SIDE
        return self.small.side if self.settings.report else 0

    def prepare(self, resume: bool) -> None:
        """Remove the half-written files of a killed run.

        Args:
            resume: otherwise also remove the tables and the page of an earlier run.

        Raises:
            ConfigError: it cannot be removed.
        """
        # The folder itself may be that of the user's own images: not below it.
        remove_leftovers(self.out)
        remove_leftovers(*(self.out / name for name in (*IMAGE_FOLDERS, REPORT)), below=True)
        if not resume:
            self.remove_tables()
        if self.settings.report and not (resume and self.small.folder.is_dir()):
            self.small.prepare()
        self.details.zoom.prepare(resume)

    def remove_tables(self) -> None:
        """Remove tables, summary and page: nothing may look whole that is not.

        Raises:
            ConfigError: they cannot be removed.
        """
        with writing_to(self.out):
            for name in (SUMMARY_NAME, REPORT_NAME, REGIONS_NAME, COCO_NAME, CSV_NAME):
                (self.out / name).unlink(missing_ok=True)

    def has_tables(self) -> bool:
        """Whether tables, summary and page are all there."""
        names = [CSV_NAME, SUMMARY_NAME] + [REPORT_NAME] * self.settings.report
        names += [REGIONS_NAME] * (self.rule is not None)
        names += [COCO_NAME] * ("coco" in self.settings.formats)
        return all((self.out / name).is_file() for name in names)

    def has_pictures(self, file: str) -> bool:
        """Whether the pictures of a `Row.file` are there; a power cut leaves empty ones."""
        small = self.small.folder / picture_name(file) if self.settings.report else None
        wanted = [self._map_file(file), self._overlay_file(file), small]
        wanted += [self._file_of(name, file) for name in ("labelme", "masks")]
        try:
            return all(os.stat(path).st_size for path in wanted if path)
        except OSError:
            return False

    def write_tables(self, rows: Callable[[], Iterable[Row]]) -> Counts:
        """Write predictions.csv, and regions.csv and coco.json where there are regions.

        Args:
            rows: the rows of the run, each time it is called; one is held at a time.

        Returns:
            What the rows add up to.

        Raises:
            ConfigError: they cannot be written.
        """
        counts = Counts()
        regions = table_of_regions(self.out / REGIONS_NAME) if self.rule else nullcontext(_nothing)
        with table_of_rows(self.out / CSV_NAME) as write, regions as write_regions:
            for row in rows():
                write(row)
                write_regions(row)
                counts.add(Counts.of(row))
        if "coco" in self.settings.formats:
            write_coco(self.out / COCO_NAME, rows)
        return counts

    def write_pictures(
        self,
        item: Decoded,
        row: Row,
        scored: ScoredImage,
        near: NearestNormal | None = None,
        striking: bool = False,
    ) -> Row:
        """Write all files of one image that the settings ask for, and find its regions.

        Args:
            near: shown in the report.
            striking: the report shows its strongest regions, and perhaps all of it.

        Returns:
            The row with the regions, and with the reason where a file was not written.

        Raises:
            OSError: the disk is full.
        """
        if scored.map is None or item.size is None:
            return row
        reason, what, area = None, "map", None
        values = scored.map.numpy()
        try:
            file = self._map_file(row.file)
            whole = bool(file or self.rule)
            if whole:
                values = resize_map(scored.map, item.size, item.roi)
            if file:
                write_picture(file, encode_map(values, self.settings.maps))
            if self.rule:
                what = "regions"
                found = find_regions(values, self.rule)
                area = found.mask()
                row = self._with_regions(row, item, found)
            what = "overlay"
            if item.preview is not None and (file := self._overlay_file(row.file)):
                if not whole:
                    values = _shown(values, item)
                write_picture(file, self._overlay(row, item, scored, values, area))
        except Exception as error:  # a picture must not cost the scores of thousands of others
            reason = f"{what} not written: {reason_unless_disk_full(error)}"
        if self.settings.report and item.preview is not None and scored.spread is not None:
            values, spread = _shown(scored.map.numpy(), item), _shown(scored.spread.numpy(), item)
            name, roi = picture_name(row.file), _roi(item)
            small = self.small.write(name, item.preview, values, spread, area=area, roi=roi)
            if near is not None:
                small = small or self.small.write_nearest(name, item.preview, item.size, near)
            small = small or self.details.write(name, item, row.listed, striking)
            reason = reason or small
        return replace(row, error=reason) if reason else row

    def _with_regions(self, row: Row, item: Decoded, found: FoundRegions) -> Row:
        """The row with its regions; the files of its image in other tools' formats are written."""
        row = row.with_regions(found)
        if "coco" in self.settings.formats:
            row = replace(row, runs=tuple(runs_of(found, at) for at in range(len(row.listed))))
        if file := self._file_of("labelme", row.file):
            write_picture(file, labelme_file(found, item.path, file))
        if file := self._file_of("masks", row.file):
            write_picture(file, encode_png(Image.fromarray(255 * found.mask())))
        return row

    def _file_of(self, name: str, file: str) -> Path | None:
        """Where an image's file of this format lies; None if none is asked for."""
        folder, suffix = {"masks": (MASKS, ".png"), "labelme": (LABELME, ".json")}[name]
        return self.out / folder / mirrored(file, suffix) if name in self.settings.formats else None

    def _map_file(self, file: str) -> Path | None:
        suffix = self.settings.map_suffix
        return self.out / MAPS / mirrored(file, suffix) if suffix else None

    def _overlay_file(self, file: str) -> Path | None:
        return self.out / OVERLAYS / mirrored(file, ".png") if self.settings.overlays else None

    def _overlay(
        self,
        row: Row,
        item: Decoded,
        scored: ScoredImage,
        anomaly_map: np.ndarray,
        area: np.ndarray | None,
    ) -> bytes:
        assert item.preview is not None
        doubt = scored.spread if self.settings.overlay_uncertainty else None
        picture = overlay(
            Image.fromarray(item.preview),
            anomaly_map,
            threshold=self.settings.map_threshold,
            area=area,
            title=row.title,
            note=score_note(scored.score, (scored.low, scored.high)),
            limits=self.limits,
            uncertainty=None if doubt is None else _shown(doubt.numpy(), item),
            roi=_roi(item),
        )
        return encode_png(picture)


def _shown(values: np.ndarray, item: Decoded) -> np.ndarray:
    """A map as it is stretched over the preview."""
    return values if item.preview is None else small_map(values, _preview_size(item), item.roi)


def _roi(item: Decoded) -> np.ndarray | None:
    """The region of interest of the preview, bool (h, w)."""
    return item.roi.whole(_preview_size(item)) if item.roi else None


def _preview_size(item: Decoded) -> tuple[int, int]:
    assert item.preview is not None
    height, width = item.preview.shape[:2]
    return width, height


def _nothing(_: Row) -> None:
    """Where there is no table of regions."""


def encode_map(anomaly_map: np.ndarray, kind: MapFormat | None) -> bytes:
    """float32 (H, W) in [0, 1] -> a file's bytes; ``png16`` holds round(65535 * value)."""
    if kind == "npy":
        buffer = io.BytesIO()
        np.save(buffer, anomaly_map)
        return buffer.getvalue()
    height, width = anomaly_map.shape
    deep = new_map((width, height), np.uint16)
    for start in range(0, len(deep), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        deep[rows] = np.rint(anomaly_map[rows] * np.float32(65535))
    return encode_png(Image.fromarray(deep))


def encode_png(picture: Image.Image) -> bytes:
    """A picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)  # a third of the time for a tenth more bytes
    return buffer.getvalue()
