"""Makers of objects cut out of a material by an outline, bevelled, some with holes or letters."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from bayes_pfl.rendering.goods import stamp_mark
from bayes_pfl.rendering.noise import Field, Rng, axes, pick
from bayes_pfl.rendering.scene import Light, Scene, any_colour
from bayes_pfl.rendering.solids import (
    Item,
    box,
    cover,
    disc,
    dome,
    polygon,
    radial,
    rod,
    shade,
    wavy,
)

Outline = Callable[[Rng, Rng, Field, Field], Field]
"""(style, rng, x, y) -> signed distance; ``style`` and ``rng`` as of a maker of items."""
Material = Callable[[Rng, int], Scene]
_SMALLEST = 24  # pixels: materials are not drawn smaller


@dataclass(frozen=True)
class Cutting:
    """A maker of items that are cut out of one of some materials.

    materials   builders of surfaces
    outlines    of which one is taken for all items of a picture
    bevel       least and greatest width of the rounded edge
    thickness   of the item, in sides: how strongly its edge is lit
    bored       chance that it has holes
    lettered    chance that a word is printed on it
    """

    materials: Sequence[Material]
    outlines: Sequence[Outline]
    bevel: tuple[float, float] = (0.04, 0.3)
    thickness: float = 0.06
    bored: float = 0.0
    lettered: float = 0.0

    def __call__(self, style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
        x, y = axes(p, angle)
        distance = pick(style, self.outlines)(style, rng, x, y)
        if style.random() < self.bored:
            distance = _bore(style, distance, x, y)
        colours = _piece(pick(style, self.materials), style, rng, p, angle)
        height = dome(distance, style.uniform(*self.bevel)) * np.float32(self.thickness * p)
        colours = shade(colours, height, light, style.uniform(0, 0.3))
        parts = []
        if style.random() < self.lettered:
            tall, letters = style.uniform(0.1, 0.22), int(style.integers(2, 6))
            parts = stamp_mark(style, rng, colours, angle, tall, letters, any_colour(style))
        return Item(colours, cover(distance), parts)


def _piece(material: Material, style: Rng, rng: Rng, p: int, angle: float) -> np.ndarray:
    """A piece of the material that all items of a picture share, each from another place."""
    side = max(p, _SMALLEST)
    sheet = material(np.random.default_rng(int(style.integers(2**31))), side).image
    matrix: np.ndarray = cv2.getRotationMatrix2D((side / 2, side / 2), -math.degrees(angle), 1.0)
    matrix[:, 2] += rng.uniform(-0.4, 0.4, 2) * side
    return cv2.warpAffine(sheet, matrix, (p, p), borderMode=cv2.BORDER_REFLECT_101)


def _bore(style: Rng, distance: Field, x: Field, y: Field) -> Field:
    """One hole in the middle, or two to four around it."""
    count = int(style.integers(1, 5))
    reach = 0.0 if count == 1 else style.uniform(0.3, 0.5)
    radius, turn = style.uniform(0.06, 0.16), style.uniform(0, math.pi)
    for k in range(count):
        at = turn + 2 * math.pi * k / count
        hole = disc(x - reach * math.cos(at), y - reach * math.sin(at), radius)
        distance = np.maximum(distance, -hole)
    return distance


def block(style: Rng, rng: Rng, x: Field, y: Field) -> Field:
    """Square to oblong, its corners sharp to round."""
    return box(x, y, 0.88, style.uniform(0.35, 0.88), style.uniform(0, 0.3))


def bracket(style: Rng, rng: Rng, x: Field, y: Field) -> Field:
    """Two or three bars joined: an L, a T, a U or a cross."""
    wide = style.uniform(0.16, 0.3)
    bars = [box(x, y + 0.88 - wide, 0.88, wide, 0.04)]
    for at in pick(style, [(-0.88 + wide,), (0.0,), (-0.88 + wide, 0.88 - wide)]):
        bars.append(box(x - np.float32(at), y, wide, 0.88, 0.04))
    if style.random() < 0.3:
        bars[0] = box(x, y, 0.88, wide, 0.04)
    return np.minimum.reduce(bars)


def pebble(style: Rng, rng: Rng, x: Field, y: Field) -> Field:
    """A rounded lump, each of its own outline."""
    outline, squash = wavy(rng, style.uniform(0.02, 0.07)), np.float32(rng.uniform(1, 1.5))
    return radial(x, y * squash, lambda t: 0.82 + outline(t))


def facet(style: Rng, rng: Rng, x: Field, y: Field) -> Field:
    """A regular polygon of three to eight sides."""
    sides = int(style.integers(3, 9))
    return polygon(x, y, sides, 0.88 * math.cos(math.pi / sides))


def round_(style: Rng, rng: Rng, x: Field, y: Field) -> Field:
    """A disc or an ellipse."""
    return disc(x, y * np.float32(style.uniform(1, 1.8)), 0.9)


def bar(style: Rng, rng: Rng, x: Field, y: Field) -> Field:
    """Long, with round ends."""
    radius = style.uniform(0.12, 0.4)
    return rod(x, y, 0.9 - radius, radius)


def star(style: Rng, rng: Rng, x: Field, y: Field) -> Field:
    """A rosette: three to nine lobes."""
    lobes, depth = int(style.integers(3, 10)), style.uniform(0.06, 0.22)
    return radial(x, y, lambda t: 0.9 - depth + depth * np.sin(lobes * t))


def shard(style: Rng, rng: Rng, x: Field, y: Field) -> Field:
    """Cut by some straight edges at random, each piece otherwise."""
    turns = np.sort(rng.uniform(0, 2 * math.pi, int(rng.integers(5, 9))))
    sides = [
        x * math.cos(turn) + y * math.sin(turn) - np.float32(rng.uniform(0.5, 0.88))
        for turn in turns
    ]
    return np.maximum.reduce([*sides, disc(x, y, 0.95)])
