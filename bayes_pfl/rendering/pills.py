"""Makers of pills, capsules and sweets (see solids.py)."""

from __future__ import annotations

import numpy as np

from bayes_pfl.rendering.goods import stamp_mark
from bayes_pfl.rendering.noise import Rng, axes, fbm, grain, pick, scatter, smoothstep, white
from bayes_pfl.rendering.scene import Light, any_colour, mix, rgb, vary
from bayes_pfl.rendering.solids import (
    Item,
    box,
    cover,
    disc,
    dome,
    radial,
    rod,
    shade,
    speckled,
    wavy,
)


def tablet(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A pressed or coated pill: round or oval, with a score line, letters, or coloured specks."""
    x, y = axes(p, angle)
    oval = style.random() < 0.5
    distance = rod(x, y, 0.4, style.uniform(0.36, 0.5)) if oval else disc(x, y, 0.9)
    if oval and style.random() < 0.5:
        distance = radial(x, y * np.float32(1.6), lambda t: 0.92 + 0 * t)
    tone = (
        vary(style, rgb(0.93, 0.92, 0.9))
        if style.random() < 0.5
        else any_colour(style, 0.8, 0.4, 0.95)
    )
    height = dome(distance, style.uniform(0.15, 0.5))
    if style.random() < 0.4:
        height = height - 0.3 * np.exp(-((x / 0.04) ** 2))
    colours = speckled(rng, p, tone, 0.02, 0.02)
    if style.random() < 0.4:
        specks = scatter(rng, p, int(style.integers(20, 150)), 0.006 * p, 0.02 * p)
        colours = mix(
            colours, any_colour(style, 0.9, 0.2, 0.9), specks * np.float32(style.uniform(0.4, 0.9))
        )
    colours, parts = (
        shade(colours, height * np.float32(0.08 * p), light, style.uniform(0, 0.25)),
        [],
    )
    if style.random() < 0.6:
        ink = tone * np.float32(pick(style, [0.3, 0.75]))
        parts = stamp_mark(style, rng, colours, angle, style.uniform(0.14, 0.26), 3, ink)
    return Item(colours, cover(distance), parts)


def capsule(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A two-piece capsule, opaque or clear, with a seam, print and a long highlight."""
    x, y = axes(p, angle)
    radius = style.uniform(0.24, 0.34)
    seam = style.uniform(-0.1, 0.2)
    distance = rod(x, y, 0.92 - radius, radius) - np.where(
        x < seam, np.float32(0.012), np.float32(0)
    )
    left, right = any_colour(style, 0.95, 0.15, 1.0), any_colour(style, 0.9, 0.3, 1.0)
    colours = (
        mix(left, right, smoothstep(seam - 0.01, seam + 0.01, x))
        * (1 + 0.01 * white(rng, p))[..., None]
    )
    if style.random() < 0.3:
        powder = grain(rng, p, 0.05 * p)
        colours = colours * (1 + 0.18 * smoothstep(-0.3, 0.3, powder))[..., None]
    colours *= (1 - 0.35 * np.exp(-(((x - np.float32(seam)) / 0.012) ** 2)))[..., None]
    across = np.clip(y / np.float32(radius), -1, 1)
    height = np.sqrt(1 - across**2 + 0.01) * np.float32(radius * 0.45 * p)
    colours, parts = shade(colours, height, light, style.uniform(0.2, 0.8)), []
    if style.random() < 0.5:
        tall = style.uniform(0.12, 0.18)
        parts = stamp_mark(style, rng, colours, angle, tall, 4, rgb(0.1, 0.1, 0.1))
    return Item(colours, cover(distance), parts)


def lozenge(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A sweet or piece of gum: a soft-edged pillow."""
    x, y = axes(p, angle)
    outline = wavy(rng, 0.012)
    distance = box(x, y, 0.86, style.uniform(0.4, 0.8), style.uniform(0.15, 0.4)) - outline(
        np.arctan2(y, x)
    )
    tone = any_colour(style, 0.8, 0.35, 0.97)
    colours = speckled(rng, p, tone, 0.015, 0.03)
    dust = smoothstep(0.3, 1.4, fbm(rng, p, 0.08, 4, 0.7)) * np.float32(style.uniform(0, 0.4))
    colours = mix(colours, vary(style, rgb(0.95, 0.94, 0.92)), dust)
    height = dome(distance, style.uniform(0.2, 0.5)) * np.float32(0.1 * p)
    return Item(shade(colours, height, light, style.uniform(0, 0.5)), cover(distance))
