"""What every fault is made of: a mark, its place, its size and its colour."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from bayes_pfl.rendering.noise import Field, Rng, shifted
from bayes_pfl.rendering.scene import Colour, Scene, vary
from bayes_pfl.rendering.strokes import log_uniform


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
    """From ``low`` pixels (of 256) to ``high`` of the thing's side, small as often as large."""
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


def drop_shadow(alpha: Field, scene: Scene, reach: float) -> Field:
    """The soft shadow of something of coverage ``alpha``, ``reach`` pixels away from the lamp."""
    moved = shifted(alpha, -scene.light.x * reach, -scene.light.y * reach)
    return cv2.GaussianBlur(moved, (0, 0), 0.5 + 0.4 * reach)
