"""Makers of metal parts: nuts, screws, gears, coins, clips (see solids.py)."""

from __future__ import annotations

import math

import numpy as np

from bayes_pfl.rendering.metals import metal_tone
from bayes_pfl.rendering.noise import Rng, axes, fbm, pick, smoothstep, white
from bayes_pfl.rendering.scene import (
    Light,
    any_colour,
    draw_part,
    hsv,
    mix,
    paint,
    rotate_stamp,
    text_stamp,
)
from bayes_pfl.rendering.solids import (
    Item,
    box,
    cover,
    disc,
    dome,
    polygon,
    rod,
    shade,
    speckled,
)


def hex_nut(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A hexagonal nut."""
    x, y = axes(p, angle)
    bore = style.uniform(0.36, 0.55)
    outer = polygon(x, y, 6, 0.82)
    inner = np.float32(bore) - np.sqrt(x * x + y * y)
    distance = np.maximum(np.maximum(outer, disc(x, y, 0.94)), inner)
    flat = dome(outer, style.uniform(0.08, 0.3)) + 0.4 * dome(inner, 0.08)
    colours = speckled(rng, p, metal_tone(style), 0.04, 0.05)
    colours = shade(colours, flat * np.float32(0.08 * p), light, style.uniform(0, 0.4))
    thread = np.sin(inner * np.float32(style.uniform(50, 90))) * smoothstep(-0.12, -0.02, inner)
    colours *= (1 + 0.25 * thread)[..., None]
    if style.random() < 0.3:
        rings = np.sin(np.sqrt(x * x + y * y) * np.float32(style.uniform(60, 140)))
        colours *= (1 + 0.06 * rings)[..., None]
    return Item(colours, cover(distance))


def washer(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A flat ring."""
    x, y = axes(p, angle)
    bore = style.uniform(0.3, 0.65)
    distance = np.maximum(disc(x, y, 0.93), np.float32(bore) - np.sqrt(x * x + y * y))
    teeth = style.random() < 0.3
    if teeth:
        reach = 0.85 + 0.08 * np.sin(np.arctan2(y, x) * int(style.integers(8, 18)))
        distance = np.maximum(
            np.sqrt(x * x + y * y) - reach, np.float32(bore) - np.sqrt(x * x + y * y)
        )
    brush = fbm(rng, p, 0.02, 2, 0.7, 20, angle)
    value = 1 + np.float32(style.uniform(0, 0.1)) * brush + 0.03 * white(rng, p)
    colours = paint(
        value, metal_tone(style) if style.random() < 0.7 else any_colour(style, 0.7, 0.1, 0.8)
    )
    colours = shade(
        colours, dome(distance, style.uniform(0.03, 0.15)) * np.float32(0.06 * p), light, 0.2
    )
    return Item(colours, cover(distance))


def gear(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A gear wheel."""
    x, y = axes(p, angle)
    teeth, depth = int(style.integers(9, 32)), style.uniform(0.08, 0.2)
    theta, radius = np.arctan2(y, x), np.sqrt(x * x + y * y)
    edge = smoothstep(-0.35, 0.35, np.sin(theta * teeth))
    distance = radius - (0.94 - np.float32(depth) * (1 - edge))
    distance = np.maximum(distance, np.float32(style.uniform(0.12, 0.3)) - radius)
    hub = style.uniform(0.4, 0.65)
    if style.random() < 0.5:
        spokes = int(style.integers(3, 7))
        reach = 0.5 * (hub + 0.3)
        turn = (theta * spokes / (2 * math.pi)) % 1.0
        window = np.sqrt(
            ((turn - 0.5) * radius * 5 / spokes * 2) ** 2 + (radius - np.float32(reach)) ** 2
        )
        distance = np.maximum(distance, np.float32(0.11) - window)
    height = dome(distance, 0.05) + 0.6 * smoothstep(hub + 0.03, hub - 0.03, radius)
    tone = metal_tone(style) if style.random() < 0.6 else any_colour(style, 0.6, 0.08, 0.95)
    colours = speckled(rng, p, tone, 0.04, 0.05)
    return Item(
        shade(colours, height * np.float32(0.06 * p), light, style.uniform(0, 0.3)), cover(distance)
    )


def screw(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A screw, seen from the side."""
    x, y = axes(p, angle)
    head_at, radius = -0.72, style.uniform(0.09, 0.16)
    taper = np.clip((0.95 - x) * np.float32(pick(style, [2.5, 30.0])), 0, 1)
    thread = 0.16 * np.abs(((x * np.float32(style.uniform(7, 16)) + 0.15 * y) % 1.0) - 0.5)
    plain = style.uniform(-0.6, 0.1)
    reach = np.float32(radius) * taper * (1 - thread * (x > plain) * 2)
    shaft = np.maximum(np.abs(y) - reach, np.abs(x - 0.12) - 0.83)
    width = radius * style.uniform(1.8, 2.6)
    head = np.maximum(
        np.abs(y) - np.float32(width) * np.clip((x * 0 - 0.55 - x) * 6, 0, 1),
        np.abs(x + 0.78) - 0.15,
    )
    distance = np.minimum(shaft, head)
    across = np.clip(y / np.where(x < head_at + 0.1, np.float32(width), np.float32(radius)), -1, 1)
    height = (
        np.sqrt(1 - across * across + 0.01) * np.float32(0.1 * p) * (1 - 2 * thread * (x > plain))
    )
    colours = shade(
        speckled(rng, p, metal_tone(style), 0.04, 0.04), height, light, style.uniform(0.1, 0.5)
    )
    colours *= (1 - 1.6 * thread * (x > plain))[..., None]
    return Item(colours, cover(distance))


def bolt(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A bolt, seen from the side."""
    x, y = axes(p, angle)
    radius = style.uniform(0.13, 0.22)
    shaft, head = box(x - 0.15, y, 0.78, radius, 0.03), box(x + 0.72, y, 0.2, radius * 1.9, 0.04)
    pitch, start = style.uniform(9, 20), style.uniform(-0.4, 0.4)
    thread = np.sin((x + 0.1 * y) * np.float32(pitch * 2 * math.pi)) * (x > start)
    shaft = shaft + 0.018 * thread
    facets = np.abs(y / np.float32(radius * 1.9))
    lens = np.sqrt(np.clip(1 - (y / np.float32(radius)) ** 2, 0.02, 1))
    height = np.where(
        x < -0.52, 0.9 - 0.5 * (facets > 0.5) * (facets - 0.5), lens * (1 + 0.15 * thread)
    )
    tone = metal_tone(style) if style.random() < 0.8 else hsv(0.1, 0.1, 0.12)
    colours = shade(
        speckled(rng, p, tone, 0.04, 0.05),
        height * np.float32(0.1 * p),
        light,
        style.uniform(0, 0.4),
    )
    colours *= (1 + 0.18 * thread)[..., None]
    return Item(colours, cover(np.minimum(shaft, head)))


def coin(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A coin with a rim and letters."""
    x, y = axes(p, angle)
    radius = np.sqrt(x * x + y * y)
    rim = smoothstep(0.82, 0.85, radius)
    figure = smoothstep(0.1, 0.4, fbm(style, p, 0.25, 4, 0.55)) * smoothstep(0.62, 0.5, radius)
    beads = smoothstep(
        0.2, 0.6, np.sin(np.arctan2(y, x) * int(style.integers(40, 80)))
    ) * smoothstep(0.03, 0.01, np.abs(radius - 0.77))
    colours = speckled(rng, p, metal_tone(style), 0.03, 0.06)
    stamp = np.zeros((p, p, 1), np.float32)
    word = rotate_stamp(text_stamp(style, 0.16 * p, 4), angle)
    draw_part(
        stamp,
        np.ones(1, np.float32),
        word,
        int(0.5 * p - word.shape[0] / 2),
        int(0.5 * p - word.shape[1] / 2),
    )
    height = rim + 0.7 * figure + beads + 0.8 * stamp[..., 0]
    return Item(shade(colours, height * np.float32(0.02 * p), light, 0.2), cover(disc(x, y, 0.94)))


def bearing(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A ball bearing."""
    x, y = axes(p, angle)
    radius, theta = np.sqrt(x * x + y * y), np.arctan2(y, x)
    bore, groove, half = (
        style.uniform(0.28, 0.4),
        style.uniform(0.62, 0.68),
        style.uniform(0.08, 0.13),
    )
    distance = np.maximum(radius - np.float32(0.94), np.float32(bore) - radius)
    inside = smoothstep(half + 0.02, half, np.abs(radius - np.float32(groove)))
    balls = int(style.integers(7, 13))
    turn = theta * balls / (2 * math.pi)
    turn = (turn - np.round(turn)) * (2 * math.pi / balls) * np.float32(groove)
    ball = 1 - np.sqrt(turn**2 + (radius - np.float32(groove)) ** 2) / np.float32(half * 1.1)
    colours = speckled(rng, p, metal_tone(style), 0.03, 0.03)
    colours = shade(colours, dome(distance, 0.06) * np.float32(0.05 * p), light, 0.3)
    colours = mix(colours, colours * np.float32(style.uniform(0.1, 0.4)), inside)
    lump = paint(np.sqrt(np.clip(ball, 0, 1)) * 1.2, metal_tone(style))
    return Item(mix(colours, lump, smoothstep(0.0, 0.1, ball)), cover(distance))


def paper_clip(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A bent wire: paper clip, hook or ring."""
    x, y = axes(p, angle)
    thick = style.uniform(0.05, 0.09)
    outer = np.abs(rod(x, y, 0.5, 0.38)) - np.float32(thick)
    inner = np.abs(rod(x - 0.12, y, 0.36, 0.18)) - np.float32(thick)
    distance = np.minimum(outer, np.where(x > -0.35, inner, 1.0))
    height = np.sqrt(np.clip(-distance / np.float32(thick), 0, 1)) * np.float32(0.05 * p)
    tone = metal_tone(style) if style.random() < 0.6 else any_colour(style, 0.9, 0.2, 0.9)
    return Item(shade(speckled(rng, p, tone, 0.02, 0.02), height, light, 0.5), cover(distance))
