"""Rows of a prediction: made from scores, kept in the journal, read from there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields, replace
from typing import Any

from bayes_pfl.data.decoding import Decoded
from bayes_pfl.detect.regions import Box, FoundRegions, Region
from bayes_pfl.detect.scorer import ScoredImage
from bayes_pfl.fit.decision import Decision
from bayes_pfl.support.run_names import page_file, page_title

MOST_REGIONS = 1_000
"""Regions of an image that are listed, the most anomalous; the column ``regions`` counts all."""


@dataclass(frozen=True)
class Row:
    """One image in predictions.csv, in the order of its columns; empty where nothing is known.

    Attributes:
        path: within the folder, with forward slashes.
        label: 1 if the score reached the threshold, else 0; None without a threshold.
        error: why the image could not be read, or its map or overlay not be written.
        score_low, score_high: ends of the score's credible interval.
        needs_review: 1 if it did not but nearly, else 0; None without a calibration.
        p_value: share of normal images that score as high; None without a calibration.
        words_score, memory_score: with references, the score by words alone, in [0, 1], and the
            distance to the references, from 0; else None.
        compared_with: what the references are, such as "profile of 30 pictures".
        page: number of the page of a TIFF or frame of a DICOM file, from 1; None for a file of one
            picture.
        regions: how many there are; None without a pixel threshold.
        tile: side in pixels of the tiles that the image was also looked at in; None for none.
        listed: the regions themselves, the most anomalous first; no column.
        runs: of each of these, where they are asked for, its pixels; no column. See
            :func:`bayes_pfl.predict.formats.coco.runs_of`.
    """

    path: str
    class_name: str
    score: float | None = None
    label: int | None = None
    uncertainty: float | None = None
    text_score: float | None = None
    map_score: float | None = None
    width: int | None = None
    height: int | None = None
    error: str = ""
    score_low: float | None = None
    score_high: float | None = None
    needs_review: int | None = None
    p_value: float | None = None
    words_score: float | None = None
    memory_score: float | None = None
    compared_with: str = ""
    page: int | None = None
    regions: int | None = None
    tile: int | None = None
    listed: tuple[Region, ...] = field(default=(), repr=False)
    runs: tuple[tuple[int, ...], ...] = field(default=(), repr=False)

    @property
    def title(self) -> str:
        """The path and its page, for people."""
        return page_title(self.path, self.page)

    @property
    def file(self) -> str:
        """What the files of this image are called, without their suffixes."""
        return page_file(self.path, self.page)

    def cells(self) -> list[Any]:
        """Values for a csv writer, figures with six digits after the point."""
        return cells([getattr(self, name) for name in COLUMNS])

    def region_cells(self) -> Iterator[list[Any]]:
        """The same for each of its regions, in the order of :data:`REGION_COLUMNS`."""
        for number, one in enumerate(self.listed, start=1):
            figures = [getattr(one, name) for name in REGION_FIGURES]
            yield cells([self.path, self.page, number, *one.box, *figures])

    def with_regions(self, found: FoundRegions) -> Row:
        """The row with the regions of its image's map."""
        return replace(self, regions=len(found.regions), listed=found.regions[:MOST_REGIONS])


def cells(values: Sequence[Any]) -> list[Any]:
    """Values for a csv writer, figures with six digits after the point; None is empty."""
    return ["" if v is None else round(v, 6) if isinstance(v, float) else v for v in values]


COLUMNS = tuple(item.name for item in fields(Row) if item.name not in ("listed", "runs"))
REGION_FIGURES = ("area", "peak", "peak_x", "peak_y", "mean", "p_value")
REGION_COLUMNS = ("path", "page", "number", *Box._fields, *REGION_FIGURES)

_FIELDS = {item.name: item.default for item in fields(Row)}


def scored_row(
    path: str,
    page: int | None,
    class_name: str,
    item: Decoded,
    scored: ScoredImage | None,
    rule: Decision,
) -> Row:
    """The row of an image that was read and scored, or could not be.

    Args:
        path: within the folder, with forward slashes.
        scored: None if it could not be read.
        rule: makes labels of scores.
    """
    tile = item.tiling.side if item.tiling else None
    row = Row(path, class_name, error=item.error, page=page, tile=tile)
    if item.size is not None:
        row = replace(row, width=item.size[0], height=item.size[1])
    if scored is None:
        return row
    if not scored.finite:
        return replace(row, error="score is not finite: use precision bfloat16 or float32")
    verdict = rule.verdict(scored.score)
    return replace(
        row,
        **scored.figures,
        label=verdict.label,
        score_low=scored.low,
        score_high=scored.high,
        needs_review=None if verdict.needs_review is None else int(verdict.needs_review),
        p_value=verdict.p_value,
        compared_with=rule.compared_with,
    )


def entry_of(row: Row, stamp: Sequence[int]) -> dict[str, Any]:
    """A row as the journal keeps it, in full precision, with its file's size and time of change."""
    known = {name: getattr(row, name) for name in _FIELDS}
    known = {name: value for name, value in known.items() if value != _FIELDS[name]}
    if row.listed:
        known["listed"] = [astuple(one) for one in row.listed]
    return {**known, "size": stamp[0], "mtime_ns": stamp[1]}


def row_of(entry: Mapping[str, Any]) -> Row:
    """The row that an entry of the journal was made of."""
    known = {name: value for name, value in entry.items() if name in _FIELDS}
    for name, made in (("listed", _region), ("runs", tuple)):
        if name in known:
            known[name] = tuple(map(made, known[name]))
    return Row(**known)


def _region(values: Sequence[Any]) -> Region:
    area, box, *figures = values
    return Region(area, Box(*box), *figures)
