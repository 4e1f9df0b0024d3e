"""Makers of manufactured items: nuts, screws, caps, bearings, chips, cables ... (see solids.py)."""

from __future__ import annotations

import math

import numpy as np

from bayes_pfl.data.synthetic.metals import metal_tone
from bayes_pfl.data.synthetic.noise import Field, Rng, axes, cells, fbm, pick, smoothstep, white
from bayes_pfl.data.synthetic.scene import (
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
from bayes_pfl.data.synthetic.solids import (
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


def hex_nut(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
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


def bottle_cap(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
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


def coin(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
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


def button(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
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


def ic_package(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A black chip with legs, a dot and two printed words."""
    x, y = axes(p, angle)
    half_x, half_y = style.uniform(0.5, 0.8), style.uniform(0.3, 0.5)
    body = box(x, y, half_x, half_y, 0.03)
    legs = int(style.integers(4, 10))
    place = (x / np.float32(half_x) + 1) * 0.5 * legs
    width = style.uniform(0.22, 0.34)
    leg = np.maximum(
        np.abs(place - np.floor(place) - 0.5) - np.float32(width),
        (np.abs(y) - np.float32(half_y + style.uniform(0.1, 0.2))) * 4,
    )
    leg = np.maximum(leg * np.float32(half_x / legs * 2), np.abs(x) - np.float32(half_x))
    black = speckled(rng, p, hsv(0.6, 0.1, style.uniform(0.08, 0.25)), 0.06, 0.03)
    metal = speckled(rng, p, vary(style, rgb(0.75, 0.74, 0.7)), 0.05, 0.1)
    colours = mix(metal, black, cover(body))
    dot = smoothstep(0.01, -0.01, np.hypot(x + half_x * 0.8, y + half_y * 0.65) - 0.05)
    colours = mix(colours, rgb(0.5, 0.5, 0.5), dot * 0.6)
    colours = shade(colours, dome(body, 0.06) * np.float32(0.05 * p), light)
    parts = stamp_mark(
        style,
        rng,
        colours,
        angle,
        style.uniform(0.08, 0.14),
        int(style.integers(4, 8)),
        rgb(0.75, 0.75, 0.72),
    )
    return Item(colours, np.maximum(cover(body), cover(leg)), parts)


def cable_section(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A cut cable: a sheath, three or more insulated cores, bundles of copper strands."""
    x, y = axes(p, angle)
    colours = speckled(rng, p, any_colour(style, 0.5, 0.1, 0.9), 0.03, 0.03)
    filler = paint(1 + 0.1 * white(rng, p), any_colour(style, 0.3, 0.3, 0.9))
    colours = mix(colours, filler, cover(disc(x, y, style.uniform(0.8, 0.88))))
    cores, parts = int(style.integers(3, 5)), []
    _, border, value = cells(rng, p, int(style.integers(300, 900)), 0.5)
    strands = paint((0.5 + 0.6 * value) * smoothstep(0.0, 0.35, border), hsv(0.06, 0.5, 0.85))
    for k in range(cores):
        turn = 2 * math.pi * k / cores + rng.normal(0, 0.04)
        radius = 0.8 * math.sin(math.pi / cores) / (1 + math.sin(math.pi / cores))
        at = 0.82 - radius
        away = np.hypot(x - at * math.cos(turn), y - at * math.sin(turn)) - np.float32(
            radius * 0.98
        )
        before, weight = colours.copy(), cover(away)
        colours = mix(colours, any_colour(style, 0.9, 0.2, 0.95), weight)
        colours = mix(colours, strands, cover(away + np.float32(radius * style.uniform(0.3, 0.45))))
        parts.append(Part((0, 0, p, p), weight, before))
    return Item(colours, cover(disc(x, y, 0.95)), parts)


def key_ring_clip(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A bent wire: paper clip, hook or ring."""
    x, y = axes(p, angle)
    thick = style.uniform(0.05, 0.09)
    outer = np.abs(rod(x, y, 0.5, 0.38)) - np.float32(thick)
    inner = np.abs(rod(x - 0.12, y, 0.36, 0.18)) - np.float32(thick)
    distance = np.minimum(outer, np.where(x > -0.35, inner, 1.0))
    height = np.sqrt(np.clip(-distance / np.float32(thick), 0, 1)) * np.float32(0.05 * p)
    tone = metal_tone(style) if style.random() < 0.6 else any_colour(style, 0.9, 0.2, 0.9)
    return Item(shade(speckled(rng, p, tone, 0.02, 0.02), height, light, 0.5), cover(distance))


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
