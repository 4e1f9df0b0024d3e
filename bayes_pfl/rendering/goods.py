"""Makers of household things: caps, bottles, buttons, plates, candles, lenses (see solids.py)."""

from __future__ import annotations

import math

import numpy as np

from bayes_pfl.rendering.noise import Field, Rng, axes, fbm, pick, smoothstep, white
from bayes_pfl.rendering.scene import (
    Light,
    Part,
    any_colour,
    draw_part,
    hsv,
    mix,
    paint,
    rgb,
    rotate_stamp,
    text_stamp,
    vary,
)
from bayes_pfl.rendering.solids import Item, cover, disc, dome, rod, shade, speckled


def stamp_mark(
    style: Rng,
    rng: Rng,
    colours: np.ndarray,
    angle: float,
    tall: float,
    letters: int,
    tone: np.ndarray,
) -> list[Part]:
    """Print one word at the middle of an item; returned as a part that a print error can spoil."""
    p = colours.shape[0]
    stamp = rotate_stamp(text_stamp(style, tall * p, letters), angle)
    top, left = (p - stamp.shape[0]) // 2, (p - stamp.shape[1]) // 2
    part = draw_part(colours, tone, stamp * np.float32(style.uniform(0.6, 1)), top, left)
    if part is None:
        return []
    part.kind = "print"
    return [part]


def bottle_cap(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A crown cap with a crimped edge."""
    x, y = axes(p, angle)
    count, theta = int(style.integers(17, 26)), np.arctan2(y, x)
    radius = np.sqrt(x * x + y * y)
    distance = radius - (0.9 + 0.045 * np.sin(theta * count))
    crimp = np.sin(theta * count) * smoothstep(0.7, 0.9, radius)
    height = dome(distance, 0.3) + 0.15 * crimp
    colours = speckled(rng, p, any_colour(style, 0.9, 0.15, 0.95), 0.015, 0.02)
    if style.random() < 0.7:
        ring = smoothstep(0.02, 0.0, np.abs(radius - np.float32(style.uniform(0.4, 0.66))) - 0.02)
        colours = mix(colours, any_colour(style, 0.8, 0.2, 1), ring)
    colours = shade(colours, height * np.float32(0.1 * p), light, style.uniform(0.1, 0.5))
    ink, tall = any_colour(style, 0.8, 0.05, 1.0), style.uniform(0.12, 0.3)
    parts = stamp_mark(style, rng, colours, angle, tall, int(style.integers(2, 5)), ink)
    return Item(colours, cover(distance), parts)


def bottle_mouth(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A bottle seen from above: rings of light and dark glass."""
    x, y = axes(p, angle)
    radius, theta = np.sqrt(x * x + y * y), np.arctan2(y, x)
    tone = hsv(style.uniform(0.05, 0.45), style.uniform(0.1, 0.7), style.uniform(0.3, 0.8))
    table = style.uniform(0.05, 1.0, 14).astype(np.float32)
    value = np.interp(radius, np.linspace(0, 0.95, 14), table).astype(np.float32)
    glow = np.exp(-(((radius - np.float32(style.uniform(0.6, 0.85))) / 0.03) ** 2))
    arcs = 0.6 + 0.4 * np.cos(theta * int(style.integers(1, 4)) + np.float32(rng.uniform(0, 6)))
    colours = paint(value + 0.01 * white(rng, p), tone) + (0.8 * glow * arcs)[..., None]
    return Item(colours, cover(radius - np.float32(0.93)))


def button(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A button with two or four holes."""
    x, y = axes(p, angle)
    radius = np.sqrt(x * x + y * y)
    holes, at = int(pick(style, [2, 4])), style.uniform(0.16, 0.26)
    distance = radius - np.float32(0.93)
    for k in range(holes):
        turn = 2 * math.pi * (k + 0.5) / holes
        distance = np.maximum(
            distance, 0.085 - np.hypot(x - at * math.cos(turn), y - at * math.sin(turn))
        )
    rim = np.exp(-(((radius - np.float32(style.uniform(0.6, 0.78))) / 0.07) ** 2))
    tone = any_colour(style, 0.9, 0.08, 0.95)
    value = 1 + np.float32(style.uniform(0, 0.15)) * fbm(rng, p, 0.3, 4, 0.6, 3, angle)
    height = dome(distance, 0.08) - 0.5 * rim
    return Item(
        shade(paint(value, tone), height * np.float32(0.07 * p), light, style.uniform(0, 0.5)),
        cover(distance),
    )


def lens(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A coated lens in its ring."""
    x, y = axes(p, angle)
    radius = np.sqrt(x * x + y * y)
    inner = style.uniform(0.62, 0.82)
    tint = hsv(style.random(), style.uniform(0.2, 0.8), style.uniform(0.1, 0.5))
    glass = paint(0.6 + 0.6 * smoothstep(1.0, 0.0, radius), tint)
    for _ in range(int(style.integers(1, 4))):
        at = style.uniform(-0.35, 0.35, 2)
        spot = np.exp(
            -((np.hypot(x - at[0], y - at[1]) / np.float32(style.uniform(0.05, 0.25))) ** 2)
        )
        glass = glass + spot[..., None] * any_colour(style, 0.7, 0.3, 0.8)
    knurl = np.sin(np.arctan2(y, x) * int(style.integers(40, 120)))
    ring = paint(
        1 + np.float32(style.uniform(0, 0.15)) * knurl, hsv(0.6, 0.05, style.uniform(0.08, 0.5))
    )
    ring = shade(
        ring,
        dome(np.maximum(radius - 0.94, inner - radius), 0.08) * np.float32(0.05 * p),
        light,
        0.2,
    )
    seen: Field = smoothstep(inner + 0.015, inner - 0.005, radius)
    return Item(mix(ring, glass, seen), cover(disc(x, y, 0.94)))


def plate(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A glazed dish with painted rings."""
    x, y = axes(p, angle)
    radius = np.sqrt(x * x + y * y)
    colours = speckled(
        rng,
        p,
        vary(style, rgb(0.92, 0.91, 0.88))
        if style.random() < 0.6
        else any_colour(style, 0.6, 0.3, 0.9),
        0.008,
        0.015,
    )
    for _ in range(int(style.integers(0, 4))):
        line = np.abs(radius - np.float32(style.uniform(0.3, 0.9))) - np.float32(
            style.uniform(0.004, 0.03)
        )
        colours = mix(colours, any_colour(style, 0.9, 0.1, 0.8), smoothstep(0.01, 0.0, line))
    if style.random() < 0.4:
        motif = smoothstep(
            0.3, 0.6, np.sin(np.arctan2(y, x) * int(style.integers(6, 20))) * np.sin(radius * 40)
        )
        colours = mix(
            colours, any_colour(style, 0.9, 0.1, 0.8), motif * smoothstep(0.68, 0.72, radius)
        )
    well = smoothstep(0.55, 0.68, radius) + dome(radius - 0.94, 0.04)
    return Item(
        shade(colours, well * np.float32(0.05 * p), light, style.uniform(0, 0.4)),
        cover(radius - 0.94),
    )


def candle(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A tea light from above: cup, wax, wick."""
    x, y = axes(p, angle)
    radius = np.sqrt(x * x + y * y)
    wax = any_colour(style, 0.7, 0.5, 0.97)
    colours = speckled(rng, p, wax, 0.015, 0.04)
    mottle = fbm(rng, p, 0.06, 3, 0.7) * np.float32(style.uniform(0, 0.05))
    colours = colours * (1 + mottle)[..., None]
    height = dome(radius - 0.93, 0.1) + 0.3 * np.exp(-((radius / 0.25) ** 2))
    colours = shade(colours, height * np.float32(0.06 * p), light, 0.15)
    cup = paint(1 + 0.1 * np.sin(np.arctan2(y, x) * 60), rgb(0.7, 0.7, 0.72))
    colours = mix(colours, cup, smoothstep(0.84, 0.87, radius))
    wick = rod(x - 0.08 * math.cos(angle), y, 0.1, 0.03)
    return Item(mix(colours, rgb(0.15, 0.13, 0.12), cover(wick)), cover(disc(x, y, 0.94)))
