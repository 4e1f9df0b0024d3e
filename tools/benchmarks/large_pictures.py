"""Large pictures of surfaces, rendered or made of small photographs, and small faults on them.

Symbols: W×H pixels of a picture, h×w of a fault.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from PIL import Image

from bayes_pfl.errors import ConfigError, DataError
from bayes_pfl.rendering import CATEGORIES
from bayes_pfl.rendering.render import expose

LEAST_CHANGE = 0.1
"""Of the full range, that the upper third of a fault's pixels must change by."""

PIECES = 16
"""Pictures that a rendered surface makes."""

_SIDE, _PIECE = 2048, 512  # of a rendered surface, and of what a picture shows of it
_FAULT_SIDE = 512  # of a picture that a fault is cut from
_COVERED = 0.2  # of a pixel, for it to be a fault's, as in the renderer
_TRIES = 60
_LEAST_AROUND = 64


class Fault(NamedTuple):
    """What a fault adds to a picture.

    Attributes:
        change: float32 (h, w, 3), of 255.
        mask: bool (h, w), its pixels.
    """

    change: np.ndarray
    mask: np.ndarray
    kind: str


class Spoiled(NamedTuple):
    """A picture with a fault.

    Attributes:
        picture: uint8 (H, W, 3).
        mask: bool (h, w), the fault's pixels, with its upper left corner at ``left`` and ``top``.
    """

    picture: np.ndarray
    mask: np.ndarray
    left: int
    top: int
    kind: str


class Surface(Protocol):
    """Sound pictures of one surface, and faults that it can have."""

    name: str
    class_name: str

    def sound(self, index: int) -> np.ndarray:
        """A picture without a fault, uint8 (H, W, 3)."""

    def faults(self, index: int, length: int) -> Iterator[Fault]:
        """Faults whose longer side is ``length`` pixels, without end."""


@dataclass(frozen=True)
class RenderedSurface:
    """One rendered surface of a category; each picture shows another sixteenth of it, enlarged by
    mirroring.

    Args:
        name: of the category, a texture.
        size: (W, H).
    """

    name: str
    size: tuple[int, int]
    seed: int

    @property
    def class_name(self) -> str:
        """The word of the prompts."""
        return CATEGORIES[self.name].class_name

    def sound(self, index: int) -> np.ndarray:
        """A picture without a fault, uint8 (H, W, 3).

        Raises:
            ConfigError: there are not so many.
        """
        if index >= PIECES:
            raise ConfigError(f"a rendered surface makes {PIECES} pictures: ask for fewer")
        along = _SIDE // _PIECE
        row, column = divmod(int(self._rng("pieces", 0).permutation(PIECES)[index]), along)
        texture = _texture(self.name, self.seed)
        piece = texture[row * _PIECE : (row + 1) * _PIECE, column * _PIECE : (column + 1) * _PIECE]
        return photographed(piece, self.size, self._rng("light", index))

    def faults(self, index: int, length: int) -> Iterator[Fault]:
        """Cut from rendered pictures and made smaller, without end."""
        for number in itertools.count(1000 * index):
            shot = expose(self.name, self.seed + 1, number, size=_FAULT_SIDE, defect="random")
            ys, xs = np.nonzero(shot.mask)
            box = np.s_[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
            mask = shot.mask[box].astype(np.float32)
            if max(mask.shape) >= length:
                change = (shot.spoiled - shot.clean)[box] * 255 * mask[..., None]
                yield shrunk(change, mask, length, shot.defect)

    def _rng(self, purpose: str, index: int) -> np.random.Generator:
        name = zlib.crc32(f"{self.name} {purpose}".encode())
        return np.random.default_rng([name, self.seed, index])


@lru_cache(maxsize=1)
def _texture(category: str, seed: int) -> np.ndarray:
    """float32 (S, S, 3), of 255, where nothing but the surface is seen."""
    for number in range(_TRIES):
        shot = expose(category, seed, number, size=_SIDE)
        if shot.scene.where.min() > 0.5 and not shot.scene.parts:
            return np.asarray(shot.clean, np.float32) * 255
    raise ConfigError(f"category {category!r}: it has no surface without edges and fittings")


class RealSurface:
    """Photographs of a surface in a folder laid out as MVTec AD, each half enlarged by mirroring.

    Pieces of the faults are cut out of the faulty photographs by their masks, at their own size.

    Args:
        folder: ``test/good``, and ``test/KIND`` with ``ground_truth/KIND``.
        size: (W, H).

    Raises:
        DataError: no such photographs.
    """

    def __init__(self, folder: Path, size: tuple[int, int], seed: int) -> None:
        self.name = self.class_name = folder.name
        self.size, self.seed = size, seed
        self._good = sorted((folder / "test" / "good").glob("*.*"))
        self._masks = sorted((folder / "ground_truth").glob("*/*.png"))
        if not self._good or not self._masks:
            raise DataError(f"{folder}: no pictures in test/good, or no masks in ground_truth")
        self._folder = folder

    def sound(self, index: int) -> np.ndarray:
        """The left or right half of a sound photograph, mirrored: uint8 (H, W, 3).

        Raises:
            DataError: there are not so many.
        """
        if index >= 2 * len(self._good):
            raise DataError(
                f"{self._folder}: {len(self._good)} sound pictures make {2 * len(self._good)} "
                "halves; ask for fewer pictures"
            )
        whole = _opened(self._good[index // 2])
        half = (
            whole[:, : whole.shape[1] // 2] if index % 2 == 0 else whole[:, whole.shape[1] // 2 :]
        )
        return photographed(half, self.size, np.random.default_rng([self.seed, index]))

    def faults(self, index: int, length: int) -> Iterator[Fault]:
        """Pieces of faults, without end."""
        rng = np.random.default_rng([self.seed, index, length])
        while True:
            path = self._masks[int(rng.integers(len(self._masks)))]
            kind = path.parent.name
            mask = np.asarray(Image.open(path).convert("L")) > 127
            if (piece := _piece(mask, length, rng)) is not None:
                stem = path.stem.removesuffix("_mask")
                (photograph,) = (self._folder / "test" / kind).glob(f"{stem}.*")
                yield _cut_out(_opened(photograph), mask, piece, kind)


def photographed(base: np.ndarray, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A texture (h, w, 3), of 255, mirrored until it fills (W, H) pixels, under uneven light and
    with noise: uint8 (H, W, 3)."""
    width, height = size
    rows, columns = (
        _mirrored(side, length)
        for side, length in zip(base.shape[:2], (height, width), strict=True)
    )
    angle, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.12)
    across, down = np.linspace(-1, 1, width), np.linspace(-1, 1, height)[:, None]
    light = 1 + slope * (across * np.cos(angle) + down * np.sin(angle))
    light = (light * rng.uniform(0.95, 1.05)).astype(np.float32)
    picture = np.empty((height, width, 3), np.uint8)
    for row in range(height):  # a row at a time: a whole picture of floats would be 144 MB
        values = base[rows[row], columns] * light[row, :, None]
        values += rng.standard_normal(values.shape, np.float32) * 1.5
        picture[row] = values.clip(0, 255)
    return picture


def spoil(picture: np.ndarray, faults: Iterator[Fault], rng: np.random.Generator) -> Spoiled:
    """A picture with the first of the faults that can be seen at its random place.

    Raises:
        DataError: none of many can be seen.
    """
    height, width = picture.shape[:2]
    for fault in itertools.islice(faults, _TRIES):
        h, w = fault.mask.shape
        top, left = (int(rng.integers(room)) for room in (height - h, width - w))
        reach = max(h, w, _LEAST_AROUND // 2)
        around = picture[
            max(0, top - reach) : top + h + reach, max(0, left - reach) : left + w + reach
        ]
        if visible(fault, around):
            spoiled = picture.copy()
            part = spoiled[top : top + h, left : left + w]
            part[:] = (part + fault.change).clip(0, 255)
            return Spoiled(spoiled, fault.mask, left, top, fault.kind)
    raise DataError(f"none of {_TRIES} faults can be seen on the surface; choose another")


def visible(fault: Fault, around: np.ndarray) -> bool:
    """Whether the upper third of a fault's pixels changes by a tenth of the full range, and by one
    standard deviation of the picture around it, (h, w, 3)."""
    if not fault.mask.any():
        return False
    change = np.abs(fault.change).max(2)[fault.mask]
    return float(np.percentile(change, 70)) >= max(LEAST_CHANGE * 255, float(around.mean(2).std()))


def shrunk(change: np.ndarray, mask: np.ndarray, length: int, kind: str) -> Fault:
    """A fault, made so small that its longer side is ``length`` pixels."""
    scale = length / max(mask.shape)
    size = tuple(max(2, round(side * scale)) for side in mask.shape[::-1])
    change, mask = (cv2.resize(part, size, interpolation=cv2.INTER_AREA) for part in (change, mask))
    return Fault(change, mask >= _COVERED, kind)


def _mirrored(side: int, length: int) -> np.ndarray:
    """Indices (length,) that go to and fro along a side."""
    place = np.arange(length) % (2 * side)
    return np.where(place < side, place, 2 * side - 1 - place)


def _opened(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"), np.float32)


def _piece(mask: np.ndarray, length: int, rng: np.random.Generator) -> tuple[slice, slice] | None:
    """The window around what lies of a fault within a random square; None if that is smaller."""
    ys, xs = np.nonzero(mask)
    if not len(ys):
        return None
    at = int(rng.integers(len(ys)))
    top, left = max(0, ys[at] - length // 2), max(0, xs[at] - length // 2)
    inside = mask[top : top + length, left : left + length]
    rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    if max(np.ptp(rows), np.ptp(columns)) < 0.8 * length:
        return None
    return (
        slice(top + rows[0], top + rows[-1] + 1),
        slice(left + columns[0], left + columns[-1] + 1),
    )


def _cut_out(
    photograph: np.ndarray, mask: np.ndarray, piece: tuple[slice, slice], kind: str
) -> Fault:
    """How a piece differs from the mean of what is sound around it, fading out at its edges."""
    near = cv2.dilate(mask.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    reach = 24
    around = tuple(slice(max(0, part.start - reach), part.stop + reach) for part in piece)
    sound = photograph[around][~near[around]]
    if not len(sound):
        sound = photograph[~near]
    inside = np.zeros(mask.shape, np.float32)
    inside[piece] = mask[piece]
    weight = cv2.GaussianBlur(inside, (0, 0), 0.7)[piece]
    weight = np.maximum(weight, mask[piece])
    return Fault((photograph[piece] - sound.mean(0)) * weight[..., None], mask[piece], kind)
