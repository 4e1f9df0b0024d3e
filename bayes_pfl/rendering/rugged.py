"""Makers of rugged, ribbed and pitted things whose relief is no fault (see solids.py)."""

from __future__ import annotations

import numpy as np

from bayes_pfl.rendering.noise import (
    Field,
    Rng,
    axes,
    fbm,
    grain,
    pick,
    scatter,
    smoothstep,
    white,
)
from bayes_pfl.rendering.scene import Light, any_colour, hsv, mix, paint, relief, rgb, vary
from bayes_pfl.rendering.solids import Item, box, cover, dome, radial, shade, speckled, wavy


def sponge(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """Foam full of pores of several sizes, now and then with a scouring side."""
    x, y = axes(p, angle)
    distance = box(x, y, 0.88, style.uniform(0.5, 0.85), style.uniform(0.05, 0.3))
    pores = scatter(
        rng, p, int(style.integers(40, 220)), 0.006 * p, style.uniform(0.02, 0.07) * p, 0.5
    )
    fine = smoothstep(0.6, 1.4, grain(rng, p, 0.012 * p))
    height = dome(distance, style.uniform(0.1, 0.4)) * np.float32(0.09 * p)
    height = height - np.float32(0.02 * p) * pores
    colours = speckled(rng, p, any_colour(style, 0.9, 0.4, 0.98), 0.04, 0.05)
    colours = colours * (1 - 0.45 * pores - 0.2 * fine)[..., None]
    if style.random() < 0.35:
        pad = speckled(rng, p, any_colour(style, 0.8, 0.1, 0.6), 0.12, 0.05)
        colours = mix(colours, pad, smoothstep(0.0, 0.02, x - np.float32(style.uniform(0.2, 0.6))))
    return Item(shade(colours, height, light), cover(distance))


def cheese(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A piece with a rind and holes that belong."""
    x, y = axes(p, angle)
    wedge = np.maximum(np.abs(y) - 0.32 * (x + 0.95), x - 0.85)
    distance = wedge if style.random() < 0.5 else box(x, y, 0.88, style.uniform(0.5, 0.85), 0.06)
    holes = scatter(rng, p, int(style.integers(3, 18)), 0.02 * p, style.uniform(0.05, 0.13) * p)
    tone = hsv(style.uniform(0.09, 0.14), style.uniform(0.25, 0.7), style.uniform(0.7, 0.97))
    colours = speckled(rng, p, tone, 0.01, 0.03)
    rind = smoothstep(-0.1, -0.05, distance) * np.float32(pick(style, [0.0, 1.0]))
    colours = mix(colours, any_colour(style, 0.8, 0.2, 0.8), rind)
    height = (dome(distance, 0.06) - holes) * np.float32(0.05 * p)
    return Item(
        shade(colours * (1 - 0.3 * holes)[..., None], height, light, style.uniform(0, 0.2)),
        cover(distance),
    )


def nut_bar(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A bar of grains, nuts and fruit pressed together: rugged all over."""
    x, y = axes(p, angle)
    outline, fine = wavy(rng, 0.02, 4, 14), wavy(rng, 0.012, 10, 40)
    theta = np.arctan2(y, x)
    distance = box(x, y, 0.82, style.uniform(0.3, 0.75), 0.08) - outline(theta) - fine(theta)
    colours = speckled(rng, p, hsv(0.09, style.uniform(0.3, 0.6), 0.6), 0.08, 0.1)
    height = fbm(rng, p, 0.06, 3, 0.7) * np.float32(0.015 * p)
    for _ in range(int(style.integers(2, 5))):
        lumps = scatter(
            rng, p, int(style.integers(12, 60)), 0.02 * p, style.uniform(0.03, 0.08) * p, 0.4
        )
        tone = hsv(style.uniform(0.0, 0.13), style.uniform(0.2, 0.8), style.uniform(0.15, 0.95))
        lit = relief(lumps * np.float32(0.06 * p), light, 0.8) + 0.04 * white(rng, p)
        colours, height = mix(colours, paint(lit, tone), lumps), height + 0.01 * p * lumps
    height = height + dome(distance, 0.15) * np.float32(0.08 * p)
    return Item(shade(colours, height, light, style.uniform(0, 0.2)), cover(distance))


def seashell(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A fan of ribs with bands across them."""
    x, y = axes(p, angle)
    x = x + np.float32(0.75)
    theta, radius = np.arctan2(y, x), np.hypot(x, y)
    ribs = int(style.integers(8, 22))
    spread, edge = style.uniform(0.7, 1.1), 0.05 * np.cos(theta * ribs)
    distance = np.maximum(radius - (1.55 + edge), (np.abs(theta) - spread) * radius)
    distance = np.minimum(distance, box(x - 0.05, y, 0.14, 0.3, 0.03))
    rib: Field = np.cos(theta * ribs) * smoothstep(0.1, 0.5, radius)
    bands = np.sin(radius * np.float32(style.uniform(8, 30)) + fbm(rng, p, 0.3, 2))
    tone = hsv(style.uniform(0.0, 0.12), style.uniform(0.05, 0.5), style.uniform(0.6, 0.95))
    value = 1 + np.float32(style.uniform(0, 0.12)) * bands + 0.02 * white(rng, p)
    colours = mix(
        paint(value, tone),
        paint(value, vary(style, tone, 0.2)),
        smoothstep(-0.5, 0.8, fbm(rng, p, 0.3, 3)),
    )
    height = (dome(distance, 0.5) + 0.15 * rib) * np.float32(0.1 * p)
    return Item(shade(colours, height, light, style.uniform(0, 0.4)), cover(distance))


def pumice(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A rough lump: pits, crusts and ridges everywhere, and nothing wrong with it."""
    x, y = axes(p, angle)
    outline, fine = wavy(rng, 0.06), wavy(rng, style.uniform(0.004, 0.02), 8, 30)
    squash = np.float32(rng.uniform(1, 1.5))
    distance = radial(x, y * squash, lambda t: 0.8 + outline(t) + fine(t))
    rough = fbm(rng, p, style.uniform(0.06, 0.25), 5, style.uniform(0.5, 0.75))
    crust = smoothstep(0.2, 0.9, rough) if style.random() < 0.6 else rough
    height = dome(distance, 0.5) * np.float32(0.15 * p) + crust * np.float32(
        style.uniform(0.01, 0.04) * p
    )
    tone = any_colour(style, 0.5, 0.25, 0.9)
    colours = paint(1 + 0.05 * rough + 0.04 * grain(rng, p, 1.5), tone)
    stained = np.float32(style.uniform(0, 0.7)) * np.clip(crust, 0, 1)
    colours = mix(colours, colours * rgb(0.7, 0.6, 0.5), stained)
    return Item(shade(colours, height, light, style.uniform(0, 0.2)), cover(distance))
