"""Objects: signed distances give outlines, heights give light, and items are laid on a ground.

An *item* is one object drawn on its own square canvas of ``p`` pixels, in coordinates [-1, 1].
Its maker takes ``(style, rng, p, angle, light)``: ``style`` is the same for all items of one
picture, so that several of them look like one kind; ``rng`` is what differs between them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np

from bayes_pfl.rendering.noise import Field, Rng, fbm, white
from bayes_pfl.rendering.scene import (
    Colour,
    Light,
    Part,
    Scene,
    draw_part,
    mix,
    paint,
    slope,
    uneven_light,
)


@dataclass
class Item:
    """One object on its own canvas: colours (p, p, 3), coverage (p, p), parts in canvas pixels."""

    colours: np.ndarray
    alpha: Field
    parts: list[Part] = field(default_factory=list)


Maker = Callable[[Rng, Rng, int, float, Light], Item]


def disc(x: Field, y: Field, radius: float) -> Field:
    """Signed distance to a circle: negative inside."""
    return np.sqrt(x * x + y * y) - np.float32(radius)


def box(x: Field, y: Field, half_x: float, half_y: float, round_: float = 0.0) -> Field:
    """Signed distance to a rectangle with rounded corners."""
    a, b = np.abs(x) - np.float32(half_x - round_), np.abs(y) - np.float32(half_y - round_)
    outside = np.sqrt(np.maximum(a, 0) ** 2 + np.maximum(b, 0) ** 2)
    return outside + np.minimum(np.maximum(a, b), 0) - np.float32(round_)


def rod(x: Field, y: Field, half: float, radius: float) -> Field:
    """Signed distance to a bar with round ends along x."""
    a = np.maximum(np.abs(x) - np.float32(half), 0)
    return np.sqrt(a * a + y * y) - np.float32(radius)


def polygon(x: Field, y: Field, sides: int, radius: float) -> Field:
    """Signed distance (exact at the flats) to a regular polygon of that inner radius."""
    sector = 2 * math.pi / sides
    theta = np.arctan2(y, x)
    theta = theta - np.float32(sector) * np.round(theta / np.float32(sector))
    return np.sqrt(x * x + y * y) * np.cos(theta) - np.float32(radius)


def radial(x: Field, y: Field, reach: Callable[[Field], Field]) -> Field:
    """Signed distance, roughly, to a star-shaped outline given as radius over angle."""
    return np.sqrt(x * x + y * y) - reach(np.arctan2(y, x))


def wavy(rng: Rng, roughness: float, first: int = 2, last: int = 7) -> Callable[[Field], Field]:
    """A random smooth periodic outline about 0: harmonics ``first`` .. ``last`` falling off."""
    orders = np.arange(first, last + 1)
    heights = rng.normal(0, 1, len(orders)) * roughness * (first / orders)
    phases = rng.uniform(0, 2 * math.pi, len(orders))
    table_at = np.linspace(-math.pi, math.pi, 512)
    table = (heights[:, None] * np.sin(orders[:, None] * table_at + phases[:, None])).sum(0)
    table = table.astype(np.float32)

    def outline(theta: Field) -> Field:
        return table[((theta + math.pi) * (511 / (2 * math.pi))).astype(np.int32)]

    return outline


def cover(distance: Field) -> Field:
    """Anti-aliased coverage of a signed distance drawn on a canvas of its own size."""
    return np.clip(0.5 - distance * np.float32(0.5 * distance.shape[0]), 0, 1)


def dome(distance: Field, bevel: float) -> Field:
    """Height in [0, 1] that rises as a quarter circle over ``bevel`` inside the outline."""
    t = np.clip(-distance * np.float32(1.0 / bevel), 0, 1)
    return np.sqrt(1.0 - (1.0 - t) ** 2 + 1e-6)


def shade(colours: np.ndarray, height_px: Field, light: Light, gloss: float = 0.0) -> np.ndarray:
    """Light a height field (pixels): soft diffuse term and, with ``gloss``, a highlight."""
    lean = slope(height_px, light) * np.float32(0.6 + 0.6 * light.raking)
    lit = colours * (1.0 + np.clip(lean, -0.75, 0.8))[..., None]
    if gloss > 0:
        shine = np.clip(1.0 - np.abs(lean - 0.45) * 5.0, 0, 1)
        lit = lit + (np.float32(gloss) * shine * shine)[..., None]
    return lit


def speckled(rng: Rng, p: int, colour: Colour, fine: float, coarse: float) -> np.ndarray:
    """One colour with pixel noise and slow clouds."""
    value = 1 + np.float32(fine) * white(rng, p) + np.float32(coarse) * fbm(rng, p, 0.3, 4)
    return paint(value, colour)


def crumbs(rng: Rng, image: np.ndarray, tone: Colour) -> None:
    """Loose bits on the background: clutter that is not a fault of the object."""
    size = image.shape[0]
    for x, y in rng.random((int(rng.integers(1, 9)), 2)) * size:
        radius = float(rng.uniform(0.6, 2.6)) * size / 256
        axes_px = (max(8, int(16 * radius)), max(8, int(16 * radius * rng.uniform(0.5, 1))))
        colour = tuple(float(c) for c in tone * rng.uniform(0.6, 1.2))
        centre = (int(16 * x), int(16 * y))
        cv2.ellipse(image, centre, axes_px, rng.uniform(0, 180), 0, 360, colour, -1, cv2.LINE_8, 4)


@dataclass(frozen=True)
class Layout:
    """How a kind of object is laid in the picture (fractions of the side)."""

    low: float = 0.5
    high: float = 0.95
    many: float = 0.15
    crumbs: float = 0.1


def lay(
    rng: Rng, size: int, maker: Maker, layout: Layout, ground: Callable[[Rng, int], np.ndarray]
) -> Scene:
    """A background with one object on it, or several of its kind, each with a shadow."""
    light, style_seed = Light.draw(rng), int(rng.integers(2**31))
    image = ground(rng, size)
    behind = image.copy()
    where = np.zeros((size, size), np.float32)
    parts: list[Part] = []
    base = rng.uniform(0, 2 * math.pi) if rng.random() < 0.6 else rng.normal(0, 0.05)
    for centre, extent in _places(rng, size, layout):
        style = np.random.default_rng(style_seed)
        angle = base + rng.normal(0, 0.1) if rng.random() < 0.5 else rng.uniform(0, 2 * math.pi)
        item = maker(style, rng, extent, float(angle), light)
        corner = int(centre[1] - extent / 2), int(centre[0] - extent / 2)
        if rng.random() < 0.75:
            _shadow(rng, image, behind, item.alpha, corner, light)
        _paste(item, image, where, parts, corner)
    if rng.random() < layout.crumbs:
        crumbs(rng, behind, image[where > 0.5].mean(0) if (where > 0.5).any() else behind[0, 0])
        image = mix(behind, image, (where > 0).astype(np.float32))
    return Scene(
        image, where, behind, light, uneven_light(rng, size, light, 0.7), parts, base, surface=False
    )


def _places(rng: Rng, size: int, layout: Layout) -> list[tuple[tuple[float, float], int]]:
    if rng.random() < layout.many:
        side = int(rng.integers(2, 4))
        pitch = size / side
        extent = int(pitch * rng.uniform(0.7, 0.98))
        room = 0.5 * (pitch - extent)
        middles = (np.arange(side) + 0.5) * pitch
        return [
            ((x + rng.uniform(-room, room), y + rng.uniform(-room, room)), extent)
            for x in middles
            for y in middles
            if rng.random() < 0.9
        ] or [((size / 2, size / 2), extent)]
    extent = int(size * rng.uniform(layout.low, layout.high))
    room = 0.5 * (size - extent) + 0.04 * size
    x, y = size / 2 + rng.uniform(-room, room, 2)
    return [((float(x), float(y)), extent)]


def _shadow(
    rng: Rng, image: np.ndarray, behind: np.ndarray, alpha: Field, corner: tuple, light: Light
) -> None:
    """Darken the ground beside the object, away from the lamp."""
    size, extent = image.shape[0], alpha.shape[0]
    reach = rng.uniform(0.01, 0.08) * extent
    soft = max(1.0, rng.uniform(0.3, 1.2) * reach)
    pad = int(reach + 2 * soft) + 1
    wide = cv2.copyMakeBorder(alpha, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=0)
    wide = cv2.GaussianBlur(wide, (0, 0), soft) * np.float32(rng.uniform(0.2, 0.75))
    top = corner[0] - pad - int(light.y * reach)
    left = corner[1] - pad - int(light.x * reach)
    y0, x0 = max(0, top), max(0, left)
    y1, x1 = min(size, top + wide.shape[0]), min(size, left + wide.shape[1])
    factor = 1 - wide[y0 - top : y1 - top, x0 - left : x1 - left, None]
    image[y0:y1, x0:x1] *= factor
    behind[y0:y1, x0:x1] *= factor


def _paste(item: Item, image: np.ndarray, where: Field, parts: list[Part], corner: tuple) -> None:
    """Lay the item down; its parts move into picture coordinates (wholly visible ones only)."""
    size = image.shape[0]
    drawn = draw_part(image, item.colours, item.alpha, *corner)
    if drawn is None:
        return
    top, left, bottom, right = drawn.box
    where[top:bottom, left:right] = np.maximum(where[top:bottom, left:right], drawn.alpha)
    for part in item.parts:
        y0, x0, y1, x1 = (v + corner[i % 2] for i, v in enumerate(part.box))
        if min(y0, x0) >= 0 and max(y1, x1) <= size:
            parts.append(Part((y0, x0, y1, x1), part.alpha, part.without, part.kind))
