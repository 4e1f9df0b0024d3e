"""The strongest regions of an image, cut out at full resolution and side by side in one file."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw

from bayes_pfl.detect.overlays import label_font
from bayes_pfl.detect.regions import Box, Region

MOST_CROPS = 4
"""Regions that are shown of an image."""

_SIDE, _GAP, _CAPTION = 240, 8, 40
_MARGIN = 0.25  # of the region's longer side, on each side
_QUALITY, _EFFORT = 85, 2


Cut = Callable[[Box], Image.Image]
"""From a part of a picture to its pixels, mode RGB: a picture of any size need not be decoded."""


def crops_of(cut: Cut, size: tuple[int, int], regions: Sequence[Region]) -> bytes:
    """The regions as a WebP file of at most 984 x 280 pixels, each with its figures below.

    A region is cut out with a margin and a thin frame around it, pixel by pixel. Of one that does
    not fit twice the area is shown at half the size, and of a still larger one the part around its
    peak; the caption says so.

    Args:
        cut: gives parts of the picture, of at most 480 x 480 pixels.
        size: (width, height) of the picture.
        regions: the most anomalous first; those after the fourth are left out.
    """
    shown = regions[:MOST_CROPS]
    page = Image.new("RGB", (len(shown) * (_SIDE + _GAP) - _GAP, _SIDE + _CAPTION), "white")
    draw, font = ImageDraw.Draw(page), label_font(12)
    for number, region in enumerate(shown):
        left = number * (_SIDE + _GAP)
        crop, scale = _crop(cut, size, region)
        page.paste(crop, (left, 0))
        reduced = "" if scale == 1 else f", at {scale:.0%} of their size"
        rare = "" if region.p_value is None else f", p-value {region.p_value:.2g}"
        lines = f"{number + 1}: peak {region.peak:.3f}{rare}", f"{region.area:,} pixels{reduced}"
        for line, text in enumerate(lines):
            draw.text((left + 2, _SIDE + 12 + 17 * line), text, "black", font, anchor="lm")
    buffer = io.BytesIO()
    page.save(buffer, "WEBP", quality=_QUALITY, method=_EFFORT)
    return buffer.getvalue()


def window(region: Region, size: tuple[int, int]) -> Box:
    """What is cut out: a square with a margin around a region, or around the peak of a large one.

    It is as large as the picture at most, whose width and height are ``size``.

    >>> window(Region(40, Box(500, 500, 510, 504), 0.9, 505, 502, 0.8), (2000, 1000))
    Box(left=385, top=382, right=625, bottom=622)
    >>> window(Region(10**6, Box(0, 0, 2000, 500), 0.9, 1000, 300, 0.8), (2000, 1000))
    Box(left=760, top=60, right=1240, bottom=540)
    """
    box = region.box
    wanted = round(max(box.right - box.left, box.bottom - box.top) * (1 + 2 * _MARGIN))
    side = min(max(wanted, _SIDE), 2 * _SIDE)
    middle = (box.left + box.right, box.top + box.bottom)
    if wanted > side:
        middle = (2 * region.peak_x, 2 * region.peak_y)
    width, height = min(side, size[0]), min(side, size[1])
    left = min(max(0, (middle[0] - width) // 2), size[0] - width)
    top = min(max(0, (middle[1] - height) // 2), size[1] - height)
    return Box(left, top, left + width, top + height)


def _crop(cut: Cut, whole: tuple[int, int], region: Region) -> tuple[Image.Image, float]:
    """The window as a picture of at most _SIDE pixels, and how much smaller it was made."""
    area, box = window(region, whole), region.box
    width, height = area.right - area.left, area.bottom - area.top
    scale = min(1.0, _SIDE / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    crop = cut(area).resize(size, Image.Resampling.BICUBIC)
    frame = [
        round((box.left - area.left) * scale) - 3,
        round((box.top - area.top) * scale) - 3,
        round((box.right - area.left) * scale) + 2,
        round((box.bottom - area.top) * scale) + 2,
    ]
    draw = ImageDraw.Draw(crop)
    draw.rectangle(frame, outline="black")
    draw.rectangle([frame[0] + 1, frame[1] + 1, frame[2] - 1, frame[3] - 1], outline="white")
    return crop, scale
