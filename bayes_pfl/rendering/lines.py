"""Faults that are lines: scratches, cracks, cuts, threads."""

from __future__ import annotations

import math

import cv2
import numpy as np

from bayes_pfl.rendering.marks import Mark, apart, drop_shadow, extent, radius_for, spot
from bayes_pfl.rendering.noise import Field, Rng, grain, pick, shifted, smoothstep, white
from bayes_pfl.rendering.scene import Scene, any_colour, hsv, paint, relief, rgb, thrice
from bayes_pfl.rendering.strokes import Pen, crack_lines, crack_network, curve, log_uniform


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
        shortest = 18 * unit if rng.random() < 0.45 else 0.5 * extent(scene)
        length = log_uniform(rng, shortest, 1.9 * extent(scene))
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
    lip = shifted(inside, -scene.light.x * 1.2 * unit, -scene.light.y * 1.2 * unit)
    lip = lip * np.float32(rng.uniform(0.3, 1))
    bright = np.minimum(scene.image * np.float32(1.5) + 0.08, 1)
    dark = scene.image * np.float32(rng.uniform(0.05, 0.45))
    target = bright + (dark - bright) * inside[..., None]
    return Mark(target, np.maximum(inside, lip) * scene.where)


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
    shadow = drop_shadow(alpha, scene, 1.5 * unit) * np.float32(rng.uniform(0, 0.5))
    target = np.where(thrice(alpha > 0.3) > 0, paint(lit, tone), scene.image * np.float32(0.3))
    return Mark(target, np.maximum(alpha, shadow * (1 - alpha)) * scene.where)
