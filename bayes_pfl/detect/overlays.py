"""The picture of a result: image and heat overlay side by side, with a colour bar.

Drawn with NumPy, OpenCV and Pillow alone, because a folder may hold thousands of images; matplotlib
provides the colour map and the font.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bayes_pfl.errors import DataError

COLOUR_MAP = "inferno"
"""Perceptually uniform, rising in lightness, safe for colour-blind readers."""

UNCERTAINTY_COLOUR_MAP = "cividis"
"""For the uncertainty: as safe, and not to be mistaken for the map's."""

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

MAX_SIDE = 1024
_MIN_SIDE = 256
_PAPER, _INK = (255, 255, 255), (20, 20, 20)
MASK_LINE = (0, 190, 255)
LIMIT_LINE, _UNCERTAINTY_LINE = (255, 255, 255), (253, 231, 55)
ROI_LINE = (80, 220, 100)
"""Of the region of interest: a green that neither map's colours have."""
# What is normal stays as it is. At the highest values three fifths of the picture's contrast
# are left: what the colour points at must stay visible.
_CLEAR, _FULL, _MOST_OPAQUE = 0.1, 0.6, 0.4
_MOST_RINGS = 100
_MIDDLE_GREY = 128


def overlay(
    image: Image.Image,
    anomaly_map: np.ndarray,
    *,
    threshold: float | None = None,
    area: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    title: str = "",
    note: str = "",
    limits: tuple[float, float] = (0.0, 1.0),
    uncertainty: np.ndarray | None = None,
    roi: np.ndarray | None = None,
    max_side: int = MAX_SIDE,
) -> Image.Image:
    """Draw an image and, next to it, its anomaly map over the image in grey.

    Args:
        image: mode RGB, any size; shown with its longer side between 256 and `max_side` pixels.
        anomaly_map: float (h, w) in [0, 1], of any size; stretched over the image.
        threshold: draws the outline of map >= threshold, and its place on the colour bar, with an
            arrow at the end where it lies beyond. Parts too small for an outline get a ring.
        area: bool (h, w), outlined in place of map >= threshold, as where small regions are left
            out of it.
        mask: bool (h, w), the true anomalous area; its outline is drawn on the image.
        title: text above, on the left, e.g. the file name; shortened in its middle if too long.
        note: text above, on the right, e.g. the score.
        limits: the map's values at the two ends of the colours; values beyond are drawn as these.
        uncertainty: float (h, w) in [0, 0.5], shown in a third panel in colours of its own, which
            span 0 to half the limits' distance.
        roi: bool (h, w), the region of interest, outlined on both.

    Returns:
        A picture of mode RGB.

    Raises:
        DataError: a map that is not two-dimensional, not finite or outside [0, 1]; wrong limits.
    """
    size = fitted(image.size, min(max(*image.size, _MIN_SIDE), max_side))
    picture = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BICUBIC)).copy()
    values = stretched(_checked(anomaly_map, limits), size)
    heat = blend(picture, values, limits)
    points = int(np.clip(max(size) // 34, 13, 26))  # size of the letters
    gap, stacked = points // 2, size[0] > 2 * size[1]
    legend = []
    if roi is not None:
        for panel in (picture, heat):
            outline(panel, roi, ROI_LINE, 1)
        legend.append(("region of interest", ROI_LINE))
    if mask is not None:
        outline(picture, np.asarray(mask) > 0, MASK_LINE)
        legend.append(("true mask", MASK_LINE))
    if threshold is not None:
        rings = mark_regions(heat, values >= threshold if area is None else area)
        small = ", small parts in rings" if rings else ""
        what = "map" if area is None else "regions"
        legend.append((f"{what} at or above {threshold:.3g}{small}", LIMIT_LINE))
    body = _joined(Image.fromarray(picture), Image.fromarray(heat), gap, stacked)
    body = _with_colour_bar(body, points, limits, threshold)
    if uncertainty is not None:
        span, doubt = spread_limits(limits), stretched(_checked(uncertainty, limits), size)
        third = Image.fromarray(blend(picture, doubt, span, UNCERTAINTY_COLOUR_MAP))
        third = _with_colour_bar(third, points, span, None, UNCERTAINTY_COLOUR_MAP)
        body = _joined(body, third, gap, stacked)
        legend.append(("last panel: uncertainty, sd over prompt pairs", _UNCERTAINTY_LINE))
    return _page(body, plain_text(title), plain_text(note), legend, points)


def blend(
    picture: np.ndarray,
    values: np.ndarray,
    limits: tuple[float, float] = (0.0, 1.0),
    colour_map: str = COLOUR_MAP,
) -> np.ndarray:
    """Lay a map over a picture: uint8 (H, W, 3) and float (H, W) -> uint8 (H, W, 3).

    The picture is shown in grey, so that every colour seen comes from the map. Low values have
    none, and high ones leave three fifths of the picture's contrast.
    """
    low, high = limits
    level = np.clip((values - low) * (255 / (high - low)), 0, 255).astype(np.uint8)
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None]
    colour, rest = _premultiplied(colour_map)
    mixed: np.ndarray = np.rint(colour[level] + grey * rest[level])
    return mixed.astype(np.uint8)


@lru_cache(maxsize=4)
def _premultiplied(colour_map: str) -> tuple[np.ndarray, np.ndarray]:
    """By level 0..255: colour times opacity, float32 (256, 3); 1 - opacity, float32 (256, 1)."""
    from matplotlib import colormaps

    level = np.linspace(0, 1, 256, dtype=np.float32)[:, None]
    opacity = _MOST_OPAQUE * np.clip((level - _CLEAR) / (_FULL - _CLEAR), 0, 1)
    colour = colormaps[colour_map](np.arange(256))[:, :3].astype(np.float32) * 255
    return colour * opacity, 1 - opacity


def spread_limits(limits: tuple[float, float]) -> tuple[float, float]:
    """Standard deviations at the two ends of the uncertainty's colours.

    Args:
        limits: map values at the two ends of the map's colours.
    """
    return 0.0, (limits[1] - limits[0]) / 2


def bar_mark(threshold: float, limits: tuple[float, float]) -> tuple[float, int]:
    """Where a threshold lies on a colour bar with these values at its ends.

    Returns:
        Its place in [0, 1] from the low end; and -1 or 1 if it lies beyond the low or high end.

    >>> bar_mark(0.5, (0.0, 1.0)), bar_mark(0.9, (0.2, 0.7))
    ((0.5, 0), (1.0, 1))
    """
    low, high = limits
    place = (threshold - low) / (high - low)
    return min(max(place, 0.0), 1.0), (place > 1) - (place < 0)


def _checked(anomaly_map: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    values = np.asarray(anomaly_map, dtype=np.float32)
    if values.ndim != 2 or values.size == 0:
        raise DataError(f"an anomaly map is (H, W), this one has the shape {values.shape}")
    low, high = float(values.min()), float(values.max())
    if not (low >= -1e-4 and high <= 1 + 1e-4):
        raise DataError(f"an anomaly map lies in [0, 1], this one in [{low:g}, {high:g}]")
    if not limits[0] < limits[1]:
        raise DataError(f"limits {limits} are not in rising order; give e.g. (0, 1)")
    return values


def outline(
    picture: np.ndarray, area: np.ndarray, colour: tuple[int, int, int], thin: int | None = None
) -> None:
    """Draw the border of an area into a picture, with a dark edge so that it shows on any ground.

    Args:
        picture: uint8 (H, W, 3); changed.
        area: bool, of any size.
        thin: width of the line in pixels; None for one that fits the picture.
    """
    height, width = picture.shape[:2]
    lines, _ = cv2.findContours(
        _pooled(area, (width, height)), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE
    )
    thin = thin or _line_width(picture)
    cv2.drawContours(picture, lines, -1, (0, 0, 0), thin + 2)
    cv2.drawContours(picture, lines, -1, colour, thin)


def mark_regions(picture: np.ndarray, area: np.ndarray, thin: int | None = None) -> int:
    """Outline each part of an area, or draw a ring around it where an outline would hide it.

    Args:
        picture: uint8 (H, W, 3); changed.
        area: bool, of any size; no part of it is lost where it is larger than the picture.
        thin: width of the line in pixels; None for one that fits the picture.

    Returns:
        How many rings were drawn: a hundred at most, around the largest.
    """
    thin = thin or _line_width(picture)
    radius = 6 * thin
    small = _pooled(area, (picture.shape[1], picture.shape[0]))
    _, labels, stats, centres = cv2.connectedComponentsWithStats(small, connectivity=8)
    tiny = stats[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].max(1) <= radius
    tiny[0] = True
    outline(picture, ~tiny[labels], LIMIT_LINE, thin)
    order = np.argsort(-stats[:, cv2.CC_STAT_AREA], kind="stable").tolist()
    ringed: list[int] = [at for at in order if at and tiny[at]][:_MOST_RINGS]
    for width, colour in ((thin + 2, (0, 0, 0)), (thin, LIMIT_LINE)):
        for at in ringed:
            x, y = np.rint(centres[at]).astype(int).tolist()
            cv2.circle(picture, (x, y), radius, colour, width, cv2.LINE_AA)
    return len(ringed)


def _line_width(picture: np.ndarray) -> int:
    longer: int = max(picture.shape[:2])
    return max(1, round(longer / 400))


def _pooled(area: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 (H, W): 1 where any pixel of an area (h, w) lies, for a size of W and H pixels."""
    pixels = np.asarray(area).astype(np.uint8, copy=False)
    for axis, length in enumerate(size[::-1]):
        if pixels.shape[axis] > length:
            starts = np.arange(length) * pixels.shape[axis] // length
            pixels = np.maximum.reduceat(pixels, starts, axis=axis)
    return cv2.resize(pixels, size, interpolation=cv2.INTER_NEAREST)


def widened(mask: np.ndarray, size: tuple[int, int], pixels: int) -> np.ndarray:
    """The area of a mask and what lies around it, for an outline that hides no thin crack.

    Args:
        mask: bool, of any size.
        size: width and height of the result.
        pixels: side of the square that every pixel of the mask is widened to.

    Returns:
        bool (height, width).
    """
    area = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
    return cv2.dilate(area.astype(np.uint8), np.ones((pixels, pixels), np.uint8)) > 0


def fitted(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Width and height with the same proportions and ``side`` as the longer of the two."""
    scale = side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def stretched(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map (h, w) as float32 (H, W) for a size of W and H pixels; made smaller by averages."""
    smaller = values.shape[0] > size[1] and values.shape[1] > size[0]
    way = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return cv2.resize(np.asarray(values, np.float32), size, interpolation=way)


def _joined(first: Image.Image, second: Image.Image, gap: int, stacked: bool) -> Image.Image:
    """Two pictures side by side, or one below the other, on white paper."""
    x, y = (0, first.height + gap) if stacked else (first.width + gap, 0)
    size = max(first.width, x + second.width), max(first.height, y + second.height)
    page = Image.new("RGB", size, _PAPER)
    page.paste(first)
    page.paste(second, (x, y))
    return page


def _with_colour_bar(
    panel: Image.Image,
    points: int,
    limits: tuple[float, float],
    threshold: float | None,
    colour_map: str = COLOUR_MAP,
) -> Image.Image:
    bar = _colour_bar(max(panel.height, 8 * points), points, limits, threshold, colour_map)
    return _joined(panel, bar, 0, stacked=False)


@lru_cache(maxsize=64)
def _colour_bar(
    height: int,
    points: int,
    limits: tuple[float, float],
    threshold: float | None,
    colour_map: str,
) -> Image.Image:
    """The bar with its ticks, as the colours look over middle grey; white paper around it."""
    font, (low, high) = label_font(points), limits
    marks = [low + (high - low) * k / 5 for k in range(6)]
    labels = [f"{mark:.3g}" for mark in marks]
    wide = max(round(font.getlength(label)) for label in labels)
    left, top, bottom = points, points // 2 + 1, height - points // 2 - 2
    bar = Image.new("RGB", (left + 2 * points + wide + points // 2, height), _PAPER)
    ramp = np.linspace(high, low, bottom - top + 1, dtype=np.float32)[:, None]
    grey = np.full((bottom - top + 1, points, 3), _MIDDLE_GREY, np.uint8)
    colours = blend(grey, np.repeat(ramp, points, axis=1), limits, colour_map)
    bar.paste(Image.fromarray(colours), (left, top))
    draw = ImageDraw.Draw(bar)
    draw.rectangle((left, top, left + points, bottom), outline=_INK)
    for mark, label in zip(marks, labels, strict=True):
        y = bottom - (bottom - top) * (mark - low) / (high - low)
        draw.line((left + points, y, left + points + points // 3, y), _INK)
        draw.text((left + points + points // 2, y), label, _INK, font, anchor="lm")
    if threshold is not None:
        place, beyond = bar_mark(threshold, limits)
        y, x, half = bottom - (bottom - top) * place, left - 2, points // 3
        if beyond:
            tip, tail = y - beyond * half, y + beyond * half
            draw.polygon([(x - half, tip), (x - 2 * half, tail), (x, tail)], _INK)
        else:
            draw.line((left, y, left + points, y), LIMIT_LINE, 2)
            draw.polygon([(x, y), (x - half, y - half), (x - half, y + half)], _INK)
    return bar


def _page(
    body: Image.Image,
    title: str,
    note: str,
    legend: list[tuple[str, tuple[int, int, int]]],
    points: int,
) -> Image.Image:
    """The panels, title and note above them, legend below."""
    gap, line, font = points // 2, 2 * points, label_font(points)
    head, foot = (line if title or note else gap), (line if legend else gap)
    size = (max(body.width + 2 * gap, 20 * points), body.height + head + foot)
    page = Image.new("RGB", size, _PAPER)
    page.paste(body, (gap, head))
    draw, width = ImageDraw.Draw(page), page.width - 2 * gap
    note = shorten(note, font, width)
    room = width - font.getlength(note) - (points if note else 0)
    draw.text((gap, points), shorten(title, font, room), _INK, font, anchor="lm")
    draw.text((gap + width, points), note, _INK, font, anchor="rm")
    x, middle = float(gap), page.height - foot + points // 2 + points // 2
    for label, colour in legend:
        draw.line((x, middle, x + 2 * points, middle), _INK, 5)
        draw.line((x + 1, middle, x + 2 * points - 1, middle), colour, 3)
        draw.text((x + 2.5 * points, middle), label, _INK, font, anchor="lm")
        x += 4 * points + font.getlength(label)
    return page


def plain_text(text: str) -> str:
    """Text without control characters, and without the bytes of a file name that are not UTF-8."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(character if character >= " " else " " for character in text)


def shorten(text: str, font: Font, room: float) -> str:
    """Leave out the middle: a file name's extension says as much as its beginning."""
    if font.getlength(text) <= room:
        return text
    for kept in range(min(len(text) - 1, 400), 1, -1):
        short = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
        if font.getlength(short) <= room:
            return short
    return ""


@lru_cache(maxsize=16)
def label_font(points: int) -> Font:
    """DejaVu Sans, which comes with matplotlib; else Pillow's own font."""
    from matplotlib import get_data_path

    path = Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    if path.is_file():
        return ImageFont.truetype(str(path), points)
    return ImageFont.load_default(points)
