"""Faults that are patches on a surface: stains, dirt, burns, crusts, spoiled print."""

from __future__ import annotations

import math

import cv2
import numpy as np

from bayes_pfl.rendering.marks import Mark, apart, drop_shadow, radius_for, spot
from bayes_pfl.rendering.noise import Field, Rng, fbm, grain, pick, shifted, smoothstep
from bayes_pfl.rendering.scene import (
    Colour,
    Scene,
    any_colour,
    hsv,
    paint,
    relief,
    rgb,
    thrice,
)
from bayes_pfl.rendering.strokes import patch


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
    """A foreign body, or a sprinkle of them: lumps, chips, fibres of another colour."""
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
    target = paint(lit, tone)
    shadow = drop_shadow(alpha, scene, max(1.0, 0.25 * radius)) * np.float32(rng.uniform(0, 0.7))
    target = np.where(thrice(alpha > 0.35) > 0, target, scene.image * np.float32(0.25))
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
    """Rust, or salts grown out of the material."""
    if rng.random() < 0.7:
        tone = hsv(rng.uniform(0.03, 0.08), rng.uniform(0.5, 0.8), rng.uniform(0.2, 0.5))
    else:
        tone = hsv(rng.uniform(0.1, 0.5), rng.uniform(0.0, 0.4), pick(rng, [0.15, 0.85]))
    return _crust(rng, scene, tone)


def mould(rng: Rng, scene: Scene) -> Mark:
    """Mould or rot: green, white, blue-grey or black."""
    hue, value = pick(rng, [0.1, 0.25, 0.4, 0.6]), pick(rng, [0.12, 0.45, 0.85])
    return _crust(rng, scene, hsv(hue + rng.normal(0, 0.04), rng.uniform(0.02, 0.45), value))


def rash(rng: Rng, scene: Scene) -> Mark:
    """Inflamed, scaly or scabbed skin."""
    tone = hsv(rng.uniform(0.95, 1.04), rng.uniform(0.35, 0.8), rng.uniform(0.25, 0.85))
    mark = _crust(rng, scene, tone)
    return Mark(0.5 * mark.target + 0.5 * scene.image * tone * 1.3, mark.alpha)


def _crust(rng: Rng, scene: Scene, tone: Colour) -> Mark:
    """A ragged, grainy layer of one colour."""
    centre, radius = spot(rng, scene), radius_for(rng, scene, 4, 0.35)
    body = patch(rng, scene.size, centre, radius, 0.9, 0.9, rng.uniform(0.4, 1))
    specks = smoothstep(-0.4, 0.5, fbm(rng, scene.size, 0.04, 4, 0.8) + 2.4 * (body - 0.45))
    alpha = np.minimum(body * 2.5, 1) * specks
    bumps = 1 + 0.2 * fbm(rng, scene.size, 0.03, 3, 0.8)
    target = paint(bumps, np.full(3, tone.mean(), np.float32) if scene.grey else tone)
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
        share: Field | float = gone[top:bottom, left:right] if choice < 0.35 else 1.0
        target[top:bottom, left:right] = part.without
        alpha[top:bottom, left:right] = np.minimum(part.alpha * 1.5, 1) * share
        return Mark(target, alpha * scene.where)
    ink = scene.image[top:bottom, left:right][part.alpha > 0.6]
    tone = ink.mean(0) if len(ink) else apart(rng, scene, np.array([left, top]), 0.3, 0.7)
    stamp = np.zeros_like(scene.where)
    stamp[top:bottom, left:right] = part.alpha
    reach = rng.uniform(2.5, 9) * scene.unit
    turn = rng.uniform(0, 2 * math.pi)
    ghost = shifted(stamp, reach * math.cos(turn), reach * math.sin(turn))
    if choice < 0.75:
        ghost = np.minimum(cv2.blur(ghost, (max(3, int(2 * reach)), 1 + int(scene.unit))) * 1.8, 1)
    return Mark(target * 0 + tone, np.clip(ghost - stamp, 0, 1) * scene.where)
