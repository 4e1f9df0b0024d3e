"""Wood, leather, cloth, paper, carpet, cork: surfaces made of fibres and pores."""

from __future__ import annotations

import math

import cv2
import numpy as np

from bayes_pfl.rendering.metals import engraving
from bayes_pfl.rendering.minerals import lattice
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
    warp,
    white,
    wobble,
)
from bayes_pfl.rendering.scene import (
    Colour,
    Light,
    Scene,
    any_colour,
    hsv,
    mix,
    paint,
    relief,
    surface_scene,
    vary,
)


def wood_tone(rng: Rng) -> Colour:
    """The colour of wood, from pale to dark."""
    return hsv(rng.uniform(0.045, 0.11), rng.uniform(0.2, 0.7), rng.uniform(0.3, 0.88))


def wood_field(rng: Rng, size: int, turn: float) -> tuple[Field, Field]:
    """Growth rings cut lengthwise, and pores: two fields about zero."""
    u, v = axes(size, turn, tuple(rng.uniform(-0.5, 0.5, 2)))
    drift = fbm(rng, size, 0.7, 2, 0.4, rng.uniform(2, 5), turn)
    rings = v * np.float32(rng.uniform(3, 14)) + np.float32(rng.uniform(0.3, 1.4)) * drift
    if rng.random() < 0.4:
        rings = rings + np.float32(rng.uniform(1, 4)) * np.sqrt((0.25 * u) ** 2 + v * v + 0.01)
    phase = rings % 1.0
    bands = np.where(phase < 0.8, phase / 0.8, (1 - phase) / 0.2) - 0.5
    pores = fbm(rng, size, rng.uniform(0.008, 0.018), 2, 0.7, rng.uniform(12, 40), turn)
    return bands.astype(np.float32), pores


def wood_image(rng: Rng, size: int, turn: float, knots: bool = True) -> np.ndarray:
    """Planed wood, with knots that belong to it."""
    bands, pores = wood_field(rng, size, turn)
    tone = wood_tone(rng)
    if knots and rng.random() < 0.4:
        bands, ring = _add_knots(rng, bands, turn)
    else:
        ring = None
    contrast = np.float32(rng.uniform(0.08, 0.35))
    value = 1 + contrast * bands + np.float32(rng.uniform(0.02, 0.09)) * pores
    value += np.float32(rng.uniform(0.0, 0.06)) * fbm(rng, size, 0.3, 3, 0.5, 3, turn)
    image = paint(value, tone)
    image[..., 2] -= 0.25 * contrast * bands * tone[2]
    if ring is not None:
        image = mix(image, tone * np.float32(rng.uniform(0.3, 0.6)), ring)
    return image


def _add_knots(rng: Rng, bands: Field, turn: float) -> tuple[Field, Field]:
    size = bands.shape[0]
    total = np.zeros_like(bands)
    for _ in range(rng.integers(1, 3)):
        u, v = axes(size, turn, tuple(rng.uniform(-0.9, 0.9, 2)))
        radius = np.sqrt((u * np.float32(rng.uniform(0.6, 1))) ** 2 + v * v) / np.float32(
            rng.uniform(0.06, 0.2)
        )
        near = np.exp(-radius)
        bands = bands * (1 - near) + near * np.sin(radius * np.float32(rng.uniform(5, 9)))
        total = np.maximum(total, smoothstep(0.8, 0.35, radius) * np.float32(rng.uniform(0.4, 0.9)))
    return bands, total


def wood(rng: Rng, size: int) -> Scene:
    """One board, or boards side by side."""
    light, turn = Light.draw(rng), pick(rng, [0.0, math.pi / 2]) + rng.normal(0, 0.06)
    image = wood_image(rng, size, turn)
    if rng.random() < 0.3:
        _, across = axes(size, turn, (0, rng.uniform(-0.5, 0.5)))
        pitch = rng.uniform(0.4, 1.2)
        plank = across / np.float32(pitch)
        shade = 1 + 0.2 * np.sin(np.floor(plank) * 78.2)
        gap = smoothstep(0.02, 0.008, np.abs(plank - np.round(plank)) * pitch)
        image = image * (shade * (1 - 0.7 * gap))[..., None]
    return surface_scene(rng, image, light, turn)


def parquet(rng: Rng, size: int) -> Scene:
    """Short staves of different boards, in a bond."""
    light = Light.draw(rng)
    joint, value, turn, _ = lattice(rng, size, rng.uniform(4, 9), rng.uniform(2.5, 6), 0.37, 0.015)
    bands, pores = wood_field(rng, size, turn)
    bands = warp(bands, (value - 0.5) * size * 0.3, (value * 7 % 1 - 0.5) * size * 0.3)
    shade = 1 + 0.35 * (value - 0.5) + np.float32(rng.uniform(0.05, 0.2)) * bands + 0.06 * pores
    image = paint(shade * (1 - np.float32(rng.uniform(0.3, 0.7)) * joint), wood_tone(rng))
    return surface_scene(rng, image, light, turn)


def chipboard(rng: Rng, size: int) -> Scene:
    """Pressed flakes of wood (OSB) lying every way."""
    light = Light.draw(rng)
    value = np.zeros((size, size), np.uint8)
    for _ in range(int(rng.integers(160, 300))):
        centre, turn = rng.random(2) * size, rng.uniform(0, 180)
        flake = (
            tuple(centre),
            (rng.uniform(0.06, 0.3) * size, rng.uniform(0.02, 0.07) * size),
            turn,
        )
        points = np.int32(cv2.boxPoints(flake) * 16)
        cv2.fillConvexPoly(value, points, int(rng.integers(90, 255)), cv2.LINE_AA, 4)
    flakes = value.astype(np.float32) / 255
    rough = flakes * 3 * size / 256 + 0.3 * white(rng, size)
    image = paint((0.55 + 0.55 * flakes) * relief(rough, light, 0.4), wood_tone(rng))
    return surface_scene(rng, image, light)


def cork(rng: Rng, size: int) -> Scene:
    """Pressed cork granules with dark pits."""
    light, unit = Light.draw(rng), size / 256
    _, border, value = cells(rng, size, int(rng.integers(150, 900)), 1.0)
    border = wobble(rng, border, 0.02, unit)
    shade = (
        0.9 + 0.3 * (value - 0.5) - 0.15 * smoothstep(0.15, 0.0, border) + 0.06 * white(rng, size)
    )
    pits = scatter(rng, size, int(rng.integers(10, 120)), 0.8 * unit, 3 * unit, 0.3)
    image = paint(
        shade * (1 - 0.55 * pits), hsv(0.08, rng.uniform(0.35, 0.6), rng.uniform(0.5, 0.85))
    )
    return surface_scene(rng, image, light)


def leather(rng: Rng, size: int) -> Scene:
    """Grained hide: cells with creases between, folds, sometimes a seam with stitches."""
    light, unit = Light.draw(rng), size / 256
    _, border, _ = cells(rng, size, int(rng.integers(250, 4000)), 1.0)
    creases = smoothstep(0.0, rng.uniform(0.2, 0.5), border)
    creases = wobble(rng, creases, 0.03, rng.uniform(0.5, 1.5) * unit)
    height = creases * np.float32(rng.uniform(0.8, 2.5) * unit) + 0.5 * unit * fbm(
        rng, size, 0.2, 4
    )
    if rng.random() < 0.3:
        folds = fbm(rng, size, 0.12, 2, 0.5, 5, rng.uniform(0, 3))
        height = height + folds * np.float32(rng.uniform(0.5, 2) * unit)
    value = relief(height, light, rng.uniform(0.3, 0.9)) * (0.88 + 0.12 * creases)
    value += np.float32(rng.uniform(0, 0.06)) * fbm(rng, size, 0.4, 3)
    tone = (
        any_colour(rng, 0.9, 0.1, 0.8)
        if rng.random() < 0.4
        else hsv(rng.uniform(0.02, 0.09), rng.uniform(0.2, 0.8), rng.uniform(0.1, 0.7))
    )
    image = paint(value, tone)
    if rng.random() < 0.2:
        image = stitched_seam(rng, image, light)
    return surface_scene(rng, image, light)


def stitched_seam(rng: Rng, image: np.ndarray, light: Light) -> np.ndarray:
    """A straight row of stitches in a shallow groove."""
    size = image.shape[0]
    along, across = axes(size, rng.uniform(0, math.pi), tuple(rng.uniform(-0.7, 0.7, 2)))
    groove = np.exp(-((across / 0.02) ** 2))
    image = image * relief(-groove * np.float32(3 * size / 256), light, 0.8)[..., None]
    dash = smoothstep(0.1, 0.3, np.sin(along * np.float32(rng.uniform(40, 90))))
    thread = dash * smoothstep(0.018, 0.01, np.abs(across - np.float32(pick(rng, [0, 0.06]))))
    return mix(image, any_colour(rng, 0.7, 0.2, 0.95), thread)


def weave_fields(
    rng: Rng, size: int, threads: float, turn: float, twill: int
) -> tuple[Field, Field]:
    """(height in [0, 1], 1 where the warp thread is on top) of a plain or twill weave."""
    bend = rng.uniform(0.5, 2.0) * size / 256
    u, v = axes(size, turn)
    u = (u + np.float32(2 * bend / size) * fbm(rng, size, 0.25, 2)) * np.float32(threads / 2)
    v = (v + np.float32(2 * bend / size) * fbm(rng, size, 0.25, 2)) * np.float32(threads / 2)
    column, row = np.floor(u), np.floor(v)
    over = ((column + row) % twill) < (twill / 2)
    across_u, across_v = np.sin((u - column) * math.pi), np.sin((v - row) * math.pi)
    height = np.where(
        over, across_u * (0.55 + 0.45 * across_v), across_v * (0.55 + 0.45 * across_u)
    )
    return height.astype(np.float32), over


def woven(rng: Rng, size: int) -> Scene:
    """Woven cloth of one or two yarn colours; plain, twill, striped or checked."""
    light, turn = Light.draw(rng), rng.normal(0, 0.15) if rng.random() < 0.6 else rng.uniform(0, 3)
    threads = rng.uniform(14, 90)
    height, over = weave_fields(rng, size, threads, turn, int(pick(rng, [2, 2, 4])))
    first = any_colour(rng, 0.9, 0.1, 0.95)
    second = vary(rng, first, 0.05) if rng.random() < 0.5 else any_colour(rng, 0.9, 0.1, 0.95)
    value = 0.45 + 0.6 * height + np.float32(rng.uniform(0.02, 0.08)) * grain(rng, size, 1.5)
    value *= 1 + 0.05 * fbm(rng, size, 0.03, 2, 0.6, 8, turn)
    image = value[..., None] * np.where(over[..., None], first, second)
    if rng.random() < 0.3:
        image = stripes(rng, image, turn)
    return surface_scene(rng, image, light, turn)


def stripes(rng: Rng, image: np.ndarray, turn: float) -> np.ndarray:
    """Dyed stripes or checks: a pattern that belongs."""
    u, v = axes(image.shape[0], turn)
    pitch, width = np.float32(rng.uniform(4, 16)), rng.uniform(-0.6, 0.8)
    bars = smoothstep(width, width + 0.1, np.sin(u * pitch))
    if rng.random() < 0.5:
        bars = 0.5 * (bars + smoothstep(width, width + 0.1, np.sin(v * pitch)))
    return mix(image, image * (0.3 + any_colour(rng, 0.9, 0.3, 1.0)), bars)


def knit(rng: Rng, size: int) -> Scene:
    """Knitted loops in columns."""
    light, turn = Light.draw(rng), rng.normal(0, 0.12) + pick(rng, [0, math.pi / 2])
    u, v = axes(size, turn)
    u = u + np.float32(0.01) * fbm(rng, size, 0.3, 2)
    count = np.float32(rng.uniform(7, 26))
    u, v = u * count, v * count * np.float32(rng.uniform(0.8, 1.3))
    inside = np.abs(u - np.floor(u) - 0.5)
    loop = np.sin((v + 1.2 * inside) * (2 * math.pi))
    height = (0.5 + 0.5 * loop) * np.sqrt(np.clip(np.sin(2 * math.pi * np.abs(inside)), 0, 1))
    fuzz = grain(rng, size, 1.5) * 0.06
    value = 0.5 + 0.55 * height.astype(np.float32) + fuzz
    image = paint(value, any_colour(rng, 0.9, 0.12, 0.95))
    if rng.random() < 0.3:
        image = stripes(rng, image, turn)
    return surface_scene(rng, image, light, turn)


def corduroy(rng: Rng, size: int) -> Scene:
    """Ribbed velvet."""
    light, turn = Light.draw(rng), rng.uniform(0, math.pi)
    _, v = axes(size, turn)
    v = v + np.float32(rng.uniform(0, 0.01)) * fbm(rng, size, 0.4, 2)
    rib = np.abs(np.sin(v * np.float32(rng.uniform(20, 80))))
    pile = fbm(rng, size, 0.015, 2, 0.7, 3, turn + math.pi / 2)
    value = (
        0.45 + 0.5 * rib + np.float32(rng.uniform(0.03, 0.1)) * pile + 0.05 * fbm(rng, size, 0.3, 3)
    )
    return surface_scene(rng, paint(value, any_colour(rng, 0.9, 0.15, 0.85)), light, turn)


def felt(rng: Rng, size: int) -> Scene:
    """Matted fibres without direction."""
    light = Light.draw(rng)
    value = np.ones((size, size), np.float32)
    for turn in rng.uniform(0, math.pi, 3):
        value += np.float32(rng.uniform(0.03, 0.08)) * fbm(rng, size, 0.012, 2, 0.7, 8, turn)
    value += 0.05 * fbm(rng, size, 0.12, 3)
    return surface_scene(rng, paint(value, any_colour(rng, 0.8, 0.15, 0.9)), light)


def carpet(rng: Rng, size: int) -> Scene:
    """Tufts of two or three shades."""
    light, unit = Light.draw(rng), size / 256
    near, _, value = cells(rng, size, int(rng.integers(1200, 7000)), 0.9)
    tuft = np.clip(1.1 - near, 0.2, 1)
    shade = tuft * (1 + np.float32(rng.uniform(0.1, 0.6)) * (value - 0.5)) + 0.08 * white(rng, size)
    shade *= 1 + 0.06 * fbm(rng, size, 0.3, 3)
    image = paint(shade, any_colour(rng, 0.6, 0.2, 0.8))
    if rng.random() < 0.35:
        second = any_colour(rng, 0.7, 0.2, 0.9)
        image = mix(image, paint(shade, second), (value > rng.uniform(0.5, 0.9)).astype(np.float32))
    if rng.random() < 0.2:
        image = stripes(rng, image, rng.uniform(0, 3))
    return surface_scene(rng, cv2.GaussianBlur(image, (0, 0), 0.4 + 0.3 * unit), light)


def paper(rng: Rng, size: int) -> Scene:
    """Paper or cardboard: fibres, flutes, printing."""
    light, unit = Light.draw(rng), size / 256
    turn = rng.uniform(0, math.pi)
    fibres = fbm(rng, size, 0.02, 3, 0.8, rng.uniform(1.5, 4), turn)
    value = 1 + np.float32(rng.uniform(0.005, 0.04)) * fibres + 0.01 * white(rng, size)
    if rng.random() < 0.3:
        _, v = axes(size, turn)
        value += np.float32(rng.uniform(0.01, 0.04)) * np.sin(v * np.float32(rng.uniform(40, 110)))
    tone = hsv(rng.uniform(0.07, 0.13), rng.uniform(0, 0.5), rng.uniform(0.6, 0.97))
    image = paint(value, tone)
    if rng.random() < 0.4:
        flecks = scatter(rng, size, int(rng.integers(20, 300)), 0.5 * unit, 1.6 * unit, 0.2)
        image = mix(image, tone * rng.uniform(0.4, 0.8), flecks * 0.7)
    parts = [p for _ in range(rng.integers(0, 4)) for p in engraving(rng, image)]
    return surface_scene(rng, image, light, turn, parts)
