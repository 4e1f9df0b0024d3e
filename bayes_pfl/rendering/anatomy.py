"""More of the body, inside and outside: joint, lung, breast and heart scans, mucosa, blood."""

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
    ridges,
    smoothstep,
    warp,
    white,
)
from bayes_pfl.rendering.scans import scan_scene
from bayes_pfl.rendering.scene import (
    Light,
    Scene,
    hsv,
    mix,
    paint,
    relief,
    rgb,
    surface_scene,
)
from bayes_pfl.rendering.solids import wavy


def _ellipse(
    rng: Rng,
    x: Field,
    y: Field,
    centre: tuple[float, float],
    half: tuple[float, float],
    uneven: float = 0.06,
) -> Field:
    """Distance from ``centre``: 1 on the outline of a wavy ellipse."""
    dx = (x - np.float32(centre[0])) / np.float32(half[0])
    dy = (y - np.float32(centre[1])) / np.float32(half[1])
    return np.hypot(dx, dy) - wavy(rng, uneven)(np.arctan2(dy, dx))


def knee_mri(rng: Rng, size: int) -> Scene:
    """Two bones end to end, marrow bright or dark, cartilage between, muscle and fat round them."""
    x, y = axes(size, rng.normal(0, 0.12), tuple(rng.normal(0, 0.06, 2)))
    x = x * np.float32(pick(rng, [-1, 1]))
    marrow, muscle, fat = rng.uniform(0.25, 0.85), rng.uniform(0.2, 0.4), rng.uniform(0.5, 0.95)
    bend = np.float32(rng.uniform(-0.1, 0.1)) * y
    limb = smoothstep(1.0, 0.96, np.abs(x - bend) / np.float32(rng.uniform(0.68, 0.92)))
    inner = smoothstep(0.96, 0.9, np.abs(x - bend) / np.float32(rng.uniform(0.58, 0.66)))
    strands = fbm(rng, size, 0.05, 3, 0.6, 5, math.pi / 2)
    value = fat * limb * (1 + 0.06 * fbm(rng, size, 0.05, 3))
    value += (muscle * (1 + 0.2 * strands) - value) * inner
    where = np.zeros_like(value)
    gap, knob = rng.uniform(0.02, 0.06), rng.uniform(0.36, 0.48)
    for side in (-1, 1):
        shaft = np.abs(x - bend) / np.float32(rng.uniform(0.2, 0.3)) + 4 * (y * side < 0.25)
        head = _ellipse(rng, x, y, (0, side * (gap + 0.3)), (knob, 0.3), 0.05)
        bone = np.minimum(shaft, head)
        shell, core = smoothstep(1.06, 1.02, bone), smoothstep(1.0, 0.93, bone)
        value += (0.06 - value) * shell
        struts = 1 + 0.08 * fbm(rng, size, 0.03, 3, 0.7)
        value += (marrow * struts - value) * core
        where = np.maximum(where, core)
    disc = smoothstep(1.0, 0.8, _ellipse(rng, x, y, (0, 0), (knob * 0.9, gap + 0.02)))
    value += (rng.uniform(0.05, 0.9) - value) * disc * (1 - where)
    cap = smoothstep(1.0, 0.9, _ellipse(rng, x, y, (0.52, -0.2), (0.08, 0.2)))
    value += (marrow * 0.9 - value) * cap * limb
    return scan_scene(rng, value * rng.uniform(0.8, 1.15), where, rng.uniform(0.01, 0.05))


def lung_ct(rng: Rng, size: int) -> Scene:
    """Axial slice of a chest: two dark lungs with vessels as spots and branches, heart, ribs."""
    x, y = axes(size, rng.normal(0, 0.05), tuple(rng.normal(0, 0.04, 2)))
    body = _ellipse(rng, x, y, (0, 0), (0.95, rng.uniform(0.66, 0.82)), 0.015)
    inside = smoothstep(1.0, 0.98, body)
    value = 0.3 * inside + 0.25 * smoothstep(0.92, 0.9, body)
    turns = np.sin(np.arctan2(y, x) * int(rng.integers(8, 14)) + rng.uniform(0, 6))
    ribs = smoothstep(0.05, 0.02, np.abs(body - 0.88)) * smoothstep(0.4, 0.8, turns)
    value += (0.95 - value) * ribs
    heart = _ellipse(rng, x, y, (0.1, -0.1), (0.26, rng.uniform(0.2, 0.32)), 0.08)
    spine = smoothstep(1.0, 0.9, np.hypot(x / 0.13, (y - 0.44) / 0.12))
    where = np.zeros_like(value)
    for side in (-1, 1):
        half = (rng.uniform(0.3, 0.36), rng.uniform(0.42, 0.52))
        lung = _ellipse(rng, x, y, (side * 0.45, 0), half, 0.06)
        where = np.maximum(where, smoothstep(1.0, 0.97, lung))
    where = where * smoothstep(0.95, 1.02, heart) * (1 - spine) * smoothstep(0.85, 0.82, body)
    air = rng.uniform(0.03, 0.14) + 0.03 * fbm(rng, size, 0.2, 3)
    branches = smoothstep(0.8, 0.97, ridges(rng, size, rng.uniform(0.1, 0.2), 2))
    dots = smoothstep(1.9, 2.6, grain(rng, size, rng.uniform(3, 6) * size / 256))
    vessels = np.maximum(branches * np.float32(rng.uniform(0.2, 0.7)), dots)
    air = air + np.float32(rng.uniform(0.25, 0.5)) * vessels
    value += (air - value) * where
    value += (0.9 + 0.1 * fbm(rng, size, 0.03, 2) - value) * spine
    value += 0.02 * fbm(rng, size, 0.2, 3) * inside
    return scan_scene(rng, value, where, rng.uniform(0.01, 0.05))


def mammogram(rng: Rng, size: int) -> Scene:
    """A breast from one edge of the film: fat, a web of bright glandular tissue, skin line."""
    x, y = axes(size, rng.normal(0, 0.05), (0.0, rng.normal(0, 0.12)))
    x = x * np.float32(pick(rng, [-1, 1]))
    reach = (rng.uniform(1.1, 1.75), rng.uniform(0.7, 1.0))
    away = _ellipse(rng, x, y, (-1, 0), reach, 0.03)
    where = smoothstep(1.0, 0.96, away)
    sparse = rng.uniform(-0.8, 0.6)
    tissue = fbm(rng, size, rng.uniform(0.2, 0.4), 4, 0.6) + 0.8 - away
    density = smoothstep(sparse, 1.2, tissue)
    web = ridges(rng, size, rng.uniform(0.08, 0.16), 3)
    value = rng.uniform(0.14, 0.3) + np.float32(rng.uniform(0.25, 0.55)) * density
    value += np.float32(rng.uniform(0.06, 0.2)) * web * (0.35 + density)
    skin = np.exp(-(((away - 0.97) / 0.02) ** 2))
    value = (value * (1 - 0.35 * smoothstep(0.6, 1.0, away)) + 0.12 * skin) * where
    corner = smoothstep(0.0, -0.25, x + np.float32(rng.uniform(0.5, 1.0)) + 0.6 * y)
    value += np.float32(rng.uniform(0, 0.4)) * corner * where
    return scan_scene(rng, value, smoothstep(0.95, 0.9, away), rng.uniform(0.005, 0.02))


def heart_mri(rng: Rng, size: int) -> Scene:
    """A short-axis slice: dark ring of muscle about a bright chamber, a second one at its side."""
    x, y = axes(size, rng.uniform(-0.6, 0.6), tuple(rng.normal(0, 0.12, 2)))
    value = 0.2 + 0.12 * fbm(rng, size, 0.3, 4) + 0.08 * ridges(rng, size, 0.25, 2)
    wall = smoothstep(0.9, 1.0, np.hypot(x, y) / np.float32(rng.uniform(0.75, 1.0)))
    value += (rng.uniform(0.45, 0.8) - value) * wall
    blood, muscle = rng.uniform(0.6, 0.95), rng.uniform(0.12, 0.35)
    outer, thick = rng.uniform(0.3, 0.42), rng.uniform(0.2, 0.4)
    beside = _ellipse(rng, x, y, (-outer * 1.1, 0.05), (outer * 0.95, outer * 1.05), 0.1)
    value += (muscle - value) * smoothstep(1.1, 1.05, beside)
    value += (blood * 0.95 - value) * smoothstep(0.98, 0.9, beside)
    ring = _ellipse(rng, x, y, (0, 0), (outer, outer * rng.uniform(0.9, 1.1)), 0.03)
    heart = smoothstep(1.0, 0.96, ring)
    value += (muscle * (1 + 0.08 * fbm(rng, size, 0.06, 3)) - value) * heart
    chamber = smoothstep(1 - thick, 1 - thick - 0.06, ring + 0.03 * fbm(rng, size, 0.08, 2))
    value += (blood * (1 + 0.05 * fbm(rng, size, 0.1, 3)) - value) * chamber
    where = np.maximum(heart, smoothstep(1.05, 1.0, beside))
    return scan_scene(rng, value * rng.uniform(0.8, 1.1), where, rng.uniform(0.01, 0.06))


def layer_scan(rng: Rng, size: int) -> Scene:
    """A section by light waves: a stack of bent bright and dark layers in speckle."""
    x, y = axes(size, rng.normal(0, 0.06))
    dip = np.float32(rng.uniform(0.1, 0.35)) * np.exp(
        -((x / np.float32(rng.uniform(0.2, 0.5))) ** 2)
    )
    bow = np.float32(rng.normal(0, 0.15)) * x * x + 0.05 * fbm(rng, size, 0.8, 2)
    depth = y - bow + np.float32(rng.uniform(0.0, 0.4))
    total = np.float32(rng.uniform(0.5, 0.9))
    top = depth - dip * smoothstep(0.6, 0.0, depth / total)
    place = np.clip(top / total, -1, 2)
    count = int(rng.integers(6, 10))
    edges = np.sort(rng.uniform(0.08, 0.92, count)).astype(np.float32)
    tones = rng.uniform(0.1, 0.55, count + 1).astype(np.float32)
    tones[[0, -1]] = rng.uniform(0.6, 0.95, 2)
    value = np.full_like(place, tones[0])
    for edge, tone in zip(edges, tones[1:], strict=True):
        value += (tone - value) * smoothstep(edge - 0.015, edge + 0.015, place)
    inside = smoothstep(-0.01, 0.02, place)
    below = smoothstep(1.0, 1.04, place)
    value *= inside * (1 - below * (0.35 + 0.65 * smoothstep(1.0, 1.9, place)))
    speckle = np.abs(grain(rng, size, rng.uniform(1.2, 2.2) * size / 256))
    value = value * (0.6 + 0.4 * speckle) + np.float32(rng.uniform(0.01, 0.06)) * speckle
    where = inside * (1 - below)
    return scan_scene(rng, value, where, 0.005)


def stomach(rng: Rng, size: int) -> Scene:
    """Mucosa with thick winding folds, lit from the camera; wet highlights, a round field."""
    light, unit = Light.draw(rng), size / 256
    x, y = axes(size)
    bend = [fbm(rng, size, rng.uniform(0.25, 0.5), 2) * np.float32(14 * unit) for _ in range(2)]
    turn = rng.uniform(0, math.pi)
    along = x * np.float32(math.cos(turn)) + y * np.float32(math.sin(turn))
    waves = np.sin(along * np.float32(rng.uniform(8, 22)))
    folds = warp(np.abs(waves).astype(np.float32), *bend) ** np.float32(rng.uniform(0.4, 0.9))
    pits = cells(rng, size, int(rng.integers(800, 4000)), 1.0)[1]
    height = folds * np.float32(rng.uniform(0, 14) * unit)
    height = height + smoothstep(0, 0.3, pits) * np.float32(rng.uniform(0, 0.8) * unit)
    value = relief(height, light, rng.uniform(0.4, 0.9))
    lamp = np.hypot(x - np.float32(rng.normal(0, 0.3)), y - np.float32(rng.normal(0, 0.3)))
    value *= 1.1 - np.float32(rng.uniform(0.2, 0.55)) * lamp
    value += np.float32(0.05) * fbm(rng, size, 0.3, 3)
    tone = hsv(rng.uniform(0.98, 1.07), rng.uniform(0.3, 0.65), rng.uniform(0.65, 0.95))
    image = paint(value, tone)
    flush = smoothstep(-0.3, 1.5, fbm(rng, size, 0.25, 4))
    image = mix(image, image * rgb(1.0, 0.7, 0.68), flush * np.float32(rng.uniform(0, 0.4)))
    wet = smoothstep(2.0, 2.4, grain(rng, size, rng.uniform(3, 10) * unit) + 0.8 * (value - 1))
    image = mix(image, rgb(1, 0.97, 0.95), wet * np.float32(rng.uniform(0.2, 1)))
    scene = surface_scene(rng, image, light)
    if rng.random() < 0.5:
        seen = smoothstep(1.0, 0.97, np.hypot(x, y) / np.float32(rng.uniform(0.92, 1.15)))
        scene.dim(0.03 + 0.97 * seen)
        scene.where = seen
    return scene


def blood_smear(rng: Rng, size: int) -> Scene:
    """Red cells as pale-centred discs on a bright ground, a few large cells with a violet core."""
    light = Light.draw(rng)
    near, _, own = cells(rng, size, int(rng.integers(60, 700)), rng.uniform(0.6, 1.0))
    near = near + 0.03 * fbm(rng, size, 0.03, 2)
    ground = hsv(rng.uniform(0.05, 0.15), rng.uniform(0.02, 0.15), rng.uniform(0.85, 0.98))
    red = hsv(rng.uniform(0.93, 1.05), rng.uniform(0.25, 0.6), rng.uniform(0.6, 0.9))
    image = paint(1 + 0.02 * fbm(rng, size, 0.4, 3) + 0.01 * white(rng, size), ground)
    there = (own < rng.uniform(0.5, 0.95)).astype(np.float32)
    radius = np.float32(rng.uniform(0.36, 0.46)) * (0.9 + 0.15 * own)
    disc = smoothstep(0.02, -0.02, near - radius) * there
    pale = smoothstep(0.6, 0.1, near / radius) * np.float32(rng.uniform(0.1, 0.6))
    body = mix(paint(0.95 + 0.1 * own, red), ground, pale)
    image = mix(image, body, disc * np.float32(rng.uniform(0.75, 1)))
    large = smoothstep(0.02, -0.03, near - 0.46) * (own > rng.uniform(0.97, 1.0))
    violet = hsv(rng.uniform(0.7, 0.82), rng.uniform(0.4, 0.7), rng.uniform(0.35, 0.6))
    image = mix(image, paint(0.9 + 0.2 * fbm(rng, size, 0.03, 3), violet), large)
    return surface_scene(rng, image, light)


def tongue(rng: Rng, size: int) -> Scene:
    """The back of a tongue: countless small papillae, a coat in the middle, a furrow."""
    light, unit = Light.draw(rng), size / 256
    x, y = axes(size, rng.normal(0, 0.2), tuple(rng.normal(0, 0.1, 2)))
    near, _, own = cells(rng, size, int(rng.integers(900, 5000)), 1.0)
    height = smoothstep(0.5, 0.0, near) * (0.5 + own) * np.float32(rng.uniform(0.6, 1.8) * unit)
    furrow = np.exp(-((x / np.float32(rng.uniform(0.02, 0.08))) ** 2))
    height = height - furrow * np.float32(rng.uniform(0, 3) * unit)
    value = relief(height, light, 0.7) + 0.04 * fbm(rng, size, 0.4, 3)
    tone = hsv(rng.uniform(0.95, 1.02), rng.uniform(0.3, 0.6), rng.uniform(0.6, 0.92))
    image = paint(value * (1 - 0.15 * np.hypot(x, y)), tone)
    coat = smoothstep(0.9, 0.2, np.abs(x) + 0.25 * fbm(rng, size, 0.2, 3))
    pale = rgb(0.9, 0.86, 0.8) * value[..., None]
    image = mix(image, pale, coat * np.float32(rng.uniform(0, 0.6)))
    red = smoothstep(0.985, 1.0, own) * smoothstep(0.45, 0.2, near)
    image = mix(image, image * rgb(1.0, 0.5, 0.5), red * np.float32(rng.uniform(0, 0.9)))
    return surface_scene(rng, image, light)
