"""Faults that lie on a surface or run through it: lines, stains, foreign bodies, prints."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from bayes_pfl.data.synthetic.noise import Field, Rng, fbm, grain, pick, smoothstep, white
from bayes_pfl.data.synthetic.scene import Colour, Scene, any_colour, hsv, relief, rgb, vary
from bayes_pfl.data.synthetic.strokes import (
    Pen,
    crack_lines,
    crack_network,
    curve,
    log_uniform,
    patch,
)


@dataclass(frozen=True)
class Mark:
    """A fault before it is blended in: target picture (S, S, 3), or colour, and opacity (S, S)."""

    target: np.ndarray
    alpha: Field


def spot(rng: Rng, scene: Scene) -> np.ndarray:
    """A random (x, y) in pixels on the inspected thing, away from its very edge."""
    small = cv2.resize(scene.where, (48, 48), interpolation=cv2.INTER_AREA)
    inner = np.argwhere(cv2.erode(small, np.ones((3, 3), np.uint8)) > 0.6)
    if len(inner) == 0:
        inner = np.argwhere(small >= 0.5 * small.max())
    row, column = inner[int(rng.integers(len(inner)))] + rng.random(2)
    return np.array([column, row]) * scene.size / 48


def extent(scene: Scene) -> float:
    """Side, in pixels, of a square as large as the inspected area."""
    return math.sqrt(max(float(scene.where.mean()), 0.01)) * scene.size


def radius_for(rng: Rng, scene: Scene, low: float = 3.0, high: float = 0.28) -> float:
    """From ``low`` pixels (of 256) up to ``high`` of the thing's side, small ones as often as large."""
    return log_uniform(rng, low * scene.unit, max(high * extent(scene), 1.5 * low * scene.unit))


def apart(
    rng: Rng, scene: Scene, centre: np.ndarray, low: float = 0.15, high: float = 0.7
) -> Colour:
    """A colour clearly darker, or brighter, than the material at ``centre``."""
    column, row = (int(np.clip(v, 0, scene.size - 1)) for v in centre)
    here = scene.colour_at(row, column, int(4 * scene.unit))
    level = float(here.mean())
    brighter = rng.random() < (0.5 if 0.3 < level < 0.7 else 0.15 if level >= 0.7 else 0.85)
    amount = rng.uniform(low, high)
    if scene.grey:
        return np.clip(np.full(3, level + (amount if brighter else -amount), np.float32), 0, 1)
    toned = here + amount * (1 - here) if brighter else here * (1 - amount)
    return vary(rng, np.clip(toned, 0.01, 1).astype(np.float32), 0.05)


def scratch(rng: Rng, scene: Scene) -> Mark:
    """One to five thin, nearly straight, often parallel lines."""
    pen, unit = Pen(scene.size), scene.unit
    centre, turn = spot(rng, scene), rng.uniform(0, 2 * math.pi)
    length = log_uniform(rng, 14 * unit, 1.1 * extent(scene))
    width, bend = log_uniform(rng, 0.5, 3.0) * unit, pick(rng, [0.03, 0.1, 0.4])
    for _ in range(int(pick(rng, [1, 1, 1, 2, 3, 5]))):
        heading = turn + rng.normal(0, 0.06)
        reach = length * rng.uniform(0.5, 1)
        start = centre - 0.5 * reach * np.array([math.cos(heading), math.sin(heading)])
        points = curve(rng, start + rng.normal(0, 0.06 * length, 2), reach, heading, bend)
        pressure = np.interp(np.linspace(0, 1, 47), np.linspace(0, 1, 6), rng.uniform(0.3, 1.2, 6))
        pen.path(points, width * pressure * np.sin(np.linspace(0.25, 2.9, 47)))
    alpha = pen.field()
    if rng.random() < 0.3:
        alpha = alpha * smoothstep(-1.2, 0.0, grain(rng, scene.size, 4 * unit))
    target = scene.image + (apart(rng, scene, centre, 0.2, 0.9) - scene.image) * np.float32(
        rng.uniform(0.6, 1)
    )
    if rng.random() < 0.4:
        target = target * relief(-alpha * 4 * np.float32(unit), scene.light)[..., None]
    return Mark(target, alpha * scene.where)


def crack(rng: Rng, scene: Scene) -> Mark:
    """A jagged, branching line, hair-thin to gaping; rarely a net of them."""
    unit, centre = scene.unit, spot(rng, scene)
    width = log_uniform(rng, 0.5, 4.5) * unit
    if rng.random() < 0.13:
        radius = radius_for(rng, scene, 14, 0.5)
        alpha = crack_network(rng, scene.size, centre, radius, min(width, 2 * unit))
    else:
        length = log_uniform(rng, 18 * unit, 1.9 * extent(scene))
        alpha = crack_lines(rng, scene.size, centre, length, min(width, 0.12 * length))
    depth = np.float32(rng.uniform(0.3, 0.95))
    dirt = (
        rgb(0.04, 0.03, 0.03)
        if scene.grey
        else hsv(rng.uniform(0.03, 0.1), rng.uniform(0, 0.4), rng.uniform(0.02, 0.2))
    )
    target = scene.image * (1 - depth) + dirt * depth
    if rng.random() < 0.1:
        target = scene.image * (1 - depth) + apart(rng, scene, centre, 0.3, 0.8) * depth
    if rng.random() < 0.4:
        target, alpha = _lips(rng, scene, target, alpha, width)
    return Mark(target, alpha * scene.where)


def _lips(
    rng: Rng, scene: Scene, target: np.ndarray, alpha: Field, width: float
) -> tuple[np.ndarray, Field]:
    """Raised edges beside a crack: the side towards the lamp is lit, with crumbled rims."""
    wide = cv2.GaussianBlur(alpha, (0, 0), 0.6 + 0.45 * width)
    wide = np.minimum(wide * np.float32(rng.uniform(1, 2)), 1)
    lit = scene.image * (1 + 0.5 * (relief(-wide * 5, scene.light) - 1))[..., None]
    target = lit + (target - lit) * alpha[..., None]
    fringe = (
        wide
        * np.float32(rng.uniform(0.3, 0.9))
        * smoothstep(-0.8, 0.4, white(rng, scene.size) + 0.5)
    )
    return target, np.maximum(alpha, fringe)


def cut(rng: Rng, scene: Scene) -> Mark:
    """A clean slit: dark inside, one lip bright, tapering to both ends."""
    pen, unit, centre = Pen(scene.size), scene.unit, spot(rng, scene)
    length, turn = log_uniform(rng, 12 * unit, 0.7 * extent(scene)), rng.uniform(0, 2 * math.pi)
    width = log_uniform(rng, 1.0, 5.0) * unit
    start = centre - 0.5 * length * np.array([math.cos(turn), math.sin(turn)])
    points = curve(rng, start, length, turn, rng.uniform(0.0, 0.4))
    pen.path(points, width * np.sin(np.linspace(0.05, 3.09, 47)))
    inside = pen.field()
    shift = np.float32([[1, 0, -scene.light.x * 1.2 * unit], [0, 1, -scene.light.y * 1.2 * unit]])
    lip = cv2.warpAffine(inside, shift, (scene.size, scene.size)) * np.float32(rng.uniform(0.3, 1))
    bright = np.minimum(scene.image * np.float32(1.5) + 0.08, 1)
    dark = scene.image * np.float32(rng.uniform(0.05, 0.45))
    target = bright + (dark - bright) * inside[..., None]
    return Mark(target, np.maximum(inside, lip) * scene.where)


def stain(rng: Rng, scene: Scene) -> Mark:
    """Dried liquid or grease: a tinted patch, often with a darker rim, drips or splashes."""
    centre, radius = spot(rng, scene), radius_for(rng, scene)
    alpha = patch(
        rng,
        scene.size,
        centre,
        radius,
        rng.uniform(0.1, 0.7),
        rng.uniform(0.05, 0.8),
        rng.uniform(0.4, 1),
    )
    for _ in range(int(pick(rng, [0, 0, 1, 3, 6]))):
        offset = rng.normal(0, 1.3 * radius, 2)
        drop = patch(
            rng, scene.size, centre + offset, max(1.5, radius * rng.uniform(0.06, 0.3)), 0.2
        )
        alpha = np.maximum(alpha, drop)
    if rng.random() < 0.4:
        rim = np.exp(-(((alpha - 0.5) / 0.25) ** 2))
        alpha = alpha * (0.45 + 0.55 * rim)
    alpha = alpha * (1 + 0.15 * fbm(rng, scene.size, 0.05, 3))
    tint = apart(rng, scene, centre, 0.15, 0.75)
    if not scene.grey and rng.random() < 0.5:
        tint = tint * (0.4 + any_colour(rng, 0.9, 0.5, 1.0))
    keep = np.float32(rng.uniform(0.2, 0.8))
    target = scene.image * keep * tint * 1.2 + (1 - keep) * tint
    return Mark(target, np.clip(alpha, 0, 1) * scene.where * np.float32(rng.uniform(0.55, 1)))


def contamination(rng: Rng, scene: Scene) -> Mark:
    """A foreign body, or a sprinkle of them: lumps, chips, fibres of another colour, with shadow."""
    size, unit, centre = scene.size, scene.unit, spot(rng, scene)
    count = int(pick(rng, [1, 1, 2, 5, 12]))
    radius = radius_for(rng, scene, 2.5, 0.16 if count < 3 else 0.05)
    alpha = np.zeros((size, size), np.float32)
    for _ in range(count):
        at = centre + (rng.normal(0, 2.5 * radius + 6 * unit, 2) if count > 1 else 0)
        body = patch(
            rng,
            size,
            at,
            radius * rng.uniform(0.5, 1.1),
            rng.uniform(0.1, 0.9),
            0.08,
            rng.uniform(0.25, 1),
        )
        alpha = np.maximum(alpha, body)
    tone = (
        any_colour(rng, 0.9, 0.05, 1.0) if not scene.grey else apart(rng, scene, centre, 0.3, 0.8)
    )
    near = apart(rng, scene, centre, 0.3, 0.8)
    tone = tone if float(np.abs(tone - near).max()) > 0.2 and rng.random() < 0.6 else near
    height = cv2.GaussianBlur(alpha, (0, 0), max(0.8, 0.25 * radius)) * np.float32(1.2 * radius + 2)
    lit = relief(height, scene.light, 0.8) * (1 + 0.08 * fbm(rng, size, 0.03, 3))
    target = lit[..., None] * tone
    shadow = _drop_shadow(alpha, scene, max(1.0, 0.25 * radius)) * np.float32(rng.uniform(0, 0.7))
    target = np.where((alpha > 0.35)[..., None], target, scene.image * 0.25)
    return Mark(target, np.maximum(alpha, shadow * (1 - alpha)) * scene.where)


def _drop_shadow(alpha: Field, scene: Scene, reach: float) -> Field:
    shift = np.float32([[1, 0, -scene.light.x * reach], [0, 1, -scene.light.y * reach]])
    moved = cv2.warpAffine(alpha, shift, (scene.size, scene.size))
    return cv2.GaussianBlur(moved, (0, 0), 0.5 + 0.4 * reach)


def thread(rng: Rng, scene: Scene) -> Mark:
    """A hair, thread or fibre lying in loops."""
    pen, unit, centre = Pen(scene.size), scene.unit, spot(rng, scene)
    length, width = (
        log_uniform(rng, 20 * unit, 1.5 * extent(scene)),
        log_uniform(rng, 0.6, 3.5) * unit,
    )
    turn = rng.uniform(0, 2 * math.pi)
    start = centre - 0.3 * length * np.array([math.cos(turn), math.sin(turn)])
    points = curve(rng, start, length, turn, rng.uniform(0.3, 1.6), 64)
    pen.path(points, np.full(63, width))
    alpha = pen.field()
    tone = apart(rng, scene, centre, 0.3, 0.9)
    if not scene.grey and rng.random() < 0.4:
        tone = any_colour(rng, 0.9, 0.1, 1.0)
    lit = relief(cv2.GaussianBlur(alpha, (0, 0), 0.8) * np.float32(2 + width), scene.light, 0.7)
    shadow = _drop_shadow(alpha, scene, 1.5 * unit) * np.float32(rng.uniform(0, 0.5))
    target = np.where((alpha > 0.3)[..., None], lit[..., None] * tone, scene.image * 0.3)
    return Mark(target, np.maximum(alpha, shadow * (1 - alpha)) * scene.where)


def burn(rng: Rng, scene: Scene) -> Mark:
    """Scorched: black to brown from the centre outwards, ragged edge, sometimes ash."""
    centre, radius = spot(rng, scene), radius_for(rng, scene, 5, 0.3)
    soft = rng.uniform(0.5, 1.2)
    alpha = patch(rng, scene.size, centre, radius, rng.uniform(0.3, 0.8), soft, rng.uniform(0.5, 1))
    char = rgb(0.05, 0.04, 0.03) * rng.uniform(0.5, 2.5)
    brown = scene.image * (rgb(0.62, 0.42, 0.25) if not scene.grey else rgb(0.5, 0.5, 0.5))
    deep = smoothstep(rng.uniform(0.4, 0.8), 1.0, alpha)[..., None]
    target = brown + (char - brown) * deep
    if rng.random() < 0.3:
        ash = smoothstep(1.0, 1.6, grain(rng, scene.size, 2.5 * scene.unit)) * deep[..., 0]
        target = target + (0.6 * ash)[..., None] * (0.8 - target)
    return Mark(target, np.minimum(alpha * 1.6, 1) * scene.where * np.float32(rng.uniform(0.7, 1)))


def discoloration(rng: Rng, scene: Scene) -> Mark:
    """A region whose colour or brightness is off, its texture kept."""
    centre, radius = spot(rng, scene), radius_for(rng, scene, 8, 0.45)
    alpha = patch(
        rng,
        scene.size,
        centre,
        radius,
        rng.uniform(0.1, 0.5),
        rng.uniform(0.05, 0.9),
        rng.uniform(0.4, 1),
    )
    gain = 1 + pick(rng, [-1, 1]) * rng.uniform(0.15, 0.5)
    tint = np.full(3, gain, np.float32)
    if not scene.grey:
        tint = tint * (1 + rng.uniform(-0.35, 0.35, 3).astype(np.float32))
    target = scene.image * tint + np.float32(0.06 * np.sign(gain - 1))
    if rng.random() < 0.2:
        level = cv2.GaussianBlur(scene.image, (0, 0), 4 * scene.unit)
        target = target - 0.7 * (scene.image - level)
    return Mark(target, alpha * scene.where * np.float32(rng.uniform(0.7, 1)))


def corrosion(rng: Rng, scene: Scene) -> Mark:
    """Rust, mould or efflorescence: a ragged, grainy crust in its own colour."""
    centre, radius = spot(rng, scene), radius_for(rng, scene, 4, 0.35)
    body = patch(rng, scene.size, centre, radius, 0.9, 0.9, rng.uniform(0.4, 1))
    specks = smoothstep(-0.4, 0.5, fbm(rng, scene.size, 0.04, 4, 0.8) + 2.4 * (body - 0.45))
    alpha = np.minimum(body * 2.5, 1) * specks
    tone = hsv(rng.uniform(0.03, 0.08), rng.uniform(0.5, 0.8), rng.uniform(0.2, 0.5))
    if rng.random() < 0.4:
        tone = hsv(rng.uniform(0.2, 0.5), rng.uniform(0.05, 0.5), pick(rng, [0.2, 0.8]))
    bumps = 1 + 0.2 * fbm(rng, scene.size, 0.03, 3, 0.8)
    target = bumps[..., None] * (np.full(3, tone.mean(), np.float32) if scene.grey else tone)
    return Mark(target, alpha * scene.where * np.float32(rng.uniform(0.6, 1)))


def print_error(rng: Rng, scene: Scene) -> Mark:
    """A print that is partly gone, smeared or doubled; a stray blot where there is no print."""
    prints = [part for part in scene.parts if part.kind == "print"]
    if not prints:
        return stain(rng, scene)
    part = prints[int(rng.integers(len(prints)))]
    top, left, bottom, right = part.box
    alpha = np.zeros_like(scene.where)
    target = scene.image.copy()
    choice = rng.random()
    if choice < 0.5:
        gone = smoothstep(-0.5, 0.3, fbm(rng, scene.size, rng.uniform(0.05, 0.2), 3))
        gone = gone[top:bottom, left:right] if choice < 0.35 else 1.0
        target[top:bottom, left:right] = part.without
        alpha[top:bottom, left:right] = np.minimum(part.alpha * 1.5, 1) * gone
        return Mark(target, alpha * scene.where)
    ink = scene.image[top:bottom, left:right][part.alpha > 0.6]
    tone = ink.mean(0) if len(ink) else apart(rng, scene, np.array([left, top]), 0.3, 0.7)
    stamp = np.zeros_like(scene.where)
    stamp[top:bottom, left:right] = part.alpha
    reach = rng.uniform(2.5, 9) * scene.unit
    turn = rng.uniform(0, 2 * math.pi)
    shift = np.float32([[1, 0, reach * math.cos(turn)], [0, 1, reach * math.sin(turn)]])
    ghost = cv2.warpAffine(stamp, shift, (scene.size, scene.size))
    if choice < 0.75:
        ghost = np.minimum(cv2.blur(ghost, (max(3, int(2 * reach)), 1 + int(scene.unit))) * 1.8, 1)
    return Mark(target * 0 + tone, np.clip(ghost - stamp, 0, 1) * scene.where)
