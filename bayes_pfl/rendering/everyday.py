"""Makers of everyday things that have markings, holes and keys (see solids.py)."""

from __future__ import annotations

import math

import numpy as np

from bayes_pfl.rendering.goods import stamp_mark
from bayes_pfl.rendering.metals import metal_tone
from bayes_pfl.rendering.noise import Rng, axes, pick, smoothstep, white
from bayes_pfl.rendering.scene import Light, any_colour, hsv, mix, paint, rgb, vary
from bayes_pfl.rendering.solids import Item, box, cover, disc, dome, rod, shade, speckled


def battery(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A cell lying on its side: bands of colour, a nub at one end, print."""
    x, y = axes(p, angle)
    half = style.uniform(0.2, 0.4)
    body = box(x + 0.03, y, 0.86, half, 0.03)
    distance = np.minimum(body, box(x - 0.88, y, 0.07, half * 0.35, 0.01))
    colours = paint(1 + 0.01 * white(rng, p), any_colour(style, 0.95, 0.1, 0.95))
    for edge in style.uniform(-0.7, 0.7, int(style.integers(1, 3))):
        band = smoothstep(edge, edge + 0.02, x)
        colours = mix(colours, any_colour(style, 0.95, 0.1, 0.95), band)
    colours = mix(colours, metal_tone(style), smoothstep(0.8, 0.82, np.abs(x)))
    across = np.clip(y / np.float32(half), -1, 1)
    height = np.sqrt(1 - across**2 + 0.01) * np.float32(0.4 * half * p)
    colours = shade(colours, height, light, style.uniform(0.1, 0.6))
    ink = any_colour(style, 0.6, 0.0, 1.0)
    tall, letters = style.uniform(0.1, 0.2), int(style.integers(2, 7))
    return Item(
        colours, cover(distance), stamp_mark(style, rng, colours, angle, tall, letters, ink)
    )


def marker_pen(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A pen with its cap on, a ring between the two, now and then a clip."""
    x, y = axes(p, angle)
    half, seam = style.uniform(0.09, 0.18), style.uniform(0.1, 0.45)
    thick = np.where(x > seam, np.float32(0.02), np.float32(0))
    distance = rod(x, y, 0.9 - half, half) - thick
    shaft, cap = any_colour(style, 0.9, 0.1, 0.95), any_colour(style, 0.95, 0.1, 0.95)
    colours = mix(shaft, cap, smoothstep(seam - 0.01, seam + 0.01, x))
    colours = colours * (1 + 0.01 * white(rng, p))[..., None]
    ring = smoothstep(0.02, 0.01, np.abs(x - np.float32(seam - 0.06)))
    colours = mix(colours, any_colour(style, 0.5, 0.2, 1.0), ring)
    height = np.sqrt(np.clip(1 - (y / np.float32(half + 0.02)) ** 2, 0.01, 1))
    if style.random() < 0.5:
        height = height + 0.5 * cover(box(x - 0.68, y, 0.2, half * 0.3, 0.01))
    colours = shade(colours, height * np.float32(0.4 * half * p), light, style.uniform(0.1, 0.6))
    ink, tall = any_colour(style, 0.6, 0.0, 1.0), style.uniform(0.07, 0.11)
    return Item(colours, cover(distance), stamp_mark(style, rng, colours, angle, tall, 5, ink))


def domino(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A tile with pips on one or both halves, or a die."""
    x, y = axes(p, angle)
    halves = int(pick(style, [1, 2]))
    distance = box(x, y, 0.88, 0.88 / halves, style.uniform(0.03, 0.25))
    colours = speckled(rng, p, any_colour(style, 0.9, 0.1, 0.97), 0.01, 0.02)
    height = dome(distance, 0.12)
    pip, ink = style.uniform(0.13, 0.19) / halves, any_colour(style, 0.9, 0.02, 1.0)
    places = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1)]
    for half in range(halves):
        middle = 0.0 if halves == 1 else 0.44 * (2 * half - 1)
        for index in rng.permutation(9)[: int(rng.integers(1, 7))]:
            a, b = places[int(index)]
            spot = cover(disc(x - middle - 0.5 * a / halves, y - 0.5 * b / halves, pip))
            colours, height = mix(colours, ink, spot), height - 0.3 * spot
    if halves == 2:
        height = height - 0.4 * np.exp(-((x / 0.02) ** 2))
    lit = shade(colours, height * np.float32(0.06 * p), light, style.uniform(0, 0.4))
    return Item(lit, cover(distance))


def power_socket(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A plate with a recess, slots or round holes, and a screw."""
    x, y = axes(p, angle)
    distance = box(x, y, 0.88, style.uniform(0.7, 0.88), style.uniform(0.03, 0.3))
    tone = vary(style, rgb(0.9, 0.9, 0.87)) if style.random() < 0.5 else any_colour(style, 0.7)
    well = disc(x, y, style.uniform(0.4, 0.62)) if style.random() < 0.7 else box(x, y, 0.5, 0.45)
    height = dome(distance, style.uniform(0.04, 0.2)) - 0.8 * smoothstep(0.03, -0.03, well)
    colours = speckled(rng, p, tone, 0.008, 0.01)
    colours = shade(colours, height * np.float32(0.06 * p), light, style.uniform(0, 0.4))
    apart, slots = style.uniform(0.16, 0.28), style.random() < 0.4
    for side in (-1, 1):
        u, v = x - np.float32(side * apart), y
        contact = box(u, v, 0.035, 0.13) if slots else disc(u, v, style.uniform(0.07, 0.1))
        colours = mix(colours, rgb(0.04, 0.04, 0.05), cover(contact))
    if style.random() < 0.6:
        screw = disc(x, y, 0.06)
        slot = cover(box(x, y, 0.045, 0.01))
        head = paint(1 - 0.7 * slot, metal_tone(style))
        colours = mix(colours, head, cover(screw))
    return Item(colours, cover(distance))


def key(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A bow with a hole, a blade with cuts, a groove along it."""
    x, y = axes(p, angle)
    radius, blade = style.uniform(0.25, 0.36), style.uniform(0.08, 0.13)
    bow = disc(x + 0.92 - radius, y, radius)
    if style.random() < 0.5:
        bow = box(x + 0.92 - radius, y, radius, radius, style.uniform(0.03, 0.2))
    cuts = np.interp(x, np.linspace(-0.2, 0.9, 9), style.uniform(0, 0.09, 9)).astype(np.float32)
    shaft = np.maximum(box(x - 0.3, y, 0.6, blade, 0.02), y - (np.float32(blade) - cuts))
    hole = disc(x + 0.92 - 0.6 * radius, y, style.uniform(0.06, 0.1))
    distance = np.maximum(np.minimum(bow, shaft), -hole)
    groove = np.exp(-(((y + 0.3 * np.float32(blade)) / 0.02) ** 2)) * (x > -0.2)
    height = dome(distance, 0.05) - 0.5 * groove
    colours = speckled(rng, p, metal_tone(style), 0.02, 0.03)
    return Item(
        shade(colours, height * np.float32(0.05 * p), light, style.uniform(0.1, 0.6)),
        cover(distance),
    )


def badge(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """An enamelled shield or disc with a rim, rays and a word."""
    x, y = axes(p, angle)
    disc_like = style.random() < 0.5
    distance = disc(x, y, 0.9) if disc_like else np.maximum(box(x, y, 0.8, 0.88), x + y - 1.25)
    rays = np.sin(np.arctan2(y, x) * int(style.integers(3, 13)))
    colours = mix(any_colour(style), any_colour(style), smoothstep(-0.1, 0.1, rays))
    if style.random() < 0.4:
        colours = speckled(rng, p, any_colour(style), 0.01, 0.01)
    rim = smoothstep(-0.1, -0.08, distance)
    colours = mix(colours, metal_tone(style), rim)
    height = (dome(distance, 0.06) + 0.5 * rim) * np.float32(0.04 * p)
    colours = shade(colours, height, light, style.uniform(0.1, 0.6))
    ink, tall = any_colour(style, 0.8, 0.0, 1.0), style.uniform(0.14, 0.26)
    return Item(colours, cover(distance), stamp_mark(style, rng, colours, angle, tall, 4, ink))


def keypad(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A keypad or a remote control: rows of keys of one kind, some of another colour."""
    x, y = axes(p, angle)
    wide = style.uniform(0.35, 0.85)
    distance = box(x, y, 0.9, wide, style.uniform(0.03, 0.25))
    columns, rows = int(style.integers(3, 7)), int(style.integers(2, 5))
    u, v = (x / 0.9 * 0.55 + 0.5) * columns, (y / np.float32(wide) * 0.6 + 0.5) * rows
    inside = (u > 0) & (u < columns) & (v > 0) & (v < rows)
    a, b = u - np.floor(u) - 0.5, v - np.floor(v) - 0.5
    rounded = style.random() < 0.5
    reach = np.hypot(a, b) - 0.34 if rounded else np.maximum(np.abs(a), np.abs(b)) - 0.34
    keys = smoothstep(0.05, -0.05, reach) * inside
    tones = np.stack([any_colour(style, 0.7, 0.2, 0.95) for _ in range(2)])
    kinds = style.random((rows, columns)) < 0.15
    which = kinds[np.clip(v.astype(int), 0, rows - 1), np.clip(u.astype(int), 0, columns - 1)]
    colours = mix(speckled(rng, p, any_colour(style), 0.01, 0.01), tones[which.astype(int)], keys)
    height = (dome(distance, 0.06) + 0.5 * keys) * np.float32(0.05 * p)
    return Item(shade(colours, height, light, style.uniform(0, 0.4)), cover(distance))


def spool(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A reel of thread from the side: windings between two flanges."""
    x, y = axes(p, angle)
    reach, flange = style.uniform(0.4, 0.8), style.uniform(0.06, 0.12)
    ends = [box(x + s * (0.9 - flange), y, flange, reach, 0.03) for s in (-1, 1)]
    waist = reach * style.uniform(0.6, 0.95)
    body = box(x, y, 0.88, waist, 0.01)
    distance = np.minimum.reduce([*ends, body])
    turns = np.sin(x * np.float32(style.uniform(40, 120)) + y * np.float32(style.normal(0, 3)))
    thread = paint(1 + 0.12 * turns + 0.03 * white(rng, p), any_colour(style, 0.95, 0.15, 0.95))
    wood = speckled(
        rng, p, hsv(0.09, style.uniform(0.05, 0.5), style.uniform(0.4, 0.9)), 0.02, 0.04
    )
    colours = mix(thread, wood, cover(np.minimum(*ends)))
    across = np.sqrt(np.clip(1 - (y / np.float32(reach)) ** 2, 0.02, 1))
    return Item(shade(colours, across * np.float32(0.2 * p), light, 0.1), cover(distance))


def knob(style: Rng, rng: Rng, p: int, angle: float, light: Light) -> Item:
    """A ribbed knob with a pointer."""
    x, y = axes(p, angle)
    radius, theta = np.hypot(x, y), np.arctan2(y, x)
    ribs = int(style.integers(6, 40))
    distance = radius - (0.88 + 0.03 * np.cos(theta * ribs))
    face = smoothstep(0.02, -0.02, radius - np.float32(style.uniform(0.45, 0.7)))
    colours = speckled(rng, p, any_colour(style, 0.8, 0.06, 0.9), 0.01, 0.02)
    colours = mix(colours, any_colour(style, 0.6, 0.1, 0.95), face)
    pointer = cover(box(x - 0.42, y, 0.2, 0.03))
    colours = mix(colours, any_colour(style, 0.9, 0.0, 1.0), pointer)
    height = dome(distance, 0.2) + 0.4 * face + 0.1 * np.cos(theta * ribs) * (1 - face)
    turn = np.float32(style.uniform(0, 0.12)) * np.cos(2 * theta + math.pi / 4) * face
    colours = colours * (1 + turn)[..., None]
    return Item(
        shade(colours, height * np.float32(0.06 * p), light, style.uniform(0, 0.5)),
        cover(distance),
    )
