"""Metal, plastic and rubber surfaces."""

from __future__ import annotations

import math

import numpy as np

from bayes_pfl.rendering.noise import (
    Field,
    Rng,
    axes,
    cells,
    fbm,
    grain,
    pick,
    scatter,
    smoothstep,
    white,
    wobble,
)
from bayes_pfl.rendering.scene import (
    Colour,
    Light,
    Part,
    Scene,
    any_colour,
    draw_part,
    hsv,
    mix,
    paint,
    relief,
    rotate_stamp,
    surface_scene,
    text_stamp,
    vary,
)


def metal_tone(rng: Rng) -> Colour:
    """Steel, aluminium, brass, copper or bronze."""
    kind = rng.random()
    if kind < 0.65:
        return hsv(pick(rng, [0.08, 0.58, 0.63]), rng.uniform(0, 0.1), rng.uniform(0.35, 0.8))
    if kind < 0.82:
        return hsv(rng.uniform(0.1, 0.14), rng.uniform(0.2, 0.5), rng.uniform(0.5, 0.8))
    return hsv(rng.uniform(0.03, 0.07), rng.uniform(0.3, 0.6), rng.uniform(0.45, 0.8))


def anisotropic_gloss(rng: Rng, size: int, turn: float) -> Field:
    """Broad bands of light across brushed metal."""
    _, across = axes(size, turn + math.pi / 2, tuple(rng.uniform(-0.6, 0.6, 2)))
    width = np.float32(rng.uniform(0.3, 1.2))
    return 1 + np.float32(rng.uniform(0.0, 0.35)) * np.exp(-((across / width) ** 2))


def brushed_metal(rng: Rng, size: int) -> Scene:
    """Straight or slightly curved brush marks."""
    light = Light.draw(rng)
    turn = rng.uniform(0, math.pi)
    lines = fbm(rng, size, rng.uniform(0.006, 0.02), 2, 0.7, rng.uniform(25, 120), turn)
    broad = fbm(rng, size, rng.uniform(0.03, 0.1), 2, 0.6, 20, turn)
    value = anisotropic_gloss(rng, size, turn)
    value += np.float32(rng.uniform(0.03, 0.13)) * lines + np.float32(rng.uniform(0, 0.06)) * broad
    value += np.float32(rng.uniform(0, 0.03)) * white(rng, size)
    image = paint(value, metal_tone(rng))
    parts = engraving(rng, image) if rng.random() < 0.2 else []
    return surface_scene(rng, image, light, turn, parts)


def engraving(rng: Rng, image: np.ndarray) -> list[Part]:
    """A printed or engraved mark that belongs to the surface."""
    size = image.shape[0]
    stamp = text_stamp(rng, rng.uniform(0.05, 0.14) * size, int(rng.integers(2, 8)))
    stamp = rotate_stamp(stamp, pick(rng, [0.0, 0.0, math.pi / 2]) + rng.normal(0, 0.05))
    tone = image.reshape(-1, 3).mean(0) * pick(rng, [0.3, 0.5, 1.5])
    top, left = (rng.uniform(0.05, 0.8, 2) * size).astype(int)
    part = draw_part(image, tone, stamp * np.float32(rng.uniform(0.5, 1.0)), int(top), int(left))
    if part is None:
        return []
    part.kind = "print"
    return [part]


def rolled_steel(rng: Rng, size: int) -> Scene:
    """Cold or hot rolled sheet: faint rolling lines, clouds of scale, oil film."""
    light = Light.draw(rng)
    turn = pick(rng, [0.0, math.pi / 2]) + rng.normal(0, 0.04)
    value = 1 + np.float32(rng.uniform(0.01, 0.06)) * fbm(rng, size, 0.02, 2, 0.6, 40, turn)
    value += np.float32(rng.uniform(0.02, 0.1)) * fbm(
        rng, size, rng.uniform(0.1, 0.5), 5, 0.6, rng.uniform(1, 5), turn
    )
    value += np.float32(rng.uniform(0.01, 0.05)) * white(rng, size)
    tone = metal_tone(rng)
    image = paint(value, tone)
    if rng.random() < 0.35:
        film = smoothstep(0.0, 1.5, fbm(rng, size, 0.4, 4, 0.6, 2, turn))
        image = mix(image, vary(rng, tone, 0.1) * value[..., None], film)
    return surface_scene(rng, image, light, turn)


def rail_head(rng: Rng, size: int) -> Scene:
    """A worn rail: a bright polished band between duller, rusty shoulders."""
    light = Light.draw(rng)
    turn = pick(rng, [0.0, math.pi / 2]) + rng.normal(0, 0.02)
    _, across = axes(size, turn, (rng.uniform(-0.2, 0.2), rng.uniform(-0.2, 0.2)))
    streaks = fbm(rng, size, 0.04, 3, 0.7, 18, turn)
    half, soft = rng.uniform(0.3, 0.9), rng.uniform(0.03, 0.3)
    band = smoothstep(half + soft, half, np.abs(across) + 0.02 * streaks)
    dull = paint(
        1 + 0.12 * fbm(rng, size, 0.05, 4, 0.8) + 0.08 * white(rng, size),
        hsv(0.06, rng.uniform(0, 0.4), rng.uniform(0.15, 0.4)),
    )
    bright = paint(
        1 + np.float32(rng.uniform(0.03, 0.1)) * streaks + 0.03 * white(rng, size), metal_tone(rng)
    )
    return surface_scene(rng, mix(dull, bright, band), light, turn)


def casting(rng: Rng, size: int) -> Scene:
    """Sand-cast or shot-blasted metal: dense bumps, dull."""
    light, unit = Light.draw(rng), size / 256
    bumps = grain(rng, size, rng.uniform(1.5, 5) * unit) + 0.5 * fbm(rng, size, 0.08, 3)
    value = relief(bumps * np.float32(rng.uniform(0.5, 2) * unit), light, rng.uniform(0.3, 0.9))
    value += np.float32(rng.uniform(0.01, 0.06)) * fbm(rng, size, 0.4, 4)
    return surface_scene(rng, paint(value, metal_tone(rng) * rng.uniform(0.5, 1.0)), light)


def galvanised(rng: Rng, size: int) -> Scene:
    """Zinc spangle: large crystals, each with its own brightness and feathering."""
    light = Light.draw(rng)
    _, border, value = cells(rng, size, int(rng.integers(20, 200)), 1.0)
    value = wobble(rng, value, 0.04, 2.0 * size / 256)
    feather = fbm(rng, size, 0.05, 3, 0.7, 5, rng.uniform(0, 3))
    shade = 1 + np.float32(rng.uniform(0.1, 0.4)) * (value - 0.5) + 0.04 * feather * (value + 0.3)
    shade += np.float32(rng.uniform(0, 0.08)) * smoothstep(0.06, 0.0, border)
    return surface_scene(
        rng, paint(shade, hsv(0.58, rng.uniform(0, 0.08), rng.uniform(0.45, 0.75))), light
    )


def turned_metal(rng: Rng, size: int) -> Scene:
    """Circles of a lathe or mill: concentric or overlapping arcs."""
    light = Light.draw(rng)
    x, y = axes(size, 0.0, tuple(rng.uniform(-2.5, 2.5, 2)))
    radius = np.sqrt(x * x + y * y)
    radius += np.float32(rng.uniform(0, 0.01)) * fbm(rng, size, 0.2, 2)
    table = rng.standard_normal(4096).astype(np.float32)
    table = np.convolve(table, np.ones(3) / 3, "same").astype(np.float32)
    rings = table[(radius * np.float32(rng.uniform(150, 500))).astype(int) % 4096]
    if rng.random() < 0.5:
        rings = rings * 0.5 + np.sin(radius * np.float32(rng.uniform(60, 160)))
    fan = np.cos(2 * np.arctan2(y, x) + np.float32(rng.uniform(0, 6)))
    value = 1 + np.float32(rng.uniform(0.04, 0.14)) * rings + np.float32(rng.uniform(0, 0.25)) * fan
    value += np.float32(rng.uniform(0, 0.03)) * white(rng, size)
    return surface_scene(rng, paint(value, metal_tone(rng)), light)


def painted_sheet(rng: Rng, size: int) -> Scene:
    """Lacquered panel: orange peel, metallic flakes, now and then a bead or a pressed edge."""
    light, unit = Light.draw(rng), size / 256
    peel = fbm(rng, size, rng.uniform(0.015, 0.05), 2) * np.float32(rng.uniform(0.1, 0.8) * unit)
    value = relief(peel, light, 0.6)
    if rng.random() < 0.4:
        value = value + np.float32(rng.uniform(0.02, 0.08)) * white(rng, size)
    if rng.random() < 0.35:
        _, across = axes(size, pick(rng, [0.0, math.pi / 2]), tuple(rng.uniform(-0.7, 0.7, 2)))
        bead = np.exp(-((across / np.float32(rng.uniform(0.03, 0.12))) ** 2))
        value = value * relief(bead * np.float32(rng.uniform(4, 14) * unit), light, 0.6)
    image = paint(value, any_colour(rng, 0.95, 0.12, 0.95))
    parts = engraving(rng, image) if rng.random() < 0.3 else []
    return surface_scene(rng, image, light, 0.0, parts)


def plastic_panel(rng: Rng, size: int) -> Scene:
    """Moulded plastic: eroded grain, ribs, sometimes lettering."""
    light, unit = Light.draw(rng), size / 256
    texture = grain(rng, size, rng.uniform(1.2, 4) * unit) * np.float32(
        rng.uniform(0.1, 0.8) * unit
    )
    if rng.random() < 0.4:
        _, across = axes(size, rng.uniform(0, math.pi))
        ribs = np.sin(across * np.float32(rng.uniform(10, 60)))
        texture = texture + ribs * np.float32(rng.uniform(1, 3) * unit)
    value = relief(texture, light, rng.uniform(0.2, 0.8))
    image = paint(value, any_colour(rng, 0.8, 0.06, 0.95))
    parts = engraving(rng, image) if rng.random() < 0.35 else []
    return surface_scene(rng, image, light, 0.0, parts)


def rubber_mat(rng: Rng, size: int) -> Scene:
    """Dark rubber with studs, ribs or diamonds."""
    light, unit = Light.draw(rng), size / 256
    turn = rng.uniform(0, math.pi)
    u, v = axes(size, turn, tuple(rng.uniform(-0.2, 0.2, 2)))
    pitch = np.float32(rng.uniform(12, 45))
    kind = rng.integers(3)
    if kind == 0:
        studs = smoothstep(0.3, 0.7, np.sin(u * pitch) * np.sin(v * pitch))
    elif kind == 1:
        studs = smoothstep(-0.3, 0.3, np.sin(u * pitch))
    else:
        studs = smoothstep(
            0.0, 0.5, np.maximum(np.sin((u + v) * pitch), np.sin((u - v) * pitch)) - 0.5
        )
    height = studs * np.float32(rng.uniform(2, 6) * unit) + 0.3 * white(rng, size)
    value = relief(height, light, 0.6) * (1 + 0.05 * fbm(rng, size, 0.3, 4))
    if rng.random() < 0.5:
        value += 0.1 * scatter(rng, size, int(rng.integers(20, 200)), 0.4 * unit, 1.0 * unit)
    return surface_scene(rng, paint(value, any_colour(rng, 0.3, 0.12, 0.4)), light, turn)
