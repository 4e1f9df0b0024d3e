"""Living tissue in colour: skin, mucosa, retina, stained sections, teeth."""

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
    smoothstep,
    white,
)
from bayes_pfl.rendering.scene import (
    Light,
    Scene,
    hsv,
    mix,
    paint,
    relief,
    rgb,
    surface_scene,
    vary,
)


def skin(rng: Rng, size: int) -> Scene:
    """Skin close up: fine creases, pores, freckles, hairs, dermoscope vignette, gel bubbles."""
    light, unit = Light.draw(rng), size / 256
    tone = hsv(rng.uniform(0.015, 0.075), rng.uniform(0.2, 0.6), rng.uniform(0.35, 0.95))
    _, border, _ = cells(rng, size, int(rng.integers(600, 5000)), 1.0)
    creases = smoothstep(0.0, 0.3, border)
    value = relief(creases * np.float32(rng.uniform(0.1, 1.2) * unit), light, 0.6)
    value += np.float32(rng.uniform(0.01, 0.05)) * fbm(rng, size, 0.4, 4) + 0.01 * white(rng, size)
    image = paint(value, tone)
    flush = smoothstep(-0.5, 2.0, fbm(rng, size, 0.3, 4)) * np.float32(rng.uniform(0, 0.3))
    image = mix(image, image * rgb(1.0, 0.72, 0.7), flush)
    if rng.random() < 0.4:
        freckles = smoothstep(1.3, 2.2, fbm(rng, size, rng.uniform(0.03, 0.08), 2)) * np.float32(
            rng.uniform(0.1, 0.45)
        )
        image = mix(image, image * rgb(0.65, 0.5, 0.4), freckles)
    if rng.random() < 0.55:
        image = mix(image, rgb(0.12, 0.09, 0.08) * rng.uniform(0.5, 3), _hairs(rng, size, unit))
    scene = surface_scene(rng, image, light)
    if rng.random() < 0.3:
        x, y = axes(size)
        scene.dim(1 - 0.95 * smoothstep(rng.uniform(0.9, 1.05), 1.12, np.hypot(x, y)))
        scene.where = smoothstep(0.85, 0.8, np.hypot(x, y))
    return scene


def _hairs(rng: Rng, size: int, unit: float) -> Field:
    canvas = np.zeros((size, size), np.uint8)
    base = rng.uniform(0, math.pi)
    for _ in range(int(rng.integers(3, 45))):
        turn = base + rng.normal(0, 0.5)
        start = rng.random(2) * size
        t = np.linspace(0, rng.uniform(0.1, 0.7) * size, 12)
        bend = rng.normal(0, 1.2) / size
        line = np.stack(
            [start[0] + t * np.cos(turn + bend * t), start[1] + t * np.sin(turn + bend * t)], 1
        )
        cv2.polylines(
            canvas,
            [np.int32(line * 16)],
            False,
            255,
            max(1, round(unit * rng.uniform(0.6, 1.6))),
            cv2.LINE_AA,
            4,
        )
    return canvas.astype(np.float32) * np.float32(rng.uniform(0.4, 0.9) / 255)


def colon(rng: Rng, size: int) -> Scene:
    """Endoscope view: folds of moist mucosa round a dark lumen, vessels, wet highlights."""
    light, unit = Light.draw(rng), size / 256
    x, y = axes(size)
    lumen = rng.uniform(-0.8, 0.8, 2)
    away = np.hypot(x - np.float32(lumen[0]), y - np.float32(lumen[1]))
    drift = fbm(rng, size, 0.5, 3)
    phase = (
        np.log(away + 0.12) * np.float32(rng.uniform(3, 8))
        + np.float32(rng.uniform(0.5, 1.5)) * drift
    )
    folds = np.abs(np.sin(phase)) ** 0.7 * np.float32(rng.uniform(4, 16) * unit)
    bumps = fbm(rng, size, 0.15, 4, 0.55) * np.float32(rng.uniform(1, 3) * unit)
    value = relief(folds + bumps, light, rng.uniform(0.4, 1.0))
    value *= smoothstep(-0.1, rng.uniform(0.4, 1.1), away) * np.float32(0.9) + 0.12
    tone = hsv(rng.uniform(0.0, 0.05), rng.uniform(0.4, 0.75), rng.uniform(0.55, 0.95))
    image = paint(value, tone)
    vessel = smoothstep(0.7, 0.95, ridges(rng, size, rng.uniform(0.1, 0.3), 2))
    image = mix(image, image * rgb(0.8, 0.45, 0.45), vessel * np.float32(rng.uniform(0, 0.6)))
    wet = smoothstep(2.1, 2.5, grain(rng, size, rng.uniform(4, 14) * unit) + 0.6 * (value - 1))
    image = mix(image, rgb(1.0, 0.97, 0.95), wet * np.float32(rng.uniform(0.3, 1)))
    scene = surface_scene(rng, image, light)
    if rng.random() < 0.6:
        corner = np.maximum(
            np.maximum(np.abs(x), np.abs(y)),
            (np.abs(x) + np.abs(y)) * np.float32(rng.uniform(0.58, 0.68)),
        )
        seen = smoothstep(0.98, 0.95, corner)
        scene.dim(0.03 + 0.97 * seen)
        scene.where = seen
    return scene


def retina(rng: Rng, size: int) -> Scene:
    """Eye ground: optic disc, branching vessels, macula, in a round field."""
    x, y = axes(size)
    away = np.hypot(x, y)
    reach = rng.uniform(0.85, 1.1)
    field = smoothstep(reach, reach - 0.03, away)
    tone = hsv(rng.uniform(0.02, 0.08), rng.uniform(0.55, 0.85), rng.uniform(0.5, 0.9))
    value = 1.05 - 0.4 * away + 0.06 * fbm(rng, size, 0.15, 4) + 0.015 * white(rng, size)
    side = pick(rng, [-1, 1])
    disc_at = (side * rng.uniform(0.35, 0.55), rng.normal(0, 0.06))
    macula = np.exp(-((np.hypot(x + disc_at[0] * 0.4, y - disc_at[1]) / 0.18) ** 2))
    image = paint(value * (1 - np.float32(rng.uniform(0.2, 0.45)) * macula), tone)
    image = mix(image, image * rgb(0.55, 0.35, 0.4), _vessels(rng, size, disc_at))
    glow = smoothstep(
        0.17, 0.12, np.hypot(x - np.float32(disc_at[0]), (y - np.float32(disc_at[1])) * 0.9)
    )
    image = mix(image, vary(rng, rgb(0.98, 0.85, 0.55)), glow * 0.85)
    scene = surface_scene(rng, image * field[..., None], Light.draw(rng))
    scene.where = smoothstep(reach - 0.05, reach - 0.08, away) * (1 - glow)
    return scene


def _vessels(rng: Rng, size: int, start: tuple[float, float]) -> Field:
    canvas = np.zeros((size, size), np.uint8)
    queue = [(start, t + rng.normal(0, 0.2), 4.2, 16) for t in (0.9, -0.9, 2.2, -2.2, 0.5, -0.5)]
    while queue:
        (px, py), turn, width, steps = queue.pop()
        line = [(px, py)]
        for _ in range(steps):
            turn += rng.normal(0, 0.13) - 0.04 * math.sin(turn)
            px, py = px + 0.06 * math.cos(turn), py + 0.06 * math.sin(turn)
            line.append((px, py))
            if width > 1.4 and rng.random() < 0.22:
                queue.append(
                    ((px, py), turn + pick(rng, [-1, 1]) * rng.uniform(0.4, 0.9), width * 0.6, 9)
                )
        points = np.int32((np.array(line) + 1) * 0.5 * size * 16)
        cv2.polylines(
            canvas, [points], False, 255, max(1, round(width * size / 256)), cv2.LINE_AA, 4
        )
    return cv2.GaussianBlur(canvas, (0, 0), 0.7).astype(np.float32) / 255


def tissue_slide(rng: Rng, size: int) -> Scene:
    """Stained section under the microscope: many nuclei in pink ground."""
    light = Light.draw(rng)
    near, border, value = cells(rng, size, int(rng.integers(200, 900)), 1.0)
    pink = hsv(rng.uniform(0.86, 0.94), rng.uniform(0.2, 0.5), rng.uniform(0.75, 0.95))
    image = paint(1 + 0.06 * fbm(rng, size, 0.08, 4, 0.7), pink)
    image = mix(image, image * rgb(0.85, 0.7, 0.85), smoothstep(0.08, 0.0, border) * 0.6)
    nuclei = smoothstep(0.34, 0.24, near + 0.1 * fbm(rng, size, 0.03, 2) + 0.2 * (value - 0.5))
    blue = hsv(rng.uniform(0.7, 0.78), rng.uniform(0.4, 0.7), rng.uniform(0.3, 0.55))
    image = mix(
        image, blue * (0.8 + 0.4 * value)[..., None], nuclei * np.float32(rng.uniform(0.6, 0.95))
    )
    gaps = smoothstep(0.9, 1.2, fbm(rng, size, 0.25, 3))
    return surface_scene(rng, mix(image, rgb(0.95, 0.93, 0.95), gaps * (rng.random() < 0.5)), light)


def teeth(rng: Rng, size: int) -> Scene:
    """Front teeth close up: enamel under a gum line."""
    light = Light.draw(rng)
    x, y = axes(size, rng.normal(0, 0.1))
    count = rng.uniform(1.5, 3)
    place = x * np.float32(count) + np.float32(rng.uniform(0, 1))
    local = place - np.round(place)
    tooth = smoothstep(0.5, 0.42, np.abs(local) * (1 + 0.1 * y))
    line = np.float32(rng.uniform(-0.8, -0.3)) + 0.25 * np.cos(2 * math.pi * local)
    gum = smoothstep(0.03, -0.03, y - line)
    enamel = paint(
        0.95 + 0.05 * fbm(rng, size, 0.2, 4) - 0.5 * (1 - tooth),
        hsv(0.12, rng.uniform(0.05, 0.25), 0.92),
    )
    flesh = paint(0.9 + 0.1 * fbm(rng, size, 0.1, 4), hsv(0.98, rng.uniform(0.35, 0.6), 0.75))
    height = (np.sqrt(np.clip(1 - (2 * local) ** 2, 0, 1)) * 14 * (1 - gum) + 3 * gum) * np.float32(
        size / 256
    )
    image = mix(enamel, flesh, gum) * relief(height.astype(np.float32), light, 0.35)[..., None]
    return surface_scene(rng, image, light)
