"""Stone-like surfaces: concrete, asphalt, plaster, marble, granite, terrazzo, tiles, bricks."""

from __future__ import annotations

import math

import cv2
import numpy as np

from bayes_pfl.rendering.noise import (
    Field,
    Rng,
    axes,
    cells,
    fbm,
    grain,
    pick,
    ridges,
    scatter,
    smoothstep,
    warp,
    white,
    wobble,
)
from bayes_pfl.rendering.scene import (
    Light,
    Scene,
    any_colour,
    hsv,
    mix,
    paint,
    relief,
    rgb,
    surface_scene,
    vary,
)


def mineral_tone(rng: Rng, low: float = 0.25, high: float = 0.75) -> np.ndarray:
    """A grey, warm or cold."""
    hue = pick(rng, [0.08, 0.11, 0.58, 0.62, 0.95])
    return hsv(hue, rng.uniform(0, 0.14), rng.uniform(low, high))


def straight_joint(rng: Rng, size: int, width: float) -> Field:
    """One straight line right across, such as a joint between slabs; coverage in [0, 1]."""
    _, across = axes(
        size, rng.uniform(0, math.pi), (rng.uniform(-0.8, 0.8), rng.uniform(-0.8, 0.8))
    )
    return smoothstep(width + 0.012, width, np.abs(across))


def concrete(rng: Rng, size: int) -> Scene:
    """Cast concrete: clouds, pores, trowel marks, sometimes a joint or a form-work line."""
    light, unit = Light.draw(rng), size / 256
    clouds = fbm(rng, size, rng.uniform(0.2, 0.7), 5, rng.uniform(0.45, 0.7))
    value = 1.0 + np.float32(rng.uniform(0.02, 0.1)) * clouds
    value += np.float32(rng.uniform(0.01, 0.05)) * grain(rng, size, rng.uniform(1, 2.5) * unit)
    if rng.random() < 0.4:
        marks = fbm(rng, size, 0.05, 3, 0.7, rng.uniform(4, 12), rng.uniform(0, math.pi))
        value += np.float32(rng.uniform(0.01, 0.05)) * marks
    if rng.random() < 0.6:
        pores = scatter(
            rng, size, int(rng.integers(4, 90)), 0.6 * unit, rng.uniform(1.2, 2.6) * unit
        )
        value *= 1.0 - np.float32(rng.uniform(0.15, 0.6)) * pores
    if rng.random() < 0.25:
        for _ in range(rng.integers(1, 3)):
            value *= 1.0 - np.float32(rng.uniform(0.2, 0.6)) * straight_joint(
                rng, size, rng.uniform(0.005, 0.03)
            )
    image = paint(value, mineral_tone(rng))
    if rng.random() < 0.5:
        patch = smoothstep(0.2, 1.6, fbm(rng, size, 0.5, 3))
        image = mix(image, image * vary(rng, rgb(0.85, 0.83, 0.8), 0.08), patch)
    return surface_scene(rng, image, light)


def asphalt(rng: Rng, size: int) -> Scene:
    """Road surface: chips of stone in bitumen, worn lanes, painted lines, tar that belongs."""
    light, unit = Light.draw(rng), size / 256
    chip = rng.uniform(1.2, 4.0) * unit
    stones = grain(rng, size, chip)
    if rng.random() < 0.6:
        stones = 0.6 * stones + 0.6 * white(rng, size)
    height = np.abs(stones) if rng.random() < 0.4 else stones
    value = 1.0 + np.float32(rng.uniform(0.05, 0.22)) * stones
    value *= relief(height, light, rng.uniform(0.1, 0.8))
    value += np.float32(rng.uniform(0.02, 0.08)) * fbm(rng, size, rng.uniform(0.3, 0.8), 3)
    if rng.random() < 0.4:
        value += np.float32(rng.uniform(0.02, 0.08)) * fbm(
            rng, size, 0.3, 2, 0.5, 6, rng.uniform(0, math.pi)
        )
    if rng.random() < 0.6:
        specks = scatter(
            rng, size, int(rng.integers(10, 260)), 0.5 * unit, rng.uniform(1, 2.2) * unit
        )
        value += np.float32(rng.uniform(-0.3, 0.6)) * specks
    image = paint(value, mineral_tone(rng, 0.2, 0.62))
    if rng.random() < 0.25:
        image = road_line(rng, image, stones)
    return surface_scene(rng, image, light)


def road_line(rng: Rng, image: np.ndarray, stones: Field) -> np.ndarray:
    """A painted lane mark, worn where the stones stand out."""
    size = image.shape[0]
    along, across = axes(size, rng.uniform(0, math.pi), tuple(rng.uniform(-0.8, 0.8, 2)))
    half = rng.uniform(0.08, 0.3)
    line = smoothstep(half + 0.03, half, np.abs(across) + 0.01 * stones)
    if rng.random() < 0.5:
        line = line * smoothstep(0.0, 0.03, along - np.float32(rng.uniform(-0.8, 0.3)))
    wear = fbm(rng, size, 0.15, 4, 0.8) + 0.5 * stones
    line = line * smoothstep(rng.uniform(0.8, 2.5), rng.uniform(-0.5, 0.5), wear)
    paint_tone = vary(rng, rgb(0.85, 0.85, 0.82) if rng.random() < 0.8 else rgb(0.85, 0.65, 0.15))
    return mix(image, paint_tone * (0.9 + 0.1 * stones[..., None]), line * rng.uniform(0.5, 0.95))


def plaster(rng: Rng, size: int) -> Scene:
    """A painted wall: roller structure or rough render in one colour."""
    light, unit = Light.draw(rng), size / 256
    rough = (
        fbm(rng, size, rng.uniform(0.02, 0.09), 3, 0.6) if rng.random() < 0.7 else white(rng, size)
    )
    height = rough * np.float32(rng.uniform(0.6, 2.5) * unit)
    value = relief(height, light, rng.uniform(0.3, 1.0))
    value = value + np.float32(rng.uniform(0.0, 0.05)) * fbm(rng, size, 0.5, 3)
    image = paint(value, any_colour(rng, 0.5, 0.4, 0.95))
    return surface_scene(rng, image, light)


def marble(rng: Rng, size: int) -> Scene:
    """Polished marble: veins of many widths that run on and fade, clouds behind them."""
    light = Light.draw(rng)
    turn = rng.uniform(0, math.pi)
    base, vein = vary(rng, mineral_tone(rng, 0.5, 0.95)), mineral_tone(rng, 0.05, 0.5)
    if rng.random() < 0.35:
        base, vein = vein, base
    clouds = fbm(rng, size, rng.uniform(0.25, 0.6), 5, 0.55)
    image = mix(base, vary(rng, base, 0.1), smoothstep(-1.5, 1.5, clouds))
    for cell in rng.uniform(0.08, 0.7, rng.integers(2, 4)):
        field = fbm(rng, size, cell, 4, 0.55, rng.uniform(1.2, 3.5), turn + rng.normal(0, 0.3))
        crest = np.exp(-np.abs(field) * np.float32(rng.uniform(6, 30)))
        fade = smoothstep(-0.8, 1.2, fbm(rng, size, 0.5, 2))
        image = mix(image, vary(rng, vein, 0.08), crest * fade * np.float32(rng.uniform(0.2, 0.85)))
    return surface_scene(rng, image, light)


def granite(rng: Rng, size: int) -> Scene:
    """Crystals of three or four colours, fine or coarse."""
    light, unit = Light.draw(rng), size / 256
    tones = [mineral_tone(rng, 0.05, 0.9) for _ in range(3)]
    if rng.random() < 0.4:
        tones[1] = hsv(rng.uniform(0.0, 0.08), rng.uniform(0.2, 0.5), rng.uniform(0.4, 0.7))
    width = rng.uniform(1.5, 7.0) * unit
    image = np.broadcast_to(tones[0], (size, size, 3)).astype(np.float32)
    for tone, bar in zip(tones[1:], rng.uniform(-0.2, 1.2, 2), strict=True):
        crystals = grain(rng, size, width * rng.uniform(0.7, 1.5))
        image = mix(image, tone, smoothstep(bar, bar + rng.uniform(0.1, 0.5), crystals))
    value = (
        1.0 + 0.04 * white(rng, size) + np.float32(rng.uniform(0, 0.06)) * fbm(rng, size, 0.5, 3)
    )
    return surface_scene(rng, image * value[..., None], light)


def terrazzo(rng: Rng, size: int) -> Scene:
    """Chips of many stones in a cement of one colour."""
    light = Light.draw(rng)
    near, border, value = cells(rng, size, int(rng.integers(40, 500)), rng.uniform(0.8, 1.0))
    border = wobble(rng, border, 0.03, 1.2 * size / 256)
    palette = np.stack([vary(rng, mineral_tone(rng, 0.15, 0.95), 0.1) for _ in range(5)])
    if rng.random() < 0.5:
        palette[:2] = [any_colour(rng, 0.6, 0.3, 0.8) for _ in range(2)]
    chips = palette[(value * 4.999).astype(int)]
    inside = smoothstep(
        rng.uniform(0.03, 0.15), rng.uniform(0.16, 0.25), border - 0.12 * (value - 0.5)
    )
    chosen = inside * ((value * 37.0) % 1.0 < np.float32(rng.uniform(0.4, 1.0)))
    ground = paint(1 + 0.03 * white(rng, size), mineral_tone(rng, 0.3, 0.95))
    return surface_scene(rng, mix(ground, chips, chosen), light)


def lattice(rng: Rng, size: int, across: float, ratio: float, bond: float, gap: float) -> tuple:
    """A wall of rectangles: (joint coverage, one value a rectangle, turn, bevel field)."""
    turn = (
        pick(rng, [0.0, math.pi / 2]) + rng.normal(0, 0.05)
        if rng.random() < 0.8
        else rng.uniform(0, 3)
    )
    x, y = axes(size, turn, tuple(rng.uniform(-1, 1, 2)))
    rows = y * np.float32(across * 0.5)
    row = np.floor(rows)
    columns = x * np.float32(across * 0.5 / ratio) + row * np.float32(bond)
    column = np.floor(columns)
    to_edge = np.minimum(
        0.5 - np.abs(rows - row - 0.5), (0.5 - np.abs(columns - column - 0.5)) * np.float32(ratio)
    )
    seed = np.float32(rng.uniform(5, 9))
    value = np.abs(np.sin((row * 12.9898 + column * 78.233 + seed) * 43.758)) % 1.0
    soft = 1.5 * across / size
    return smoothstep(gap + soft, gap, to_edge), value.astype(np.float32), turn, to_edge


def tiles(rng: Rng, size: int) -> Scene:
    """Glazed wall tiles with joints: glaze in one colour, speckles, a lamp's reflection."""
    light = Light.draw(rng)
    ratio, bond = pick(rng, [1.0, 1.0, 2.0, 3.0]), pick(rng, [0.0, 0.0, 0.5])
    joint, value, _, edge = lattice(
        rng, size, rng.uniform(0.8, 7), ratio, bond, rng.uniform(0.01, 0.04)
    )
    shade = 1.0 + np.float32(rng.uniform(0, 0.1)) * (value - 0.5)
    shade += np.float32(rng.uniform(0, 0.05)) * fbm(rng, size, 0.3, 4)
    shade *= relief(smoothstep(0.0, 0.1, edge) * np.float32(4 * size / 256), light, 0.4)
    image = paint(shade, any_colour(rng, 0.6, 0.25, 0.95))
    if rng.random() < 0.35:
        speck = scatter(rng, size, int(rng.integers(60, 400)), 0.5, 1.8 * size / 256)
        image = mix(image, mineral_tone(rng, 0.1, 0.8), speck * np.float32(rng.uniform(0.3, 0.9)))
    grout = paint(1 + 0.06 * white(rng, size), mineral_tone(rng, 0.15, 0.9))
    return surface_scene(rng, mix(image, grout, joint), light)


def mosaic(rng: Rng, size: int) -> Scene:
    """Small tesserae of several colours, regular or broken."""
    light = Light.draw(rng)
    if rng.random() < 0.5:
        joint, value, _, _ = lattice(
            rng, size, rng.uniform(6, 16), 1.0, 0.0, rng.uniform(0.05, 0.1)
        )
    else:
        _, border, value = cells(rng, size, int(rng.integers(30, 160)), rng.uniform(0.5, 1))
        joint = smoothstep(0.1, 0.05, border)
    first = any_colour(rng, 0.8, 0.2, 0.9)
    palette = np.stack([vary(rng, first, 0.15) for _ in range(5)] + [any_colour(rng)])
    image = palette[(value * 5.2).astype(int) % 6] * (1 + 0.03 * white(rng, size))[..., None]
    grout = paint(1 + 0.05 * white(rng, size), mineral_tone(rng, 0.2, 0.9))
    return surface_scene(rng, mix(image, grout, joint), light)


def bricks(rng: Rng, size: int) -> Scene:
    """A brick wall: fired clay of uneven colour, rough mortar."""
    light, unit = Light.draw(rng), size / 256
    joint, value, _, _ = lattice(
        rng, size, rng.uniform(2, 8), rng.uniform(2, 3.4), 0.5, rng.uniform(0.05, 0.1)
    )
    joint, value = (wobble(rng, f, 0.04, rng.uniform(0.5, 1.6) * unit) for f in (joint, value))
    clay = hsv(rng.uniform(0.0, 0.09), rng.uniform(0.15, 0.65), rng.uniform(0.35, 0.75))
    rough = fbm(rng, size, 0.05, 4, 0.8)
    shade = 1 + 0.35 * (value - 0.5) + np.float32(rng.uniform(0.04, 0.12)) * rough
    image = paint(shade * relief(rough * 1.5 * unit - 3 * joint * unit, light, 0.5), clay)
    mortar = paint(1 + 0.08 * white(rng, size), mineral_tone(rng, 0.4, 0.85))
    return surface_scene(rng, mix(image, mortar, joint), light)


def frosted_glass(rng: Rng, size: int) -> Scene:
    """Cast or frosted glass before something blurred."""
    light, unit = Light.draw(rng), size / 256
    behind = mix(
        any_colour(rng, 0.4, 0.2, 0.9),
        any_colour(rng, 0.4, 0.3, 0.9),
        smoothstep(-1, 1, fbm(rng, size, 0.7, 2)),
    )
    bumps = fbm(rng, size, rng.uniform(0.02, 0.15), 2, 0.5) * np.float32(rng.uniform(1, 5) * unit)
    behind = warp(behind, bumps * 3, cv2.flip(bumps, 1) * 3)
    gloss = relief(bumps, light, rng.uniform(0.2, 0.8))
    return surface_scene(rng, behind * gloss[..., None], light)


def slate(rng: Rng, size: int) -> Scene:
    """Split slate: layers with stepped, wandering edges."""
    light, unit = Light.draw(rng), size / 256
    layers = fbm(rng, size, rng.uniform(0.2, 0.5), 5, 0.55, rng.uniform(1, 3), rng.uniform(0, 3))
    steps = np.floor(layers * 3) + smoothstep(0.0, 0.35, (layers * 3) % 1.0)
    height = steps * np.float32(rng.uniform(1, 4) * unit) + 0.5 * grain(rng, size, 2 * unit)
    image = paint(
        relief(height, light, 0.6) + 0.05 * ridges(rng, size, 0.2), mineral_tone(rng, 0.15, 0.45)
    )
    return surface_scene(rng, image, light, 0.0)
