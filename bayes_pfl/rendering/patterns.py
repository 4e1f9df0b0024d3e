"""Regular structures that fill the picture: meshes, plates, labels, zippers, bristles."""

from __future__ import annotations

import math

import numpy as np

from bayes_pfl.rendering.metals import metal_tone
from bayes_pfl.rendering.noise import (
    Field,
    Rng,
    axes,
    fbm,
    pick,
    smoothstep,
    value_noise,
    white,
)
from bayes_pfl.rendering.scene import (
    Light,
    Scene,
    any_colour,
    draw_part,
    hsv,
    mix,
    paint,
    relief,
    rgb,
    rotate_stamp,
    surface_scene,
    text_stamp,
    vary,
)


def _backing(rng: Rng, size: int) -> np.ndarray:
    """What shows through holes: dark, bright or blurred."""
    value = 1 + np.float32(rng.uniform(0, 0.15)) * fbm(rng, size, 0.5, 2)
    tone = hsv(rng.random(), rng.uniform(0, 0.2), pick(rng, [0.05, 0.15, 0.5, 0.9]))
    return paint(value, tone)


def wire_mesh(rng: Rng, size: int) -> Scene:
    """Crossed wires, welded or woven, square or diamond."""
    light, turn = Light.draw(rng), pick(rng, [0, math.pi / 4]) + rng.normal(0, 0.08)
    u, v = axes(size, turn, tuple(rng.uniform(-0.1, 0.1, 2)))
    bend = np.float32(rng.uniform(0, 0.012))
    u, v = u + bend * fbm(rng, size, 0.4, 2), v + bend * fbm(rng, size, 0.4, 2)
    count = np.float32(rng.uniform(2.5, 9))
    half = np.float32(rng.uniform(0.07, 0.2))
    a, b = u * count - np.round(u * count), v * count - np.round(v * count)
    phase = math.pi * (np.round(u * count) + np.round(v * count))
    lift = np.cos(phase)
    one = np.sqrt(np.clip(1 - (a / half) ** 2, 0, 1)), 0.5 * lift * np.cos(math.pi * b)
    two = np.sqrt(np.clip(1 - (b / half) ** 2, 0, 1)), -0.5 * lift * np.cos(math.pi * a)
    upper = np.where((one[0] > 0) & ((two[0] <= 0) | (one[1] > two[1])), one[0], two[0])
    soft = 2.0 * float(count) / size
    solid = np.maximum(
        smoothstep(half, half - soft, np.abs(a)), smoothstep(half, half - soft, np.abs(b))
    )
    tone = metal_tone(rng) if rng.random() < 0.7 else any_colour(rng, 0.8, 0.1, 0.9)
    wires = paint((0.35 + 0.65 * upper) * (1 + 0.05 * white(rng, size)), tone)
    back = _backing(rng, size)
    scene = surface_scene(rng, mix(back, wires, solid), light, turn)
    scene.background = back
    return scene


def perforated_plate(rng: Rng, size: int) -> Scene:
    """Sheet with round, square or long holes in rows."""
    light, turn = Light.draw(rng), rng.normal(0, 0.1)
    u, v = axes(size, turn, tuple(rng.uniform(-0.2, 0.2, 2)))
    count = np.float32(rng.uniform(2, 7))
    row = np.round(v * count)
    shift = np.float32(pick(rng, [0.0, 0.5]))
    a = u * count + shift * row
    a, b = a - np.round(a), v * count - row
    kind, reach = rng.integers(3), rng.uniform(0.18, 0.36)
    if kind == 0:
        inside = reach - np.sqrt(a * a + b * b)
    elif kind == 1:
        inside = reach - np.maximum(np.abs(a), np.abs(b))
    else:
        inside = 0.5 * reach - np.sqrt(np.maximum(np.abs(a) - 0.2, 0) ** 2 + b * b)
    soft = 1.0 * float(count) / size
    hole = smoothstep(-soft, soft, inside)
    rim = np.exp(-((inside / np.float32(0.04)) ** 2))
    sheet = 1 + 0.03 * white(rng, size) + np.float32(rng.uniform(0, 0.08)) * fbm(rng, size, 0.3, 4)
    sheet = sheet * relief(-hole * 4, light, 0.5) + np.float32(rng.uniform(-0.2, 0.3)) * rim
    tone = metal_tone(rng) if rng.random() < 0.6 else any_colour(rng, 0.8, 0.15, 0.9)
    back = _backing(rng, size)
    scene = surface_scene(rng, mix(paint(sheet, tone), back, hole), light, turn)
    scene.background = back
    return scene


def label(rng: Rng, size: int) -> Scene:
    """Printed label: lines of text, a bar code, a coloured field or logo."""
    light, unit = Light.draw(rng), size / 256
    tone = (
        vary(rng, rgb(0.93, 0.93, 0.9)) if rng.random() < 0.6 else any_colour(rng, 0.7, 0.5, 0.95)
    )
    image = paint(1 + 0.012 * white(rng, size) + 0.02 * fbm(rng, size, 0.4, 2), tone)
    ink = rgb(0.08, 0.08, 0.1) if rng.random() < 0.7 else any_colour(rng, 0.9, 0.05, 0.4)
    for _ in range(rng.integers(0, 3)):
        _panel(rng, image)
    parts, turn = [], pick(rng, [0.0, 0.0, math.pi / 2]) + rng.normal(0, 0.03)
    y = rng.uniform(0.02, 0.1) * size
    while y < size * 0.95:
        tall = rng.uniform(8, 30) * unit
        stamp = (
            text_stamp(rng, tall, int(rng.integers(3, 12)))
            if rng.random() < 0.8
            else _bar_code(rng, tall * 2)
        )
        stamp = rotate_stamp(stamp, float(turn))
        left, top = int(rng.uniform(0.0, 0.3) * size), int(y)
        if abs(turn) > 0.5:
            left, top = top, left
        part = draw_part(image, ink, stamp * np.float32(rng.uniform(0.75, 1.0)), top, left)
        y += tall * rng.uniform(1.5, 3.0)
        if part is not None:
            part.kind = "print"
            parts.append(part)
    return surface_scene(rng, image, light, 0.0, parts)


def _panel(rng: Rng, image: np.ndarray) -> None:
    size = image.shape[0]
    top, left = rng.uniform(-0.1, 0.8, 2) * size
    high, wide = rng.uniform(0.1, 0.6, 2) * size
    rows = slice(max(0, int(top)), max(0, int(top + high)))
    columns = slice(max(0, int(left)), max(0, int(left + wide)))
    image[rows, columns] *= 0.15 + 0.8 * any_colour(rng, 0.9, 0.4, 1.0)


def _bar_code(rng: Rng, tall: float) -> Field:
    bars = np.repeat((rng.random(40) < 0.5).astype(np.float32), max(1, int(tall / 16)))
    return np.tile(bars, (max(4, int(tall)), 1))


def zipper(rng: Rng, size: int) -> Scene:
    """Two rows of interlocked teeth on tape."""
    light, turn = Light.draw(rng), pick(rng, [0, math.pi / 2]) + rng.normal(0, 0.05)
    u, v = axes(size, turn, (rng.uniform(-0.15, 0.15), rng.uniform(-0.15, 0.15)))
    count, reach = np.float32(rng.uniform(7, 18)), np.float32(rng.uniform(0.1, 0.28))
    side = np.where(v > 0, 0.0, 0.5).astype(np.float32)
    a = u * count + side
    a = a - np.round(a)
    tooth = smoothstep(0.36, 0.28, np.abs(a)) * smoothstep(reach, reach * 0.92, np.abs(v))
    cloth = (
        0.8
        + 0.15 * np.sin(u * np.float32(rng.uniform(60, 120)))
        + 0.08 * value_noise(rng, size, 0.01)
    )
    cloth *= 1 + 0.25 * smoothstep(0.02, 0.0, np.abs(np.abs(v) - reach * 1.5))
    image = paint(cloth, any_colour(rng, 0.8, 0.08, 0.8))
    height = tooth * np.float32(4 * size / 256)
    shade = relief(height, light, 0.7) * (0.9 + 0.3 * np.cos(a * 4))
    tone = metal_tone(rng) if rng.random() < 0.6 else any_colour(rng, 0.8, 0.1, 0.9)
    return surface_scene(rng, mix(image, paint(shade, tone), tooth), light, turn)


def bristles(rng: Rng, size: int) -> Scene:
    """Tufts of a brush in rows."""
    light = Light.draw(rng)
    image = paint(np.ones((size, size), np.float32), any_colour(rng, 0.6, 0.1, 0.95))
    pitch, jitter = rng.uniform(0.1, 0.2) * size, rng.uniform(0.02, 0.1)
    tones = [any_colour(rng, 0.9, 0.3, 1.0) for _ in range(int(rng.integers(1, 4)))]
    parts = []
    for i, row in enumerate(np.arange(pitch / 2, size, pitch)):
        for j, column in enumerate(np.arange(pitch / 2, size, pitch)):
            side = int(pitch * 0.95)
            dx, dy = rng.normal(0, jitter, 2) * pitch
            x, y = axes(side)
            radius = np.sqrt(x * x + y * y) + 0.06 * rng.standard_normal(
                (side, side), dtype=np.float32
            )
            shade = (0.7 + 0.3 * rng.random((side, side), dtype=np.float32)) * (1.05 - 0.4 * radius)
            tuft = paint(shade, tones[(i + j) % len(tones)])
            part = draw_part(
                image,
                tuft,
                smoothstep(1.0, 0.85, radius),
                int(row + dy - side / 2),
                int(column + dx - side / 2),
            )
            if part is not None:
                parts.append(part)
    return surface_scene(rng, image, light, 0.0, parts)
