"""Faults of form: holes, dents, folds, broken edges, missing, bent and misplaced parts."""

from __future__ import annotations

import math

import cv2
import numpy as np

from bayes_pfl.rendering.marks import Mark, apart, extent, radius_for, spot
from bayes_pfl.rendering.noise import (
    Field,
    Rng,
    axes,
    fbm,
    pick,
    pixel_grid,
    smoothstep,
    white,
    wobble,
)
from bayes_pfl.rendering.scene import Scene, mix, paint, peak, relief
from bayes_pfl.rendering.strokes import Pen, curve, jagged, log_uniform, patch


def hole(rng: Rng, scene: Scene) -> Mark:
    """A pit or a hole through: dark, with a lit far wall and a rim."""
    centre, radius = spot(rng, scene), radius_for(rng, scene, 2.5, 0.2)
    inside = patch(
        rng, scene.size, centre, radius, rng.uniform(0.05, 0.5), 0.1, rng.uniform(0.5, 1)
    )
    through = not scene.surface and rng.random() < 0.3
    bottom = scene.background if through else scene.image * np.float32(rng.uniform(0.05, 0.5))
    wall = relief(
        -cv2.GaussianBlur(inside, (0, 0), max(0.8, 0.2 * radius)) * np.float32(radius + 2),
        scene.light,
        0.9,
    )
    target = bottom * wall[..., None]
    alpha = inside
    if rng.random() < 0.5:
        ring = np.clip(cv2.GaussianBlur(inside, (0, 0), max(1.0, 0.15 * radius)) * 2 - inside, 0, 1)
        worn = scene.image * wall[..., None] * np.float32(rng.uniform(0.8, 1.3))
        target = mix(worn, target, inside)
        alpha = np.maximum(inside, ring * np.float32(rng.uniform(0.4, 0.9)))
    return Mark(target, alpha * scene.where)


def dent(rng: Rng, scene: Scene) -> Mark:
    """The surface pressed in, or bulging: the light on it changes, the pattern a little."""
    centre, radius = spot(rng, scene), radius_for(rng, scene, 5, 0.3)
    rough, squash = rng.uniform(0.05, 0.35), rng.uniform(0.35, 1)
    bowl = patch(rng, scene.size, centre, radius, rough, 1.6, squash, octaves=1)
    depth = pick(rng, [-1, -1, 1]) * rng.uniform(0.25, 0.9) * radius
    lit = relief(bowl * np.float32(depth), scene.light, 1.0)
    x, y = pixel_grid(scene.size)
    pull = bowl * np.float32(rng.uniform(-0.15, 0.15))
    moved = cv2.remap(
        scene.image,
        x + pull * (x - np.float32(centre[0])),
        y + pull * (y - np.float32(centre[1])),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    shine = np.clip((lit - 1) * 2 - 0.6, 0, 1) * np.float32(rng.uniform(0, 0.4))
    target = moved * lit[..., None] + shine[..., None]
    alpha = np.minimum(bowl * 2.2, 1)
    return Mark(target, alpha * scene.where)


def fold(rng: Rng, scene: Scene) -> Mark:
    """A crease or wrinkle: one side of a line lit, the other in shade."""
    pen, unit, centre = Pen(scene.size), scene.unit, spot(rng, scene)
    length, turn = log_uniform(rng, 30 * unit, 1.4 * extent(scene)), rng.uniform(0, 2 * math.pi)
    start = centre - 0.5 * length * np.array([math.cos(turn), math.sin(turn)])
    for _ in range(int(pick(rng, [1, 1, 2, 4]))):
        line = curve(
            rng,
            start + rng.normal(0, 8 * unit, 2),
            length,
            turn + rng.normal(0, 0.15),
            rng.uniform(0.02, 0.4),
        )
        pen.path(
            line, np.full(47, rng.uniform(1.0, 2.5) * unit) * np.sin(np.linspace(0.1, 3.0, 47))
        )
    sharp = pen.field()
    width = rng.uniform(1.2, 5) * unit
    blurred = cv2.GaussianBlur(sharp, (0, 0), width)
    crest = blurred / max(float(blurred.max()), 1e-3)
    lit = relief(crest * np.float32(pick(rng, [-1, 1]) * rng.uniform(2.5, 6) * width), scene.light)
    target = scene.image * (lit * (1 - 0.25 * sharp))[..., None]
    return Mark(target, np.minimum(crest * 1.6, 1) * scene.where)


def chip(rng: Rng, scene: Scene) -> Mark:
    """A piece broken off the edge of a thing, or out of the face of a surface."""
    if scene.surface:
        return _spall(rng, scene)
    edge = _edge_points(scene)
    if len(edge) == 0:
        return _spall(rng, scene)
    row, column = edge[int(rng.integers(len(edge)))]
    centre = np.array([column, row], np.float64)
    radius = radius_for(rng, scene, 5, 0.25)
    bite = patch(rng, scene.size, centre, radius, rng.uniform(0.2, 0.7), 0.05, rng.uniform(0.5, 1))
    bite = np.minimum(bite, smoothstep(0.2, 0.6, scene.where))
    target = scene.background
    if rng.random() < 0.5:
        target = mix(
            _fracture(rng, scene, centre),
            scene.background,
            _shrunk(bite, rng.uniform(0.1, 0.35) * radius),
        )
    return Mark(target, bite)


def _shrunk(alpha: Field, amount_px: float) -> Field:
    """The same shape with its border drawn in."""
    solid = (alpha > 0.5).astype(np.uint8)
    away = cv2.distanceTransform(solid, cv2.DIST_L2, 3)
    return smoothstep(amount_px - 1, amount_px + 1, away)


def _fracture(rng: Rng, scene: Scene, centre: np.ndarray) -> np.ndarray:
    """A rough broken face, paler or darker than the skin of the thing."""
    rough = fbm(rng, scene.size, 0.06, 4, 0.7) * np.float32(2.5 * scene.unit)
    value = relief(rough, scene.light, 0.8) + 0.04 * white(rng, scene.size)
    return paint(value, apart(rng, scene, centre, 0.1, 0.5))


def _edge_points(scene: Scene) -> np.ndarray:
    inside = (scene.where > 0.5).astype(np.uint8)
    edge = inside - cv2.erode(inside, np.ones((3, 3), np.uint8))
    edge[[0, -1]] = 0
    edge[:, [0, -1]] = 0
    return np.argwhere(edge)


def _spall(rng: Rng, scene: Scene) -> Mark:
    """A shallow flake out of a face: angular outline, rough floor, one lit wall."""
    centre, radius = spot(rng, scene), radius_for(rng, scene, 4, 0.22)
    corners = int(rng.integers(4, 9))
    turns = np.sort(rng.uniform(0, 2 * math.pi, corners))
    reach = radius * rng.uniform(0.5, 1.2, corners)
    points = centre + np.stack([np.cos(turns), np.sin(turns)], 1) * reach[:, None]
    outline = np.concatenate(
        [
            jagged(rng, a, b, 0.1, 3)[:-1]
            for a, b in zip(points, np.roll(points, -1, 0), strict=True)
        ]
    )
    canvas = np.zeros((scene.size, scene.size), np.uint8)
    cv2.fillPoly(canvas, [np.int32(outline * 16)], 255, cv2.LINE_AA, 4)
    alpha = canvas.astype(np.float32) / 255
    floor = _fracture(rng, scene, centre)
    wall = relief(
        -cv2.GaussianBlur(alpha, (0, 0), 1.2 * scene.unit) * np.float32(rng.uniform(2, 6)),
        scene.light,
    )
    return Mark(floor * wall[..., None], alpha * scene.where)


def broken(rng: Rng, scene: Scene) -> Mark:
    """The thing torn in two: a ragged gap, parallel or opening like a wedge, shows the ground."""
    centre, unit = spot(rng, scene), scene.unit
    turn, side = rng.uniform(0, 2 * math.pi), extent(scene)
    ahead = np.array([math.cos(turn), math.sin(turn)])
    whole = rng.random() < 0.6
    start = centre - ahead * (1.3 * side if whole else rng.uniform(0.0, 0.3) * side)
    line = jagged(rng, start, centre + ahead * 1.3 * side, rng.uniform(0.04, 0.14), 6)
    gap = log_uniform(rng, 2.5 * unit, 0.22 * side)
    wedge = np.linspace(rng.uniform(0.05, 1), 1, 64) if rng.random() < 0.6 else np.ones(64)
    pen = Pen(scene.size)
    pen.path(line, gap * wedge * rng.uniform(0.75, 1.25, 64))
    if rng.random() < 0.3:
        fork = line[int(rng.integers(8, 56))]
        aside = turn + pick(rng, [-1, 1]) * rng.uniform(0.6, 1.6)
        tip = fork + 1.2 * side * np.array([math.cos(aside), math.sin(aside)])
        pen.path(jagged(rng, fork, tip, 0.1, 5), gap * rng.uniform(0.2, 1.1, 32))
    ragged = min(rng.uniform(0.5, 3.5) * unit, 0.4 * gap)
    hidden = wobble(rng, pen.field(), rng.uniform(0.015, 0.05), ragged, 3)
    hidden = np.minimum(hidden, smoothstep(0.1, 0.5, scene.where))
    bottom = scene.background * np.float32(rng.uniform(0.35, 1.0))
    if rng.random() < 0.6:
        face = _fracture(rng, scene, centre)
        keep = _shrunk(hidden, rng.uniform(0.05, 0.3) * gap)
        bottom = mix(face, bottom, keep)
    return Mark(bottom, hidden)


def missing_part(rng: Rng, scene: Scene) -> Mark:
    """A part that ought to be there is not; of a plain thing, a large piece is gone."""
    parts = [part for part in scene.parts if part.kind == "part" and part.alpha.sum() > 12]
    if parts and rng.random() < 0.85:
        part = parts[int(rng.integers(len(parts)))]
        top, left, bottom, right = part.box
        target, alpha = scene.image.copy(), np.zeros_like(scene.where)
        target[top:bottom, left:right] = part.without
        alpha[top:bottom, left:right] = part.alpha
        return Mark(target, alpha)
    if scene.surface:
        centre, radius = spot(rng, scene), radius_for(rng, scene, 8, 0.3)
        gone = patch(
            rng, scene.size, centre, radius, rng.uniform(0.1, 0.5), 0.06, rng.uniform(0.3, 1)
        )
        return _difference_mark(scene, scene.background, gone * scene.where)
    return _cut_off(rng, scene)


def _cut_off(rng: Rng, scene: Scene) -> Mark:
    """Everything beyond a ragged line is gone."""
    centre = spot(rng, scene)
    size = scene.size
    shift = (2 * centre[0] / size - 1, 2 * centre[1] / size - 1)
    _, across = axes(size, rng.uniform(0, 2 * math.pi), shift)
    across = across + np.float32(rng.uniform(0.0, 0.06)) * fbm(rng, size, 0.15, 4, 0.6)
    _, labels = cv2.connectedComponents((scene.where > 0.1).astype(np.uint8))
    here = labels[int(min(centre[1], size - 1)), int(min(centre[0], size - 1))]
    thing = labels == here if here else labels > 0  # beside a thin thing, all of them
    far = float(np.percentile(across[thing & (scene.where > 0.1)], rng.uniform(45, 94)))
    gone = smoothstep(far, far + 0.01, across) * smoothstep(0.1, 0.5, scene.where)
    return Mark(scene.background, gone * thing)


def _difference_mark(scene: Scene, target: np.ndarray, moved: Field) -> Mark:
    """A mark whose opacity is where a displacement visibly changed the picture."""
    change = peak(np.abs(target - scene.image))
    seen = cv2.GaussianBlur((change > 0.05).astype(np.float32), (0, 0), 1.5 * scene.unit)
    reach = max(3, int(5 * scene.unit) | 1)
    solid = cv2.morphologyEx(
        (seen > 0.25).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((reach, reach), np.uint8)
    )
    alpha = cv2.GaussianBlur(solid.astype(np.float32), (0, 0), 0.8) * moved
    return Mark(target, alpha)


def bent(rng: Rng, scene: Scene) -> Mark:
    """The thing or its pattern pushed aside locally: outline, threads and wires all follow."""
    centre, unit = spot(rng, scene), scene.unit
    if not scene.surface and rng.random() < 0.6 and len(edge := _edge_points(scene)):
        centre = edge[int(rng.integers(len(edge)))][::-1].astype(np.float64)
    radius = max(14 * unit, rng.uniform(0.1, 0.35) * extent(scene))
    x, y = pixel_grid(scene.size)
    dx, dy = x - np.float32(centre[0]), y - np.float32(centre[1])
    near = np.exp(-(dx * dx + dy * dy) / np.float32(0.5 * radius * radius))
    push, turn = rng.uniform(0.2, 0.55) * radius, rng.uniform(0, 2 * math.pi)
    swirl = np.float32(rng.normal(0, 0.5)) if rng.random() < 0.4 else np.float32(0)
    map_x = x + near * (np.float32(push * math.cos(turn)) - swirl * dy)
    map_y = y + near * (np.float32(push * math.sin(turn)) + swirl * dx)
    where = scene.where if scene.surface else cv2.dilate(scene.where, np.ones((3, 3), np.uint8))
    solid = cv2.remap(where, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    target = cv2.remap(
        scene.image, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    if not scene.surface:
        target = mix(scene.background, target, solid)
        solid = np.maximum(solid, scene.where)
    moved = smoothstep(0.04, 0.12, near) * solid
    return _difference_mark(scene, target, moved)


def misaligned(rng: Rng, scene: Scene) -> Mark | None:
    """A part turned or shifted from its place; of a pattern, a region out of step."""
    parts = [
        p for p in scene.parts if p.kind == "part" and 30 < p.alpha.sum() < 0.1 * scene.size**2
    ]
    if parts:
        return _moved_part(rng, scene, parts)
    centre, radius = spot(rng, scene), radius_for(rng, scene, 12, 0.4)
    size = scene.size
    matrix: np.ndarray = cv2.getRotationMatrix2D(
        tuple(centre), pick(rng, [0, rng.uniform(-50, 50)]), rng.uniform(0.85, 1.15)
    )
    matrix[:, 2] += rng.uniform(-0.5, 0.5, 2) * radius + rng.uniform(-3, 3, 2) * scene.unit
    target = cv2.warpAffine(scene.image, matrix, (size, size), borderMode=cv2.BORDER_REFLECT_101)
    if rng.random() < 0.5:
        region = patch(rng, size, centre, radius, 0.2, 0.08, rng.uniform(0.5, 1))
    else:
        shift = (2 * centre[0] / size - 1, 2 * centre[1] / size - 1)
        x, y = axes(size, scene.direction, shift)
        half = radius / size * 2
        edge = np.maximum(
            np.abs(x) - np.float32(half), np.abs(y) - np.float32(half * rng.uniform(0.3, 1))
        )
        region = smoothstep(2.0 / size, -2.0 / size, edge)
    return _difference_mark(scene, target, region * scene.where)


def _moved_part(rng: Rng, scene: Scene, parts: list) -> Mark:
    part = parts[int(rng.integers(len(parts)))]
    top, left, bottom, right = part.box
    middle = (0.5 * (left + right), 0.5 * (top + bottom))
    matrix = cv2.getRotationMatrix2D(middle, pick(rng, [-1, 1]) * rng.uniform(10, 60), 1.0)
    matrix[:, 2] += rng.normal(0, 0.15, 2) * (right - left)
    alpha = np.zeros_like(scene.where)
    alpha[top:bottom, left:right] = part.alpha
    size = (scene.size, scene.size)
    ground = scene.image.copy()
    ground[top:bottom, left:right] = mix(
        scene.image[top:bottom, left:right], part.without, part.alpha
    )
    there = cv2.warpAffine(alpha, matrix, size)
    target = mix(ground, cv2.warpAffine(scene.image, matrix, size), there)
    return Mark(target, np.maximum(alpha, there))
