"""Surfaces whose variety is their nature: flecks, patches, grains, motifs, creases."""

from __future__ import annotations

import math

import numpy as np

from bayes_pfl.rendering.noise import (
    Rng,
    axes,
    cells,
    fbm,
    grain,
    pick,
    ridges,
    scatter,
    smoothstep,
    white,
    wobble,
)
from bayes_pfl.rendering.scene import (
    Light,
    Part,
    Scene,
    any_colour,
    draw_part,
    hsv,
    mix,
    paint,
    relief,
    surface_scene,
    vary,
)


def gravel(rng: Rng, size: int) -> Scene:
    """Stones side by side, each with a tone of its own, dark between them."""
    light = Light.draw(rng)
    _, border, value = cells(rng, size, int(rng.integers(40, 400)), rng.uniform(0.7, 1.0))
    bent = 2 * size / 256
    border, value = wobble(rng, border, 0.05, bent), wobble(rng, value, 0.05, bent)
    height = np.sqrt(np.clip(border, 0, 0.4)) * np.float32(rng.uniform(6, 16) * size / 256)
    shade = relief(height, light, 0.7) * (0.35 + smoothstep(0.0, 0.12, border))
    first, second = any_colour(rng, 0.5, 0.2, 0.8), any_colour(rng, 0.5, 0.2, 0.9)
    image = mix(first, second, smoothstep(0.2, 0.8, value))
    return surface_scene(rng, image * (shade + 0.06 * white(rng, size))[..., None], light)


def camouflage(rng: Rng, size: int) -> Scene:
    """Cloth printed with patches of three to five tones."""
    light, turn = Light.draw(rng), rng.uniform(0, math.pi)
    image = paint(np.ones((size, size), np.float32), any_colour(rng, 0.7, 0.15, 0.85))
    for _ in range(int(rng.integers(2, 5))):
        patches = fbm(rng, size, rng.uniform(0.1, 0.35), 3, 0.5, rng.uniform(1, 2.5), turn)
        level, soft = rng.uniform(0.0, 0.8), rng.uniform(0.02, 0.2)
        image = mix(image, any_colour(rng, 0.7, 0.1, 0.9), smoothstep(level, level + soft, patches))
    x, y = axes(size, turn)
    pitch = np.float32(rng.uniform(120, 260))
    weave = 1 + np.float32(rng.uniform(0, 0.06)) * np.sin(x * pitch) * np.sin(y * pitch)
    return surface_scene(rng, image * weave[..., None], light, turn)


def enamel(rng: Rng, size: int) -> Scene:
    """Glazed metal sprinkled with flecks of one or two colours."""
    light, unit = Light.draw(rng), size / 256
    image = paint(1 + 0.01 * white(rng, size), any_colour(rng, 0.7, 0.1, 0.95))
    for _ in range(int(rng.integers(1, 3))):
        largest = rng.uniform(1.0, 6.0) * unit
        flecks = scatter(rng, size, int(rng.integers(60, 900)), 0.4 * unit, largest, 0.4)
        image = mix(image, any_colour(rng, 0.9, 0.02, 1.0), flecks)
    peel = fbm(rng, size, 0.05, 2) * np.float32(rng.uniform(0, 0.6) * unit)
    return surface_scene(rng, image * relief(peel, light, 0.5)[..., None], light)


def rubber_floor(rng: Rng, size: int) -> Scene:
    """Granules pressed together, most of one colour, some of others."""
    light = Light.draw(rng)
    count = int(rng.integers(400, 3000))
    _, border, value = cells(rng, size, count, 1.0)
    main, share = any_colour(rng, 0.4, 0.06, 0.5), rng.uniform(0.03, 0.4)
    image = paint(np.float32(0.85) + np.float32(0.3) * value, main)
    for number in range(int(rng.integers(1, 4))):
        low = number * share / 3
        among = ((value > low) & (value < low + share / 3)).astype(np.float32)
        image = mix(image, any_colour(rng, 0.9, 0.2, 0.95), among)
    shade = relief(np.clip(border, 0, 0.4) * np.float32(4), light, 0.6)
    return surface_scene(rng, image * (shade + 0.04 * white(rng, size))[..., None], light)


def wallpaper(rng: Rng, size: int) -> Scene:
    """A printed motif, repeated in rows; each motif is a part."""
    light = Light.draw(rng)
    tone = any_colour(rng, 0.7, 0.3, 0.95)
    image = paint(1 + 0.015 * white(rng, size) + 0.02 * fbm(rng, size, 0.3, 2), tone)
    if rng.random() < 0.4:
        x, _ = axes(size)
        stripes = smoothstep(0.2, 0.3, np.sin(x * np.float32(rng.uniform(6, 40))))
        image = mix(image, vary(rng, tone, 0.15), stripes)
    pitch = rng.uniform(0.14, 0.34) * size
    parts = _motifs(rng, image, pitch)
    return surface_scene(rng, image, light, 0.0, parts)


def _motifs(rng: Rng, image: np.ndarray, pitch: float) -> list[Part]:
    size, extent = image.shape[0], max(6, int(pitch * rng.uniform(0.5, 0.9)))
    ink, shift = any_colour(rng, 0.95, 0.05, 0.95), float(pick(rng, [0.0, 0.5]))
    x, y = axes(extent)
    lobes, depth = int(rng.integers(0, 8)), rng.uniform(0.1, 0.45)
    edge = 0.95 - depth + depth * np.cos(lobes * np.arctan2(y, x))
    inside = smoothstep(0.06, -0.06, np.hypot(x, y) - edge)
    if rng.random() < 0.5:
        inside = inside * smoothstep(0.2, 0.3, np.hypot(x, y))
    start, parts = rng.uniform(-1, 0, 2) * pitch, []
    for row in range(int(size / pitch) + 2):
        for column in range(-1, int(size / pitch) + 2):
            top = int(start[0] + row * pitch)
            left = int(start[1] + (column + shift * (row % 2)) * pitch)
            part = draw_part(image, ink, inside, top, left)
            if part is not None:
                parts.append(part)
    return parts


def foil(rng: Rng, size: int) -> Scene:
    """Crumpled foil or film: creases in every direction."""
    light = Light.draw(rng)
    creases = ridges(rng, size, rng.uniform(0.1, 0.4), 3) + ridges(rng, size, 0.15, 2)
    facets = fbm(rng, size, rng.uniform(0.08, 0.25), 3, 0.6)
    height = (facets + np.float32(rng.uniform(0.3, 1.2)) * creases) * np.float32(5 * size / 256)
    tone = hsv(rng.random(), rng.uniform(0, 0.6), rng.uniform(0.4, 0.85))
    value = relief(height, light, rng.uniform(0.3, 0.8)) + 0.02 * white(rng, size)
    return surface_scene(rng, paint(value, tone), light)


def scales(rng: Rng, size: int) -> Scene:
    """Overlapping scales or shingles in rows, each a little lighter or darker."""
    light, turn = Light.draw(rng), pick(rng, [0.0, math.pi / 2]) + rng.normal(0, 0.05)
    x, y = axes(size, turn, tuple(rng.uniform(-0.2, 0.2, 2)))
    count = np.float32(rng.uniform(3, 10))
    v = y * count * np.float32(rng.uniform(1.0, 1.8))
    row = np.floor(v)
    u = x * count + 0.5 * (row % 2)
    a, b = u - np.floor(u) - 0.5, v - row
    drop = np.sqrt(np.clip(1 - 4 * a * a, 0, 1)) * np.float32(rng.uniform(0.2, 0.9))
    below = b > drop
    lap = np.where(below, b - drop, b - drop + 1)
    value = rng.random((128, 128), dtype=np.float32)[
        (row + below).astype(int) % 128, np.floor(u + 0.5 * below).astype(int) % 128
    ]
    height = -lap * np.float32(rng.uniform(2, 6) * size / 256)
    shade = relief(height, light, 0.6) + np.float32(rng.uniform(0.02, 0.25)) * (value - 0.5)
    shade += np.float32(rng.uniform(0.01, 0.06)) * grain(rng, size, 1.5)
    return surface_scene(rng, paint(shade, any_colour(rng, 0.7, 0.2, 0.85)), light, turn)


def foam(rng: Rng, size: int) -> Scene:
    """Open pores of several sizes in a soft solid."""
    light = Light.draw(rng)
    image = paint(1 + 0.03 * fbm(rng, size, 0.3, 3), any_colour(rng, 0.7, 0.3, 0.95))
    pores = np.zeros((size, size), np.float32)
    for largest in (0.012, rng.uniform(0.015, 0.045)):
        count = int(rng.integers(80, 600))
        pores = np.maximum(pores, scatter(rng, size, count, 0.004 * size, largest * size, 0.5))
    shade = relief(-pores * np.float32(4 * size / 256), light, 0.7) * (1 - 0.4 * pores)
    return surface_scene(rng, image * (shade + 0.03 * white(rng, size))[..., None], light)
