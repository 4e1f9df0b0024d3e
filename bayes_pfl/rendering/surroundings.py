"""What is round an inspected thing and never a fault: supports, neighbours, edges, fittings."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np

from bayes_pfl.rendering.noise import Field, Rng, axes, fbm, grain, pick, smoothstep
from bayes_pfl.rendering.scene import Scene, any_colour, draw_part, hsv, mix, paint, relief
from bayes_pfl.rendering.solids import box, cover, disc, dome, rod, shade


def ground(rng: Rng, size: int) -> np.ndarray:
    """A background: plain, graded, or a rough or lined support."""
    kind = rng.random()
    if kind < 0.2:
        tone = hsv(rng.random(), 0.05, rng.uniform(0.0, 0.12))
    elif kind < 0.4:
        tone = hsv(rng.random(), 0.06, rng.uniform(0.75, 1.0))
    else:
        tone = any_colour(rng, 0.8, 0.1, 0.9)
    value = np.ones((size, size), np.float32)
    if rng.random() < 0.5:
        value += np.float32(rng.uniform(0.02, 0.12)) * fbm(
            rng, size, rng.uniform(0.05, 0.6), 4, 0.6
        )
    if rng.random() < 0.5:
        value += np.float32(rng.uniform(0.01, 0.12)) * grain(
            rng, size, rng.uniform(1, 3) * size / 256
        )
    if rng.random() < 0.25:
        _, across = axes(size, rng.uniform(0, math.pi))
        value += np.float32(rng.uniform(0.03, 0.2)) * np.sin(
            across * np.float32(rng.uniform(8, 90))
        )
    if rng.random() < 0.15:
        value += np.float32(rng.uniform(0.04, 0.15)) * fbm(
            rng, size, 0.03, 3, 0.7, 20, rng.uniform(0, 3)
        )
    image = paint(value, tone)
    if rng.random() < 0.2:
        image = _two_halves(rng, image)
    return np.clip(image, 0, 1.2)


def _two_halves(rng: Rng, image: np.ndarray) -> np.ndarray:
    """The edge of a table, tray or sheet of paper under the object."""
    size = image.shape[0]
    _, across = axes(size, pick(rng, [0, math.pi / 2]) + rng.normal(0, 0.1))
    place = np.float32(pick(rng, [-1, 1]) * rng.uniform(0.45, 0.95))
    beyond = smoothstep(place, place + 0.02, across)
    return mix(image, image * 0.4 + 0.6 * any_colour(rng, 0.6), beyond)


def supported(rng: Rng, size: int) -> np.ndarray:
    """A background, now and then with something else lying at its edge."""
    image = ground(rng, size)
    if rng.random() < 0.2:
        for _ in range(int(rng.integers(1, 3))):
            image = _neighbour(rng, image)
    return image


def _neighbour(rng: Rng, image: np.ndarray) -> np.ndarray:
    """A tool, card or lid that reaches in from outside the picture."""
    size, turn = image.shape[0], rng.uniform(0, 2 * math.pi)
    away = rng.uniform(0.95, 1.4)
    x, y = axes(size, rng.uniform(0, math.pi), (away * math.cos(turn), away * math.sin(turn)))
    shape = int(rng.integers(3))
    if shape == 0:
        distance = rod(x, y, rng.uniform(0.1, 0.5), rng.uniform(0.05, 0.2))
    elif shape == 1:
        distance = box(x, y, rng.uniform(0.1, 0.5), rng.uniform(0.1, 0.5), 0.03)
    else:
        distance = disc(x, y, rng.uniform(0.15, 0.5))
    value = 1 + np.float32(rng.uniform(0, 0.08)) * fbm(rng, size, 0.1, 3)
    dark = smoothstep(0.1, -0.02, distance) * np.float32(rng.uniform(0, 0.5))
    return mix(image * (1 - dark)[..., None], paint(value, any_colour(rng)), cover(distance))


def framed(build: Callable[[Rng, int], Scene], rng: Rng, size: int) -> Scene:
    """A surface as ``build`` draws it; some end within the picture, some carry fittings."""
    scene = build(rng, size)
    choice = rng.random()
    if scene.grey:
        return scene
    if choice < 0.12:
        _cut_to_edge(rng, scene)
    elif choice < 0.22 and not scene.parts:
        _fittings(rng, scene)
    return scene


def _cut_to_edge(rng: Rng, scene: Scene) -> None:
    """Show where the surface ends, on one or two sides, and what is beyond."""
    size = scene.size
    inside = np.ones_like(scene.where)
    turn = pick(rng, [0.0, math.pi / 2, math.pi, -math.pi / 2]) + rng.normal(0, 0.06)
    for corner in range(int(rng.integers(1, 3))):
        _, across = axes(size, turn + corner * math.pi / 2)
        place = rng.uniform(0.3, 0.95)
        inside = np.minimum(inside, smoothstep(place + 2 / size, place - 2 / size, across))
    beyond = ground(rng, size)
    shadow = cv2.GaussianBlur(inside, (0, 0), rng.uniform(0.01, 0.05) * size)
    beyond = beyond * (1 - np.float32(rng.uniform(0, 0.9)) * shadow)[..., None]
    rim = np.float32(pick(rng, [-1, 1]) * rng.uniform(0, 4)) * cv2.GaussianBlur(inside, (0, 0), 1.5)
    scene.image = mix(beyond, scene.image * relief(rim, scene.light)[..., None], inside)
    scene.where = scene.where * inside
    scene.parts = [part for part in scene.parts if _wholly(part.box, inside)]


def _wholly(place: tuple[int, int, int, int], inside: Field) -> bool:
    top, left, bottom, right = place
    return bool(inside[top:bottom, left:right].min() > 0.99)


def _fittings(rng: Rng, scene: Scene) -> None:
    """Rivets, drilled holes, stickers: several alike, in a row or a grid; each is a part."""
    size = scene.size
    extent = int(rng.uniform(0.05, 0.13) * size)
    if extent < 8:
        return
    maker, seed = pick(rng, [_rivet, _drilled, _sticker]), int(rng.integers(2**31))
    pitch, turn = rng.uniform(0.22, 0.5) * size, pick(rng, [0.0, math.pi / 2]) + rng.normal(0, 0.05)
    start, rows = rng.uniform(0, 1, 2) * size, int(rng.integers(1, 3))
    for row in range(rows):
        for step in range(-5, 6):
            u, v = step * pitch, row * pitch * 0.8
            x = start[0] + u * math.cos(turn) - v * math.sin(turn)
            y = start[1] + u * math.sin(turn) + v * math.cos(turn)
            colours, alpha = maker(np.random.default_rng(seed), extent, scene)
            corner = int(y - extent / 2), int(x - extent / 2)
            part = draw_part(scene.image, colours, alpha, *corner)
            if part is not None:
                scene.parts.append(part)


def _rivet(style: Rng, p: int, scene: Scene) -> tuple[np.ndarray, Field]:
    x, y = axes(p)
    distance = disc(x, y, 0.9)
    tone = hsv(style.random(), 0.08, style.uniform(0.2, 0.9))
    slot = (
        np.maximum(np.abs(y) - 0.12, np.abs(x) - 0.6) if style.random() < 0.5 else distance * 0 + 1
    )
    colours = paint(np.ones((p, p), np.float32), tone) * (1 - 0.6 * cover(slot))[..., None]
    return shade(colours, dome(distance, 0.7) * np.float32(0.25 * p), scene.light, 0.3), cover(
        distance
    )


def _drilled(style: Rng, p: int, scene: Scene) -> tuple[np.ndarray, Field]:
    x, y = axes(p)
    distance, inner = disc(x, y, 0.9), style.uniform(0.5, 0.8)
    metal = paint(np.ones((p, p), np.float32), scene.image.reshape(-1, 3).mean(0))
    cone = shade(metal, -dome(distance, 0.4) * np.float32(0.2 * p), scene.light)
    return mix(cone, hsv(0.1, 0.1, 0.04), cover(disc(x, y, inner))), cover(distance)


def _sticker(style: Rng, p: int, scene: Scene) -> tuple[np.ndarray, Field]:
    x, y = axes(p)
    distance = (
        box(x, y, 0.9, style.uniform(0.4, 0.9), 0.1) if style.random() < 0.5 else disc(x, y, 0.9)
    )
    tone = any_colour(style, 0.9, 0.2, 1.0)
    return paint(np.ones((p, p), np.float32), tone), cover(distance)
