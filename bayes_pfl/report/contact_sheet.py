"""Many images on one page, each with its heat map; the true mask is outlined on both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

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

SIDE = 200
"""Longest side of a picture on the sheet, in pixels."""

_PAPER, _INK, _GREY = (255, 255, 255), (20, 20, 20), (120, 120, 120)
_GAP, _POINTS, _LINE = 10, 12, 18
_TILE, _AROUND = 2 * SIDE + _GAP // 2, 9


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
        rows: heading and tiles; an empty row shows "none".
        limits: map values at the two ends of the colours, the same for all tiles.

    Returns:
        A picture of mode RGB.
    """
    across = max([len(tiles) for _, tiles in rows] + [1])
    heights = [_LINE + _row_height(tiles) + 2 * _GAP for _, tiles in rows]
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
            left = _GAP + column * (_TILE + 2 * _GAP)
            _paste(page, tile, left, top + _LINE, limits)
        top += height
    return page


def _row_height(tiles: Sequence[Tile]) -> int:
    """Height of the text lines and the tallest picture; one line for an empty row."""
    return max((2 * _LINE + fitted(tile.image.size, SIDE)[1] for tile in tiles), default=_LINE)


def _paste(page: Image.Image, tile: Tile, left: int, top: int, limits: tuple[float, float]) -> None:
    draw, small = ImageDraw.Draw(page), label_font(_POINTS)
    for line, (text, colour) in enumerate(((tile.title, _INK), (tile.note, _GREY))):
        short = shorten(plain_text(text), small, _TILE)
        draw.text((left, top + (line + 0.5) * _LINE), short, colour, small, anchor="lm")
    picture, heat = _panels(tile, limits)
    top += 2 * _LINE
    page.paste(Image.fromarray(picture), (left, top))
    page.paste(Image.fromarray(heat), (left + picture.shape[1] + _GAP // 2, top))


def _panels(tile: Tile, limits: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    size = fitted(tile.image.size, SIDE)
    picture = np.asarray(tile.image.resize(size, Image.Resampling.BICUBIC)).copy()
    heat = blend(picture, stretched(tile.anomaly_map, size), limits)
    if tile.mask is not None and tile.mask.any():
        area = widened(tile.mask, size, _AROUND)
        outline(picture, area, MASK_LINE)
        outline(heat, area, MASK_LINE)
    return picture, heat
