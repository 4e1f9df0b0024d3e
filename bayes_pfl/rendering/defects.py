"""Faults put on a clean scene, with the exact mask of what they change.

Each maker takes (rng, scene) and returns a :class:`Mark`: what the picture would look like there,
and with what opacity. :func:`spoil` blends it in, makes sure that it can be seen, and cuts the
change off at the mask, so that no pixel far from the mask differs from the clean picture.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from bayes_pfl.rendering import damage, growths, lines, marks, stains
from bayes_pfl.rendering.marks import Mark
from bayes_pfl.rendering.noise import Field, Rng
from bayes_pfl.rendering.scene import Scene, peak, thrice
from bayes_pfl.rendering.strokes import log_uniform, patch

Maker = Callable[[Rng, Scene], "Mark | None"]

DEFECTS: dict[str, Maker] = {
    "scratch": lines.scratch,
    "crack": lines.crack,
    "cut": lines.cut,
    "stain": stains.stain,
    "contamination": stains.contamination,
    "thread": lines.thread,
    "burn": stains.burn,
    "discoloration": stains.discoloration,
    "corrosion": stains.corrosion,
    "mould": stains.mould,
    "rash": stains.rash,
    "print_error": stains.print_error,
    "hole": damage.hole,
    "dent": damage.dent,
    "fold": damage.fold,
    "chip": damage.chip,
    "broken": damage.broken,
    "missing_part": damage.missing_part,
    "bent": damage.bent,
    "misaligned": damage.misaligned,
    "lesion": growths.lesion,
    "tumour": growths.tumour,
    "bleeding": growths.bleeding,
    "polyp": growths.polyp,
}
"""Every kind of fault by name."""

MASK_OPACITY = 0.2
"""A pixel belongs to the mask where the fault covers at least this much of it."""

_THIN = ("scratch", "crack", "cut", "thread")
_SMALLEST_AREA = 8


def spoil(rng: Rng, scene: Scene, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Put one fault (now and then several of its kind) on the scene.

    Returns the spoiled picture before lighting, float32 (S, S, 3), and its mask, bool (S, S),
    never empty.
    """
    repeats = 1 if rng.random() < 0.78 or kind in _SINGLE else int(rng.integers(2, 4))
    image, mask = scene.image, np.zeros(scene.where.shape, bool)
    for _ in range(repeats):
        image, mask = _add(rng, scene, image, mask, kind)
    if not mask.any():
        image, mask = _last_resort(rng, scene)
    return image, mask


_FADING = frozenset(
    {
        "scratch",
        "crack",
        "stain",
        "discoloration",
        "burn",
        "dent",
        "fold",
        "corrosion",
        "mould",
        "rash",
        "cut",
    }
    | {"lesion", "tumour", "bleeding", "polyp"}
)
"""Kinds that may be faint; the others are there or are not."""
_GAINS = (1.0, 1.8, 3.2, -1.0, -2.5)
"""Tried in turn until such a fault can be seen; negative ones make a dark mark bright."""
_SINGLE = frozenset({"broken", "bent", "misaligned", "missing_part", "tumour", "print_error"})


def _add(rng: Rng, scene: Scene, image: np.ndarray, mask: np.ndarray, kind: str) -> tuple:
    """Try a few places until the fault is visible; the picture comes back as it was if none is."""
    floor = log_uniform(rng, 0.09 if kind in _THIN else 0.055, 0.3)
    for _ in range(4):
        mark = DEFECTS[kind](rng, scene)
        if mark is None:
            continue
        fading = kind in _FADING
        ceiling = 1.5 * floor if fading and rng.random() < 0.35 else 1.0
        gains = _GAINS if fading else (1.0,)
        spoiled, changed = _blend(scene, image, mark, (floor, ceiling), gains)
        if changed.sum() >= _SMALLEST_AREA * scene.unit:
            return spoiled, mask | changed
    return image, mask


def _blend(
    scene: Scene,
    image: np.ndarray,
    mark: Mark,
    limits: tuple[float, float],
    gains: tuple[float, ...],
) -> tuple[np.ndarray, np.ndarray]:
    """Blend the mark in; strengthen or turn round, by ``gains``, a change that is hard to see.

    ``limits`` are the smallest and the largest change that may result (of the full range).
    """
    changed = mark.alpha >= MASK_OPACITY
    if not changed.any():
        return image, changed
    # Opacity fades out just outside the mask and is exactly 0 from three pixels on.
    near = cv2.dilate(changed.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    weight = thrice(np.where(near, mark.alpha, np.float32(0)))
    delta = ((mark.target - image) * weight).astype(np.float32)
    clean = np.clip(scene.lit(image), 0, 1)
    best, best_seen = image, -1.0
    for gain in gains:
        spoiled = image + np.float32(gain) * delta
        seen = _visibility(np.clip(scene.lit(spoiled), 0, 1), clean, changed)
        if seen > best_seen:
            best, best_seen = spoiled, seen
        if seen >= limits[0]:
            break
    if best_seen < 0.03:
        return image, np.zeros_like(changed)
    if best_seen > limits[1]:
        best = image + np.float32(limits[1] / best_seen) * (best - image)
    return best, changed


def _visibility(spoiled: np.ndarray, clean: np.ndarray, where: np.ndarray) -> float:
    """Change that the best third of the mask's pixels reach, in units of the full range."""
    change = peak(np.abs(spoiled - clean))[where]
    return float(np.percentile(change, 70))


def _last_resort(rng: Rng, scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """A plain spot in the middle of the thing, for scenes where nothing else could be seen."""
    centre = marks.spot(rng, scene)
    alpha: Field = patch(rng, scene.size, centre, 9 * scene.unit, 0.3) * 0.8
    column, row = (int(np.clip(v, 0, scene.size - 1)) for v in centre)
    bright = float(scene.lit(scene.image)[row, column].mean()) > 0.45
    target = np.full_like(scene.image, 0.05 if bright else 0.9)
    return scene.image + alpha[..., None] * (target - scene.image), alpha >= MASK_OPACITY
