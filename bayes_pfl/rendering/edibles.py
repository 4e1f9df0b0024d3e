"""Makers of food: baked things, nuts, pasta, fruit, leaves (see solids.py)."""

from __future__ import annotations

import numpy as np

from bayes_pfl.rendering.noise import (
    Rng,
    axes,
    fbm,
    grain,
    pick,
    ridges,
    scatter,
    smoothstep,
    white,
)
from bayes_pfl.rendering.scene import Light, hsv, mix, paint, relief, rgb, vary
from bayes_pfl.rendering.solids import Item, box, cover, dome, radial, shade, speckled, wavy


def baked_tone(rng: Rng) -> np.ndarray:
    """The colour of something baked."""
    return hsv(rng.uniform(0.07, 0.12), rng.uniform(0.35, 0.7), rng.uniform(0.5, 0.92))


def cookie(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A baked round with a crazed surface; with or without chips, sugar or a brown rim."""
    stretch = style.uniform(1.0, 1.25)
    x, y = axes(p, angle)
    outline, fine = (
        wavy(rng, style.uniform(0.01, 0.05)),
        wavy(rng, style.uniform(0.001, 0.012), 8, 30),
    )
    reach = np.float32(style.uniform(0.82, 0.9))
    distance = radial(x, y * np.float32(stretch), lambda t: reach + outline(t) + fine(t))
    crust = fbm(rng, p, style.uniform(0.08, 0.3), 5, style.uniform(0.35, 0.62))
    crazing = ridges(rng, p, style.uniform(0.12, 0.35), 5) if style.random() < 0.7 else 0 * crust
    height = dome(distance, style.uniform(0.2, 0.6)) * np.float32(0.1 * p)
    height = height + np.float32(style.uniform(0.002, 0.014) * p) * crust
    height = height - np.float32(style.uniform(0, 0.016) * p) * crazing
    tone = baked_tone(style) if style.random() < 0.85 else hsv(0.06, 0.5, 0.25)
    value = (
        1 + 0.05 * crust + 0.06 * grain(rng, p, 1.5) - np.float32(style.uniform(0, 0.25)) * crazing
    )
    colours = paint(value, tone)
    rim = smoothstep(-0.3, 0.02, distance) * np.float32(style.uniform(0, 0.6))
    colours = mix(colours, colours * rgb(0.75, 0.6, 0.45), rim)
    colours = shade(colours, height, light)
    if style.random() < 0.65:
        colours = _chips(style, rng, colours, light)
    return Item(colours, cover(distance))


def _chips(style: Rng, rng: Rng, colours: np.ndarray, light: Light) -> np.ndarray:
    """Chocolate drops, raisins or nuts: many dark or pale lumps that belong."""
    p = colours.shape[0]
    tone = hsv(0.05, 0.5, style.uniform(0.08, 0.25)) if style.random() < 0.8 else hsv(0.1, 0.4, 0.8)
    lumps = scatter(
        rng, p, int(style.integers(5, 26)), style.uniform(0.02, 0.035) * p, 0.06 * p, 0.5
    )
    lit = relief(lumps * np.float32(0.05 * p), light, 0.8) + 0.1 * white(rng, p)
    return mix(colours, paint(lit, tone), lumps)


def cracker(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A square or oblong biscuit with docking holes and browned blisters."""
    x, y = axes(p, angle)
    a, b = 0.85, style.uniform(0.55, 0.85)
    scallop = np.float32(style.uniform(0, 0.025))
    waves = np.sin(x * 26) + np.sin(y * 26) if style.random() < 0.6 else 0 * x
    distance = box(x, y, a, b, style.uniform(0.03, 0.2)) + scallop * waves
    blister = smoothstep(0.3, 1.6, fbm(rng, p, 0.12, 4, 0.6))
    count = int(style.integers(2, 6))
    u, v = x * count / 1.6, y * count / 1.6
    hole = np.hypot(u - np.round(u), v - np.round(v)) * np.float32(1.6 / count)
    holes = smoothstep(0.04, 0.02, hole) * (distance < -0.08)
    height = (dome(distance, 0.12) + 0.35 * blister) * np.float32(0.07 * p) - holes * np.float32(
        0.04 * p
    )
    tone = baked_tone(style)
    colours = speckled(rng, p, tone, 0.04, 0.05)
    colours = mix(
        colours, colours * rgb(0.75, 0.55, 0.35), blister * np.float32(style.uniform(0.2, 0.8))
    )
    colours = shade(colours, height, light) * (1 - 0.5 * holes)[..., None]
    if style.random() < 0.4:
        salt = scatter(rng, p, int(style.integers(20, 90)), 0.005 * p, 0.013 * p)
        colours = mix(colours, rgb(0.95, 0.93, 0.88), salt * 0.8)
    return Item(colours, cover(distance))


def bread(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A slice: crust around a crumb full of pores."""
    x, y = axes(p, angle)
    outline = wavy(rng, 0.03)
    distance = box(x, y * 1.08, 0.8, 0.78, 0.3) - outline(np.arctan2(y, x))
    pores = smoothstep(0.5, 1.6, fbm(rng, p, style.uniform(0.04, 0.1), 4, 0.75))
    crumb = paint(
        1 - np.float32(style.uniform(0.1, 0.3)) * pores + 0.04 * white(rng, p),
        hsv(0.11, style.uniform(0.15, 0.4), 0.9),
    )
    crust = speckled(rng, p, hsv(0.07, 0.6, style.uniform(0.35, 0.65)), 0.06, 0.1)
    rim = smoothstep(-style.uniform(0.1, 0.2), -0.03, distance)
    colours = mix(crumb, crust, rim)
    return Item(
        shade(colours, (dome(distance, 0.1) - 0.08 * pores) * np.float32(0.05 * p), light),
        cover(distance),
    )


def hazelnut(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A nut in its shell: streaks from base to tip, a pale rough base."""
    x, y = axes(p, angle)
    outline = wavy(rng, 0.02)
    distance = radial(x, y, lambda t: 0.84 + 0.08 * np.cos(t) + outline(t))
    streak = fbm(rng, p, 0.03, 3, 0.6, style.uniform(6, 14), angle)
    tone = hsv(style.uniform(0.05, 0.09), style.uniform(0.45, 0.75), style.uniform(0.35, 0.65))
    colours = paint(1 + np.float32(style.uniform(0.06, 0.18)) * streak + 0.04 * white(rng, p), tone)
    base = smoothstep(-0.42, -0.52, x + 0.25 * y * y + 0.03 * fbm(rng, p, 0.1, 3))
    colours = mix(colours, speckled(rng, p, hsv(0.1, 0.35, 0.72), 0.08, 0.1), base)
    return Item(
        shade(colours, dome(distance, 0.9) * np.float32(0.3 * p), light, style.uniform(0, 0.2)),
        cover(distance),
    )


def almond(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A teardrop kernel with wrinkled brown skin."""
    x, y = axes(p, angle)
    outline = wavy(rng, 0.015)
    width = np.float32(style.uniform(1.6, 2.0)) * (1 + 0.35 * np.clip(x, -0.5, 1))
    distance = radial(x, y * width, lambda t: 0.9 + outline(t)) * 0.7
    wrinkle = fbm(rng, p, 0.06, 3, 0.6, style.uniform(4, 9), angle)
    tone = hsv(style.uniform(0.05, 0.08), style.uniform(0.5, 0.75), style.uniform(0.4, 0.68))
    colours = paint(1 + 0.14 * wrinkle + 0.05 * white(rng, p), tone)
    height = dome(distance, 0.45) * np.float32(0.18 * p) + wrinkle * np.float32(0.008 * p)
    return Item(shade(colours, height, light), cover(distance))


def macaroni(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A bent tube of pasta, or a cashew: an arc with round or cut ends."""
    x, y = axes(p, angle)
    span, thick, radius = style.uniform(0.9, 1.4), style.uniform(0.2, 0.3), 0.6
    y = y + 0.45
    theta, r = np.arctan2(x, y), np.hypot(x, y)
    over = np.maximum(np.abs(theta) - np.float32(span), 0) * np.float32(radius)
    distance = np.sqrt(over**2 + (r - np.float32(radius + 0.05)) ** 2) - np.float32(thick)
    ribs = np.sin((r - 0.6) * np.float32(style.uniform(40, 70))) if style.random() < 0.4 else 0 * r
    tone = hsv(style.uniform(0.1, 0.14), style.uniform(0.3, 0.7), style.uniform(0.7, 0.95))
    colours = speckled(rng, p, tone, 0.03, 0.06) * (1 + 0.05 * ribs)[..., None]
    height = dome(distance, thick) * np.float32(0.14 * p)
    return Item(shade(colours, height, light, style.uniform(0, 0.3)), cover(distance))


def chocolate(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A bar of blocks."""
    x, y = axes(p, angle)
    distance = box(x, y, 0.88, style.uniform(0.5, 0.85), 0.04)
    blocks = style.integers(2, 5)
    u, v = x * blocks / 1.76, y * blocks / 1.76
    groove = np.minimum(0.5 - np.abs(u - np.floor(u) - 0.5), 0.5 - np.abs(v - np.floor(v) - 0.5))
    height = smoothstep(0.03, 0.2, groove) * np.float32(0.07 * p) + dome(
        distance, 0.06
    ) * np.float32(0.04 * p)
    tone = hsv(0.05, style.uniform(0.4, 0.65), pick(style, [0.2, 0.3, 0.45, 0.85]))
    colours = shade(speckled(rng, p, tone, 0.015, 0.03), height, light, style.uniform(0.05, 0.35))
    return Item(colours, cover(distance))


def fruit(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """An orange, apple or tomato: dimpled or smooth skin, a stalk end, mottled colour."""
    x, y = axes(p, angle)
    outline = wavy(rng, 0.015)
    distance = radial(x, y, lambda t: 0.9 + outline(t))
    tone = hsv(
        pick(style, [0.0, 0.02, 0.07, 0.1, 0.25]), style.uniform(0.6, 0.9), style.uniform(0.5, 0.95)
    )
    other = hsv(style.uniform(0.0, 0.3), style.uniform(0.4, 0.8), style.uniform(0.6, 0.9))
    blush = smoothstep(-0.5, 1.6, fbm(rng, p, 0.5, 3)) * np.float32(style.uniform(0, 0.8))
    colours = mix(speckled(rng, p, tone, 0.02, 0.04), other, blush)
    if style.random() < 0.5:
        dots = scatter(rng, p, int(style.integers(60, 300)), 0.004 * p, 0.01 * p)
        colours = mix(colours, vary(style, other), dots * 0.5)
    pits = grain(rng, p, 0.02 * p) * np.float32(style.uniform(0, 0.012) * p)
    colours = shade(
        colours, dome(distance, 0.95) * np.float32(0.3 * p) + pits, light, style.uniform(0.0, 0.4)
    )
    stalk = np.exp(-(((x - 0.1) ** 2 + y * y) / 0.008))
    return Item(
        mix(colours, rgb(0.25, 0.22, 0.1), stalk * np.float32(style.uniform(0, 0.9))),
        cover(distance),
    )


def leaf(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A plant leaf: midrib, side veins, soft mottling, sometimes a toothed edge."""
    x, y = axes(p, angle)
    half = np.float32(style.uniform(0.35, 0.6)) * np.clip(1 - (x / 0.93) ** 2, 0, 1) ** np.float32(
        style.uniform(0.6, 1.1)
    )
    teeth = np.float32(style.uniform(0, 0.03)) * np.abs(
        np.sin(x * np.float32(style.uniform(20, 50)))
    )
    distance = np.maximum(np.abs(y) - half + teeth, np.abs(x) - np.float32(0.93))
    tone = hsv(style.uniform(0.2, 0.36), style.uniform(0.4, 0.8), style.uniform(0.25, 0.65))
    veins = np.exp(-np.abs(y) * 60) + 0.6 * np.exp(
        -np.abs(np.sin((x - 0.9 * np.abs(y)) * np.float32(style.uniform(10, 22)))) * 14
    )
    value = (
        1
        + 0.06 * fbm(rng, p, 0.2, 4)
        + 0.05 * white(rng, p)
        + np.float32(style.uniform(-0.2, 0.5)) * veins
    )
    height = -veins * np.float32(0.01 * p) + 0.02 * p * fbm(rng, p, 0.3, 2)
    return Item(shade(paint(value, tone), height.astype(np.float32), light, 0.05), cover(distance))
