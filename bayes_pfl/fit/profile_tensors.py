"""The references of a profile as tensors, and tensors that come from a file checked.

A profile may come from a stranger: whatever does not fit its pictures is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bayes_pfl.data.tiles import Tiling
from bayes_pfl.detect.memory import PatchMemory
from bayes_pfl.detect.patches import PatchSettings
from bayes_pfl.detect.references import References, Scale
from bayes_pfl.detect.standards import MapStandard, Standard
from bayes_pfl.detect.whitening import Whitening
from bayes_pfl.fit.calibration import CalibratedSettings
from bayes_pfl.fit.profile import ReferencePicture

_MAPS = ("words_map", "memory_map")
_OF_TILES = "tiles."


@dataclass(frozen=True)
class Scores:
    """Centres and spreads of the scores of images."""

    words: tuple[float, float]
    memory: tuple[float, float]


@dataclass(frozen=True)
class Memory:
    """All of the references that is no tensor.

    Attributes:
        tile_patches: how the patches of tiles are made; None, as in older profiles, for as those of
            whole pictures.
    """

    patches: PatchSettings
    scores: Scores
    tensors_sha256: str
    tile_scores: Scores | None = None
    tile_patches: PatchSettings | None = None


def scores_of(references: References) -> Scores:
    """The scores of the scale of references."""
    return Scores((*references.scale.words,), (*references.scale.memory,))


def packed(references: References) -> bytes:
    """The tensors of references as the bytes of a safetensors file."""
    from safetensors.torch import save

    tensors = _tensors_of(references, "")
    if references.tiles is not None:
        tensors |= _tensors_of(references.tiles, _OF_TILES)
    return save({name: value.cpu().contiguous() for name, value in tensors.items()})


def _tensors_of(references: References, prefix: str) -> dict[str, Tensor]:
    memory, scale = references.memory, references.scale
    tensors = {
        "vectors": memory.vectors,
        "owners": memory.owners,
        "cells": memory.cells,
        "pairs": scale.pairs,
    }
    for name in _MAPS:
        centre, spread = getattr(scale, name)
        tensors |= {f"{name}.centre": centre, f"{name}.spread": spread}
    if memory.whitening is not None:
        mean, matrix = memory.whitening
        tensors |= {"whitening.mean": mean, "whitening.matrix": matrix}
    return {prefix + name: value for name, value in tensors.items()}


def unpacked(
    memory: Memory,
    settings: CalibratedSettings,
    pictures: Sequence[ReferencePicture],
    tensors: dict[str, Tensor],
) -> References:
    """The references of these tensors.

    Raises:
        KeyError, ValueError, RuntimeError: they do not fit these pictures and settings.
    """
    whole = _checked(memory.patches, memory.scores, settings, pictures, tensors, 1)
    if memory.tile_scores is None:
        return whole
    own = {
        name.removeprefix(_OF_TILES): value
        for name, value in tensors.items()
        if name.startswith(_OF_TILES)
    }
    views = max(_tiles_in(settings, picture) for picture in pictures)
    patches = memory.tile_patches or memory.patches
    tiles = _checked(patches, memory.tile_scores, settings, pictures, own, views)
    return replace(whole, tiles=tiles)


def _tiles_in(settings: CalibratedSettings, picture: ReferencePicture) -> int:
    if settings.tile is None or picture.size is None:
        return 0
    return len(Tiling(settings.tile, settings.overlap).tiles(picture.size))


def _checked(
    patches: PatchSettings,
    scores: Scores,
    settings: CalibratedSettings,
    pictures: Sequence[ReferencePicture],
    tensors: dict[str, Tensor],
    views: int,
) -> References:
    """The references of these tensors; raises KeyError or ValueError where they are no such.

    Args:
        views: that a picture has at most.
    """
    vectors, owners, cells = (tensors[name] for name in ("vectors", "owners", "cells"))
    count, grid = len(pictures), patches.grid
    fitting = (
        vectors.ndim == 2
        and owners.ndim == cells.ndim == 1
        and owners.dtype == cells.dtype == torch.int32
        and vectors.shape[0] == len(owners) == len(cells) > 0
        and bool(vectors.isfinite().all())
        and 0 <= int(owners.min()) <= int(owners.max()) < count
        and 0 <= int(cells.min()) <= int(cells.max()) < views * grid[0] * grid[1]
    )
    if not fitting:
        raise ValueError("patches that do not fit its pictures")
    maps = [MapStandard(tensors[f"{x}.centre"], tensors[f"{x}.spread"]) for x in _MAPS]
    if not all(float(spread.min()) > 0 for _, spread in maps):
        raise ValueError("a spread of 0")
    whitening = _whitening(tensors, vectors.shape[1]) if patches.whitened else None
    side = settings.image_size
    values = [value for one in maps for value in one]
    if any(x.shape not in ((), (side, side)) or not x.isfinite().all() for x in values):
        raise ValueError("maps of another size, or not of numbers")
    if tensors["pairs"].ndim != 1 or not tensors["pairs"].isfinite().all():
        raise ValueError("log-odds of pairs in another form")
    return References(
        patches,
        PatchMemory(vectors, owners, cells, count, whitening=whitening),
        Scale(Standard(*scores.words), Standard(*scores.memory), tensors["pairs"], *maps),
        tuple(picture.digest for picture in pictures),
    )


def _whitening(tensors: dict[str, Tensor], channels: int) -> Whitening:
    mean, matrix = (tensors[f"whitening.{name}"].float() for name in Whitening._fields)
    if mean.shape != (channels,) or matrix.shape != (channels, channels):
        raise ValueError("a whitening that does not fit its patches")
    if not (mean.isfinite().all() and matrix.isfinite().all()):
        raise ValueError("a whitening that is not of numbers")
    return Whitening(mean, matrix)
