"""Many images on one page: each beside its heat map, the true mask outlined on both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw

from bayes_pfl.report.overlays import blend, label_font, outline, plain_text, shorten

SIDE = 200
"""Longest side of a picture on the sheet, in pixels."""

_PAPER, _INK, _GREY, _MASK = (255, 255, 255), (20, 20, 20), (120, 120, 120), (0, 190, 255)
_GAP, _POINTS, _LINE = 10, 12, 18


@dataclass(frozen=True)
class Tile:
    """One image of the sheet.

    Attributes:
        image: mode RGB.
        anomaly_map: float (h, w) in [0, 1], of any size.
        mask: bool (h, w) of any size; None if there is none.
        title, note: lines above it.
    """

    image: Image.Image
    anomaly_map: np.ndarray
    mask: np.ndarray | None
    title: str
    note: str


def contact_sheet(
    title: str,
    rows: Sequence[tuple[str, Sequence[Tile]]],
    limits: tuple[float, float] = (0.0, 1.0),
) -> Image.Image:
    """Draw rows of tiles, each row under its heading.

    Args:
        rows: heading and tiles; an empty row says so.
        limits: the values of the maps at the two ends of the colours, the same for all.

    Returns:
        A picture of mode RGB.
    """
    across = max([len(tiles) for _, tiles in rows] + [1])
    tile_width, tile_height = 2 * SIDE + _GAP // 2, SIDE + 2 * _LINE
    width = across * (tile_width + 2 * _GAP) + _GAP
    row_height = tile_height + _LINE + 2 * _GAP
    page = Image.new("RGB", (max(width, 480), 2 * _LINE + _GAP + len(rows) * row_height), _PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((_GAP, _LINE), plain_text(title), _INK, label_font(_POINTS + 4), anchor="lm")
    scale = f"colours: map from {limits[0]:.3g} to {limits[1]:.3g}; blue line: true mask"
    draw.text((page.width - _GAP, _LINE), scale, _GREY, label_font(_POINTS), anchor="rm")
    for number, (heading, tiles) in enumerate(rows):
        top = 2 * _LINE + _GAP + number * row_height
        draw.text((_GAP, top + _LINE // 2), heading, _INK, label_font(_POINTS + 2), anchor="lm")
        if not tiles:
            draw.text((_GAP, top + 2 * _LINE), "none", _GREY, label_font(_POINTS), anchor="lm")
        for column, tile in enumerate(tiles):
            left = _GAP + column * (tile_width + 2 * _GAP)
            _paste(page, draw, tile, (left, top + _LINE), tile_width, limits)
    return page


def _paste(
    page: Image.Image,
    draw: ImageDraw.ImageDraw,
    tile: Tile,
    place: tuple[int, int],
    width: int,
    limits: tuple[float, float],
) -> None:
    left, top = place
    small = label_font(_POINTS)
    for line, (text, colour) in enumerate(((tile.title, _INK), (tile.note, _GREY))):
        short = shorten(plain_text(text), small, width)
        draw.text((left, top + (line + 0.5) * _LINE), short, colour, small, anchor="lm")
    picture, heat = _panels(tile, limits)
    top += 2 * _LINE
    page.paste(Image.fromarray(picture), (left, top))
    page.paste(Image.fromarray(heat), (left + picture.shape[1] + _GAP // 2, top))


def _panels(tile: Tile, limits: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    scale = SIDE / max(tile.image.size)
    size = (max(1, round(tile.image.width * scale)), max(1, round(tile.image.height * scale)))
    picture = np.asarray(tile.image.resize(size, Image.Resampling.BICUBIC)).copy()
    values = cv2.resize(tile.anomaly_map.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    heat = blend(picture, values, limits)
    if tile.mask is not None and tile.mask.any():
        outline(picture, tile.mask, _MASK)
        outline(heat, tile.mask, _MASK)
    return picture, heat
