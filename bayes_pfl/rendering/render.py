"""Renders a picture with its mask from the name of a category, a seed and a number."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from bayes_pfl.errors import ConfigError
from bayes_pfl.rendering.camera import photograph
from bayes_pfl.rendering.captions import caption
from bayes_pfl.rendering.catalog import CATEGORIES, Category
from bayes_pfl.rendering.defects import spoil
from bayes_pfl.rendering.noise import Rng
from bayes_pfl.rendering.scene import Scene, peak

MIN_SIZE, MAX_SIZE = 32, 4096


@dataclass(frozen=True)
class Rendered:
    """One rendered picture.

    image    uint8 (S, S, 3), RGB
    mask     bool (S, S), True where the fault shows; all False for "good"
    defect   "good" or the kind of fault
    caption  a sentence that names the thing and its state
    """

    image: np.ndarray
    mask: np.ndarray
    category: str
    class_name: str
    defect: str
    caption: str


@dataclass(frozen=True)
class Exposure:
    """A scene before the camera, without and with its fault; both float32 (S, S, 3)."""

    scene: Scene
    clean: np.ndarray
    spoiled: np.ndarray
    mask: np.ndarray
    defect: str


def render(
    category: str, seed: int, index: int, *, size: int = 256, defect: str | None = None
) -> Rendered:
    """Render picture ``index`` of a category; equal arguments give equal pixels, on any machine.

    ``defect`` is None or "good" for a faultless picture, the name of a kind of fault, or
    "random" for one that the category lists. With all else equal, the faultless and the faulty
    picture show the same scene through the same camera.

    Raises ConfigError for an unknown category or kind of fault, or a size out of range.
    """
    entry = _entry(category)
    shot = expose(category, seed, index, size=size, defect=defect)
    camera = _rng(category, seed, index, size, "camera")
    words = _rng(category, seed, index, size, "words")
    pixels = photograph(camera, shot.spoiled, shot.scene.grey)
    organic = entry.kind == "organic"
    text = caption(words, entry.class_name, shot.defect, shot.mask, shot.scene.grey, organic)
    return Rendered(pixels, shot.mask, category, entry.class_name, shot.defect, text)


def expose(
    category: str, seed: int, index: int, *, size: int = 256, defect: str | None = None
) -> Exposure:
    """The scene that the camera will see, with and without its fault, and the mask."""
    entry = _entry(category)
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise ConfigError(f"size {size} is not allowed: choose {MIN_SIZE} to {MAX_SIZE} pixels")
    scene = entry.build(_rng(category, seed, index, size, "scene"), size)
    _expose_well(scene)
    clean = np.clip(scene.lit(scene.image), 0, 1)
    kind = _kind(entry, seed, index, size, defect)
    if kind == "good":
        return Exposure(scene, clean, clean, np.zeros((size, size), bool), kind)
    spoiled, mask = spoil(_rng(category, seed, index, size, kind), scene, kind)
    return Exposure(scene, clean, np.clip(scene.lit(spoiled), 0, 1), mask, kind)


def _expose_well(scene: Scene) -> None:
    """Brighten a scene that is too dark to see a fault on; darken one that is all white."""
    if scene.grey:
        return
    lit = peak(scene.lit(scene.image)[::4, ::4])
    seen = lit[scene.where[::4, ::4] > 0.5]
    seen = seen if len(seen) else lit
    bright = float(np.percentile(seen, 90))
    gain = 0.38 / max(bright, 0.02) if bright < 0.38 else min(1.0, 0.9 / float(seen.mean() + 1e-6))
    scene.dim(np.float32(min(gain, 6.0)))


def _entry(category: str) -> Category:
    if category not in CATEGORIES:
        raise ConfigError(
            f"unknown category {category!r}: choose one of {', '.join(sorted(CATEGORIES))}"
        )
    return CATEGORIES[category]


def _kind(entry: Category, seed: int, index: int, size: int, defect: str | None) -> str:
    """The kind of fault that is asked for, or "good"; for "random" one of the category's kinds.

    Raises ConfigError for a kind that the category does not list.
    """
    if defect in (None, "good"):
        return "good"
    if defect == "random":
        rng = _rng(entry.name, seed, index, size, "kind")
        return entry.defects[int(rng.integers(len(entry.defects)))]
    if defect not in entry.defects:
        allowed = ", ".join(("good", "random", *dict.fromkeys(entry.defects)))
        raise ConfigError(f"{entry.name} has no defect {defect!r}: choose one of {allowed}")
    return str(defect)


def _rng(category: str, seed: int, index: int, size: int, purpose: str) -> Rng:
    """A random generator for each purpose; crc32 is the same in every process, hash() is not."""
    names = (zlib.crc32(category.encode()), zlib.crc32(purpose.encode()))
    return np.random.default_rng([*names, seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF, index, size])
