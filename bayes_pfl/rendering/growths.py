"""Faults of living things: lesions, tumour-like masses, bleeding, polyps."""

from __future__ import annotations

import cv2
import numpy as np

from bayes_pfl.rendering.marks import Mark, apart, radius_for, spot
from bayes_pfl.rendering.noise import Rng, fbm, grain, pick, smoothstep
from bayes_pfl.rendering.scene import Scene, hsv, mix, paint, relief, rgb
from bayes_pfl.rendering.strokes import patch


def lesion(rng: Rng, scene: Scene) -> Mark:
    """In colour: a pigmented, uneven patch. In a scan: one or a few bright or dark spots."""
    centre = spot(rng, scene)
    if scene.grey:
        radius = radius_for(rng, scene, 4, 0.14)
        alpha = patch(
            rng, scene.size, centre, radius, 0.4, rng.uniform(0.2, 0.8), rng.uniform(0.5, 1)
        )
        tone = apart(rng, scene, centre, 0.2, 0.6)
        return Mark(
            mix(scene.image, tone, np.full_like(alpha, rng.uniform(0.6, 0.95))), alpha * scene.where
        )
    radius = radius_for(rng, scene, 7, 0.5)
    rough, squash = rng.uniform(0.1, 0.5), rng.uniform(0.55, 1)
    alpha = patch(rng, scene.size, centre, radius, rough, rng.uniform(0.1, 0.7), squash)
    tone = hsv(rng.uniform(0.98, 1.08), rng.uniform(0.35, 0.7), rng.uniform(0.12, 0.55))
    ground = float(scene.image.mean())
    dark = tone * np.float32(min(1.0, 0.3 + ground))
    mottle = smoothstep(
        -1.2, 1.4, fbm(rng, scene.size, max(0.04, radius / scene.size * 0.6), 4, 0.65)
    )
    colours = mix(dark * 0.55, dark * 1.25, mottle)
    if rng.random() < 0.4:
        colours = colours * (1 + 0.18 * fbm(rng, scene.size, 0.02, 3, 0.8))[..., None]
    keep = np.float32(rng.uniform(0.1, 0.6))
    target = colours * (1 - keep) + keep * scene.image * (0.4 + dark)
    return Mark(target, alpha * scene.where * np.float32(rng.uniform(0.75, 1)))


def tumour(rng: Rng, scene: Scene) -> Mark:
    """A mass: solid, or a bright ring round a dark core, often with a halo of swelling."""
    centre, radius = spot(rng, scene), radius_for(rng, scene, 8, 0.27)
    size, squash, rough = scene.size, rng.uniform(0.6, 1), rng.uniform(0.15, 0.55)
    body = patch(rng, size, centre, radius, rough, rng.uniform(0.08, 0.35), squash)
    texture = 1 + np.float32(rng.uniform(0.03, 0.18)) * fbm(rng, size, 0.06, 4, 0.65)
    tone = apart(rng, scene, centre, 0.25, 0.7)
    mass = paint(texture, tone)
    if rng.random() < 0.4:
        core = patch(rng, size, centre, radius * rng.uniform(0.45, 0.8), 0.5, 0.35, squash)
        other = np.clip(2 * float(scene.image.mean()) - tone, 0.03, 0.9) * rng.uniform(0.3, 0.9)
        mass = mix(mass, paint(texture, other.astype(np.float32)), core)
    alpha = body * np.float32(rng.uniform(0.75, 1))
    if rng.random() < 0.5:
        halo = patch(rng, size, centre, radius * rng.uniform(1.3, 1.9), 0.6, 0.7, squash)
        shift = np.float32(pick(rng, [-0.12, 0.12, 0.18]))
        mass = mix(scene.image + shift, mass, body)
        alpha = np.maximum(alpha, halo * np.float32(rng.uniform(0.5, 0.9)))
    return Mark(mass, alpha * scene.where)


def bleeding(rng: Rng, scene: Scene) -> Mark:
    """Blood: red pools and runs in colour; a dense bright (or, old, dark) region in a scan."""
    centre, radius = spot(rng, scene), radius_for(rng, scene, 5, 0.26)
    soft = rng.uniform(0.08, 0.5)
    alpha = patch(rng, scene.size, centre, radius, rng.uniform(0.4, 1.0), soft, rng.uniform(0.3, 1))
    for _ in range(int(rng.integers(0, 4))):
        offset = rng.normal(0, radius, 2)
        spot_radius = max(1.5, radius * rng.uniform(0.1, 0.4))
        alpha = np.maximum(alpha, patch(rng, scene.size, centre + offset, spot_radius, 0.6, soft))
    if scene.grey:
        level = apart(rng, scene, centre, 0.25, 0.5)
        target = paint(1 + 0.08 * fbm(rng, scene.size, 0.08, 3), level)
        return Mark(target, alpha * scene.where * np.float32(rng.uniform(0.6, 0.95)))
    blood = hsv(rng.uniform(0.96, 1.01), rng.uniform(0.75, 0.95), rng.uniform(0.25, 0.6))
    thick = relief(
        cv2.GaussianBlur(alpha, (0, 0), 2 * scene.unit) * np.float32(3 * scene.unit), scene.light
    )
    glint = smoothstep(2.0, 2.4, grain(rng, scene.size, 5 * scene.unit)) * np.float32(
        rng.uniform(0, 0.8)
    )
    target = paint(thick, blood) + glint[..., None]
    return Mark(target, alpha * scene.where * np.float32(rng.uniform(0.55, 0.95)))


def polyp(rng: Rng, scene: Scene) -> Mark:
    """A rounded growth in nearly the colour of its ground: seen by its light, edge and sheen."""
    centre, radius = spot(rng, scene), radius_for(rng, scene, 10, 0.32)
    squash, size = rng.uniform(0.6, 1), scene.size
    body = patch(rng, size, centre, radius, rng.uniform(0.05, 0.3), 0.12, squash)
    inner = cv2.distanceTransform((body > 0.5).astype(np.uint8), cv2.DIST_L2, 5)
    t = np.clip(inner / np.float32(radius * 0.9), 0, 1)
    height = np.sqrt(1 - (1 - t) ** 2) * np.float32(rng.uniform(0.4, 0.9) * radius)
    smooth = cv2.GaussianBlur(scene.image, (0, 0), 0.25 * radius)
    keep = np.float32(rng.uniform(0.1, 0.7))
    tint = np.float32(rng.uniform(0.85, 1.25)) * (
        1 + rng.uniform(-0.12, 0.12, 3).astype(np.float32)
    )
    bumps = np.float32(rng.uniform(0, 0.12)) * fbm(rng, size, 0.05, 3, 0.6)
    skin = (smooth * (1 - keep) + keep * scene.image) * tint
    lit = relief(cv2.GaussianBlur(height, (0, 0), 1.5 * scene.unit), scene.light, 0.9) + bumps
    rim = 1 - 0.35 * np.exp(-((inner / np.float32(0.12 * radius + 1)) ** 2))
    target = skin * (lit * rim)[..., None]
    if rng.random() < 0.6:
        at = centre + radius * 0.35 * np.array([-scene.light.x, -scene.light.y])
        sheen = patch(rng, size, at, max(2.0, 0.13 * radius), 0.6, 0.5)
        target = mix(target, rgb(1.0, 0.97, 0.95), sheen * np.float32(rng.uniform(0.3, 1)))
    return Mark(target, body * scene.where)
