"""Scenes before the camera: light, layers and parts, and how they are put together."""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass, field

import cv2
import numpy as np

from bayes_pfl.rendering.noise import Field, Rng, axes, fbm, pick, smoothstep

Colour = np.ndarray
"""float32 (3,), RGB in [0, 1]."""


@dataclass(frozen=True)
class Light:
    """A distant lamp: unit direction in the picture's plane, and how low it stands (0 to 1)."""

    x: float
    y: float
    raking: float

    @classmethod
    def draw(cls, rng: Rng) -> Light:
        """A lamp at random."""
        turn = rng.uniform(0, 2 * math.pi)
        return cls(math.cos(turn), math.sin(turn), float(rng.uniform(0.3, 1.0)))


@dataclass
class Part:
    """Something with a place of its own in the picture, and what would be seen without it.

    ``box`` is (top, left, bottom, right) in pixels, ``alpha`` (h, w) in [0, 1],
    ``without`` (h, w, 3) the picture there before the part was drawn.
    """

    box: tuple[int, int, int, int]
    alpha: Field
    without: np.ndarray
    kind: str = "part"


@dataclass
class Scene:
    """A picture without defect, and all that the drawing of a defect needs.

    image       (S, S, 3) float32, before lighting; may leave [0, 1] a little
    where       (S, S) in [0, 1], the inspected thing (all ones for a surface)
    background  (S, S, 3), behind the thing
    lighting    (S, S) factor applied last, both to the clean and to the defective picture
    parts       things with a place of their own, which a defect may move or remove
    direction   radians, along which the material is drawn out (grain, brush marks)
    grey        whether it is a scan without colour
    surface     whether it is a surface that fills the picture
    """

    image: np.ndarray
    where: Field
    background: np.ndarray
    light: Light
    lighting: Field | np.float32 | None = None
    parts: list[Part] = field(default_factory=list)
    direction: float = 0.0
    grey: bool = False
    surface: bool = True

    @property
    def size(self) -> int:
        """S, the side of the picture in pixels."""
        return self.image.shape[0]

    @property
    def unit(self) -> float:
        """How many pixels one pixel of a picture of side 256 is here."""
        return self.size / 256.0

    def dim(self, factor: Field | np.float32) -> None:
        """Multiply the lighting by a factor, a number or (S, S)."""
        self.lighting = factor if self.lighting is None else self.lighting * factor

    def lit(self, image: np.ndarray) -> np.ndarray:
        """An (S, S, 3) picture under the scene's lighting."""
        return image if self.lighting is None else image * thrice(self.lighting)

    def colour_at(self, row: int, column: int, radius: int) -> Colour:
        """Mean colour near a pixel."""
        rows = slice(max(0, row - radius), row + radius + 1)
        columns = slice(max(0, column - radius), column + radius + 1)
        return self.image[rows, columns].reshape(-1, 3).mean(0)


def rgb(red: float, green: float, blue: float) -> Colour:
    """Red, green and blue in [0, 1]."""
    return np.array([red, green, blue], np.float32)


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """Hue in turns (wraps), saturation and value in [0, 1]."""
    return np.array(colorsys.hsv_to_rgb(hue % 1.0, saturation, value), np.float32)


def any_colour(rng: Rng, saturation: float = 0.9, low: float = 0.08, high: float = 0.95) -> Colour:
    """A random colour of at most ``saturation``, of a value from ``low`` to ``high``."""
    return hsv(rng.random(), saturation * rng.random() ** 1.3, rng.uniform(low, high))


def vary(rng: Rng, colour: Colour, amount: float = 0.06) -> Colour:
    """The same colour, a little lighter or darker, and a little off in hue."""
    shift = rng.normal(0, amount) + rng.normal(0, 0.35 * amount, 3)
    return np.clip(colour + shift, 0.01, 1.0).astype(np.float32)


def thrice(field: Field | np.float32) -> np.ndarray:
    """An (S, S) field as (S, S, 3); much faster than broadcasting over a last axis of three."""
    field = np.ascontiguousarray(field, np.float32)
    return cv2.merge([field, field, field])


def paint(value: Field, colour: Colour) -> np.ndarray:
    """An (S, S) brightness times one colour."""
    return cv2.merge([np.ascontiguousarray(value * np.float32(c), np.float32) for c in colour])


def mix(low: Colour | np.ndarray, high: Colour | np.ndarray, weight: Field) -> np.ndarray:
    """Blend two colours, or pictures, by an (S, S) weight (0 gives ``low``)."""
    if high.ndim == 1 and high.shape[0] == 3:
        part = paint(weight, high)
        return part + (paint(1 - weight, low) if low.ndim == 1 else low * thrice(1 - weight))
    if low.ndim == 1:
        return paint(1 - weight, low) + high * thrice(weight)
    if low.shape[2] != 3:
        return low + weight[..., None] * (high - low)
    return low + thrice(weight) * (high - low)


def peak(image: np.ndarray) -> Field:
    """Largest of the three channels, (S, S)."""
    red, green, blue = cv2.split(np.ascontiguousarray(image))
    return np.maximum(np.maximum(red, green), blue)


def slope(height: Field, light: Light) -> Field:
    """How much a height field (in pixels) leans towards the lamp; about [-1, 1]."""
    height = np.asarray(height, np.float32)
    gx = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=0.125)
    gy = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=0.125)
    return -(np.float32(light.x) * gx + np.float32(light.y) * gy)


def relief(height: Field, light: Light, depth: float = 1.0) -> Field:
    """Brightness factor around 1 of a bumpy surface under a raking lamp."""
    return 1.0 + np.clip(slope(height, light) * np.float32(depth * light.raking), -0.8, 1.2)


def uneven_light(rng: Rng, size: int, light: Light, strength: float = 1.0) -> Field:
    """Slow changes of light over the picture; at times the edge of a shadow or a reflection."""
    x, y = axes(size)
    amount = strength * rng.uniform(0.0, 0.3)
    lighting = 1.0 - np.float32(amount) * (np.float32(light.x) * x + np.float32(light.y) * y)
    if rng.random() < 0.5:
        lighting += np.float32(strength * rng.uniform(0.02, 0.12)) * fbm(rng, size, 0.6, 2)
    if rng.random() < 0.15:
        lighting *= cast_shadow(rng, size)
    if rng.random() < 0.15:
        lighting += bright_patch(rng, size, strength)
    return np.clip(lighting, 0.25, 1.8).astype(np.float32)


def cast_shadow(rng: Rng, size: int) -> Field:
    """The soft shadow of something outside the picture; it is never a defect."""
    along, _ = axes(size, rng.uniform(0, 2 * math.pi))
    edge = along + np.float32(rng.uniform(0.0, 0.15)) * fbm(rng, size, 0.5, 1)
    place, soft = rng.uniform(-0.7, 0.9), rng.uniform(0.02, 0.5)
    return 1.0 - np.float32(rng.uniform(0.15, 0.5)) * smoothstep(place, place + soft, edge)


def bright_patch(rng: Rng, size: int, strength: float) -> Field:
    """The soft reflection of a lamp or a window."""
    x, y = axes(size, rng.uniform(0, math.pi), tuple(rng.uniform(-0.9, 0.9, 2)))
    a, b = rng.uniform(0.2, 0.9), rng.uniform(0.1, 0.4)
    glow = np.exp(-((x / np.float32(a)) ** 2 + (y / np.float32(b)) ** 2))
    return np.float32(strength * rng.uniform(0.1, 0.5)) * glow


def draw_part(
    image: np.ndarray, part_rgb: np.ndarray, alpha: Field, top: int, left: int
) -> Part | None:
    """Lay a small picture over ``image`` in place; None if it falls wholly outside."""
    high, wide = image.shape[:2]
    y0, x0 = max(0, top), max(0, left)
    y1, x1 = min(high, top + alpha.shape[0]), min(wide, left + alpha.shape[1])
    if y1 - y0 < 2 or x1 - x0 < 2:
        return None
    inner = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
    without = image[y0:y1, x0:x1].copy()
    alpha = np.asarray(alpha, np.float32)
    weight = np.ascontiguousarray(alpha[inner])
    image[y0:y1, x0:x1] = mix(without, part_rgb[inner] if part_rgb.ndim == 3 else part_rgb, weight)
    return Part((y0, x0, y1, x1), weight, without)


def text_stamp(rng: Rng, height_px: float, letters: int) -> Field:
    """Coverage of a printed word of random capitals and figures, about ``height_px`` tall."""
    signs = "ABCDEFGHKLMNPRSTUVXYZ0123456789-"
    word = "".join(signs[i] for i in rng.integers(0, len(signs), letters))
    font = int(pick(rng, [cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX]))
    scale, thick = height_px / 22.0, max(1, round(height_px / 9))
    (width, tall), base = cv2.getTextSize(word, font, scale, thick)
    canvas = np.zeros((tall + base + 4, width + 4), np.uint8)
    cv2.putText(canvas, word, (2, tall + 2), font, scale, 255, thick, cv2.LINE_AA)
    return canvas.astype(np.float32) * np.float32(1 / 255)


def rotate_stamp(stamp: Field, angle: float) -> Field:
    """Turn a small coverage picture, growing its frame to hold it."""
    height, width = stamp.shape
    c, s = abs(math.cos(angle)), abs(math.sin(angle))
    wide, high = int(width * c + height * s) + 2, int(width * s + height * c) + 2
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), -math.degrees(angle), 1.0)
    matrix[:, 2] += (wide / 2 - width / 2, high / 2 - height / 2)
    return cv2.warpAffine(stamp, matrix, (wide, high), flags=cv2.INTER_LINEAR)


def surface_scene(
    rng: Rng,
    image: np.ndarray,
    light: Light,
    direction: float = 0.0,
    parts: list[Part] | None = None,
) -> Scene:
    """A scene of a surface that fills the picture, or all of it except an edge."""
    size = image.shape[0]
    scene = Scene(
        image.astype(np.float32, copy=False),
        np.ones((size, size), np.float32),
        paint(np.ones((size, size), np.float32), any_colour(rng, 0.6, 0.02, 0.6)),
        light,
        uneven_light(rng, size, light),
        parts or [],
        direction,
    )
    return scene
