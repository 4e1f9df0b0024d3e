"""The pictures of an evaluation: those of its report, and contact sheets of its categories.

The report's are drawn while the images are scored. A contact sheet shows the images of a category
that are worth a look, with their heat maps; the true mask is outlined on both. An evaluation keeps
no maps, so the few of a sheet are computed again. The same draws give the same maps, also after a
resumed run.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from PIL import ExifTags, Image, ImageDraw

from bayes_pfl.data.images import read_image
from bayes_pfl.data.labelled_batches import LabelledBatch
from bayes_pfl.data.records import Sample
from bayes_pfl.data.samples import load_mask
from bayes_pfl.data.tiles import TileSettings, tiles_of
from bayes_pfl.data.transforms import resize_image
from bayes_pfl.detect.inputs import Loaded, batched
from bayes_pfl.detect.overlays import (
    MASK_LINE,
    blend,
    fitted,
    label_font,
    outline,
    plain_text,
    shorten,
    stretched,
    widened,
)
from bayes_pfl.detect.pictures import score_pictures
from bayes_pfl.detect.scorer import ScoredImage, Scorer
from bayes_pfl.evaluate.records import CategoryRecord, ImageRow
from bayes_pfl.evaluate.reference_draw import Drawn
from bayes_pfl.evaluate.scoring import EvaluationSettings
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.report.pictures import ReportPictures, picture_name

MOST_PICTURES = 5000
"""Images of an evaluation whose report has pictures; a larger one has tables and figures only."""
SIDE = 200
"""Longest side of a picture on the sheet, in pixels."""

_TURNED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
_PERCENTILES = (1.0, 99.8)
_PAPER, _INK, _GREY = (255, 255, 255), (20, 20, 20), (120, 120, 120)
_GAP, _POINTS, _LINE = 10, 12, 18
_TILE, _AROUND = 2 * SIDE + _GAP // 2, 9


class Tile(NamedTuple):
    """One image of the sheet.

    Attributes:
        pictures: uint8 (h, w, 3): the image and its heat map, side by side on white paper.
        title, note: lines above them.
    """

    pictures: np.ndarray
    title: str
    note: str


def category_sheet(
    model: BayesPFLNetwork,
    record: CategoryRecord,
    samples: Sequence[Sample],
    settings: EvaluationSettings,
    title: str,
    references: Drawn | None = None,
) -> bytes:
    """Contact sheet of a category as a PNG file: best, worst, false alarms, most uncertain.

    Args:
        references: those that the record was scored with.
    """
    picked = pick(record)
    by_path = {str(sample.path): sample for sample in samples}
    chosen = list(dict.fromkeys(row.path for _, rows in picked for row in rows))
    scored = _scored(model, [by_path[path] for path in chosen], settings, references)
    limits = _limits([item.map for item in scored.values()])
    rows = [
        (heading, [_tile(by_path[row.path], row, scored[row.path], limits) for row in rows])
        for heading, rows in picked
    ]
    buffer = io.BytesIO()
    _page(title, rows, limits).save(buffer, format="PNG")
    return buffer.getvalue()


def pick(record: CategoryRecord, shown: int = 4) -> list[tuple[str, list[ImageRow]]]:
    """Headings, each with up to ``shown`` rows.

    Anomalous images are ranked by the average precision of their own pixels; without masks, by the
    share of normal images that score lower; without normal images, by their score.
    """
    normal = [row for row in record.rows if row.label == 0]
    anomalous = [row for row in record.rows if row.label == 1]
    quality, kind = _quality(anomalous, normal)
    ranked = sorted(anomalous, key=lambda row: (-quality[row.path], -row.deploy_score, row.path))
    worst = ranked[shown:][::-1][:shown]
    alarms = sorted(normal, key=lambda row: (-row.deploy_score, row.path))
    doubtful = sorted(record.rows, key=lambda row: (-row.uncertainty, row.path))
    return [
        (f"Best: anomalous, highest {kind}", ranked[:shown]),
        (f"Worst: anomalous, lowest {kind}", worst),
        ("Worst: normal, highest score", alarms[:shown]),
        ("Most uncertain", doubtful[:shown]),
    ]


def _quality(
    anomalous: Sequence[ImageRow], normal: Sequence[ImageRow]
) -> tuple[dict[str, float], str]:
    """How well each anomalous image was found, by path; and the name of that measure."""
    if anomalous and all(not math.isnan(row.pixel_ap) for row in anomalous):
        return {row.path: row.pixel_ap for row in anomalous}, "pixel AP"
    if not normal:
        return {row.path: row.deploy_score for row in anomalous}, "score"
    scores = np.sort([row.deploy_score for row in normal])
    shares = {
        row.path: float(np.searchsorted(scores, row.deploy_score)) / len(scores)
        for row in anomalous
    }
    return shares, "rank among the normal ones"


def _scored(
    model: BayesPFLNetwork,
    samples: Sequence[Sample],
    settings: EvaluationSettings,
    references: Drawn | None,
) -> dict[str, ScoredImage]:
    scorer = Scorer(model, settings, spread=False)
    scorer = references.fitted(scorer) if references else scorer
    side, tiles = model.backbone.image_size, scorer.settings.tiles(model)
    scored: dict[str, ScoredImage] = {}
    for batch in batched(samples, 1 if tiles else settings.batch_size):
        items = [_loaded(sample.path, side, tiles) for sample in batch]
        results = score_pictures(scorer, items, [sample.class_name for sample in batch])
        for sample, item, result in zip(batch, items, results, strict=True):
            assert result is not None  # each was read
            scored[str(sample.path)] = _reduced(result, item.size) if item.tiling else result
    return scored


def _loaded(path: Path, side: int, tiles: TileSettings | None) -> Loaded:
    image = read_image(path)
    pixels = resize_image(image, side)
    return Loaded(pixels, image.size, str(path), None, *tiles_of(image, tiles))


def _reduced(scored: ScoredImage, size: tuple[int, int]) -> ScoredImage:
    """With the map as large as the sheet shows it: a dozen large ones would fill the memory."""
    small = stretched(np.asarray(scored.map), fitted(size, SIDE))
    return replace(scored, map=torch.from_numpy(small))


def _limits(maps: Sequence[torch.Tensor | None]) -> tuple[float, float]:
    """Map values at the two ends of the sheet's colours, from the maps shown."""
    values = [tensor.flatten() for tensor in maps if tensor is not None]
    if not values:
        return 0.0, 1.0
    low, high = np.percentile(torch.cat(values).numpy(), _PERCENTILES)
    return (float(low), float(high)) if high > low else (float(low), float(low) + 1e-3)


def _tile(sample: Sample, row: ImageRow, scored: ScoredImage, limits: tuple[float, float]) -> Tile:
    image = read_image(sample.path)
    mask = load_mask(sample, image) if sample.mask else None
    image.thumbnail((2 * SIDE, 2 * SIDE))
    size = fitted(image.size, SIDE)
    picture = np.asarray(image.resize(size, Image.Resampling.BICUBIC)).copy()
    values = np.asarray(scored.map).astype(np.float32)
    heat = blend(picture, stretched(values, size), limits)
    if mask is not None and mask.any():
        area = widened(mask, size, _AROUND)
        outline(picture, area, MASK_LINE)
        outline(heat, area, MASK_LINE)
    between = np.full((size[1], _GAP // 2, 3), _PAPER, np.uint8)
    ap = "" if math.isnan(row.pixel_ap) else f"  pixel AP {row.pixel_ap:.2f}"
    note = f"{sample.defect}  score {row.deploy_score:.3f} ± {row.uncertainty:.3f}{ap}"
    return Tile(np.concatenate([picture, between, heat], axis=1), sample.path.name, note)


def _page(
    title: str, rows: Sequence[tuple[str, Sequence[Tile]]], limits: tuple[float, float]
) -> Image.Image:
    """Rows of tiles, each row under its heading; an empty row shows "none"."""
    across = max([len(tiles) for _, tiles in rows] + [1])
    heights = [
        _LINE + max((2 * _LINE + len(tile.pictures) for tile in tiles), default=_LINE) + 2 * _GAP
        for _, tiles in rows
    ]
    width = max(across * (_TILE + 2 * _GAP) + _GAP, 480)
    page = Image.new("RGB", (width, 2 * _LINE + _GAP + sum(heights)), _PAPER)
    draw = ImageDraw.Draw(page)
    scale = f"colours: map from {limits[0]:.3g} to {limits[1]:.3g}; blue line: around the true mask"
    room = page.width - 4 * _GAP - label_font(_POINTS).getlength(scale)
    large = label_font(_POINTS + 4)
    draw.text((_GAP, _LINE), shorten(plain_text(title), large, room), _INK, large, anchor="lm")
    draw.text((page.width - _GAP, _LINE), scale, _GREY, label_font(_POINTS), anchor="rm")
    top = 2 * _LINE + _GAP
    for (heading, tiles), height in zip(rows, heights, strict=True):
        draw.text((_GAP, top + _LINE // 2), heading, _INK, label_font(_POINTS + 2), anchor="lm")
        if not tiles:
            draw.text((_GAP, top + 1.5 * _LINE), "none", _GREY, label_font(_POINTS), anchor="lm")
        for column, tile in enumerate(tiles):
            _paste(page, tile, _GAP + column * (_TILE + 2 * _GAP), top + _LINE)
        top += height
    return page


def _paste(page: Image.Image, tile: Tile, left: int, top: int) -> None:
    draw, small = ImageDraw.Draw(page), label_font(_POINTS)
    for line, (text, colour) in enumerate(((tile.title, _INK), (tile.note, _GREY))):
        short = shorten(plain_text(text), small, _TILE)
        draw.text((left, top + (line + 0.5) * _LINE), short, colour, small, anchor="lm")
    page.paste(Image.fromarray(tile.pictures), (left, top + 2 * _LINE))


def draw_batch(
    pictures: ReportPictures,
    dataset: str,
    batch: LabelledBatch,
    maps: np.ndarray,
    spreads: np.ndarray,
) -> None:
    """Write the pictures of a batch; one that cannot be written is missing in the report.

    Args:
        maps: of the masks' size.
        spreads: uncertainty maps, likewise.
    """
    for index, sample in enumerate(batch.samples):
        size = shown_size(sample.path, pictures.side)
        picture = batch.pixels[index]
        if size is not None:
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        name = picture_name(str(sample.path), dataset)
        mask = batch.masks[index] if sample.mask else None
        pictures.write(name, picture, maps[index], spreads[index], mask)


def drawn(pictures: ReportPictures, dataset: str, record: CategoryRecord) -> dict[str, bytes]:
    """The pictures of a category that could be written: their content by file name."""
    paths = [pictures.folder / picture_name(row.path, dataset) for row in record.rows]
    return {path.name: path.read_bytes() for path in paths if path.is_file()}


def shown_size(path: Path, side: int) -> tuple[int, int] | None:
    """Width and height with the image's own proportions and ``side`` as the longer of the two.

    None for an image whose header cannot be read again.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            if image.getexif().get(ExifTags.Base.Orientation) in _TURNED:
                width, height = height, width
    except Exception:  # it could be read a moment ago; the picture is then a square
        return None
    return fitted((width, height), side)
