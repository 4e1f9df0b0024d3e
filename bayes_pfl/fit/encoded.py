"""Reference pictures that have been through the model once: scores by words, and patches.

Symbols: n references, N = h*w cells, C channels, S image side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from bayes_pfl.detect.inputs import batched
from bayes_pfl.detect.patches import PatchSettings, patch_directions
from bayes_pfl.detect.references import picture_digest
from bayes_pfl.detect.scorer import Scorer, inside_of, normalised
from bayes_pfl.model.scoring import BatchScores, smoothed
from bayes_pfl.support.memory import check_memory

ANGLES = tuple(range(0, 360, 45))
"""Degrees that references are turned by for parts that lie any way round (AnomalyDINO)."""

_HALF = 2  # bytes of a number that is kept


@dataclass(frozen=True)
class Encoded:
    """References in the order of their digests, each picture once.

    Attributes:
        names: of the pictures.
        digests: see :func:`bayes_pfl.detect.references.picture_digest`.
        pictures: as the model sees them, uint8 (S, S, 3).
        words: raw scores of each picture, its map among them.
        maps: smoothed maps by words, float16 (n, S, S), on the CPU.
        patches: float16 (n, N, C); with rotations (n, 8 N, C), those of the picture itself first.
        inside: bool (n, S, S), the pixels of each that count, on the CPU; None for all.
    """

    names: tuple[str, ...]
    digests: tuple[str, ...]
    pictures: list[np.ndarray]
    words: list[BatchScores]
    maps: Tensor
    patches: Tensor
    inside: Tensor | None = None

    def __len__(self) -> int:
        return len(self.digests)

    def without(self, numbers: Collection[int]) -> Encoded:
        """All pictures but those of these numbers."""
        kept = [at for at in range(len(self)) if at not in numbers]
        return Encoded(
            tuple(self.names[at] for at in kept),
            tuple(self.digests[at] for at in kept),
            [self.pictures[at] for at in kept],
            [self.words[at] for at in kept],
            self.maps[kept],
            self.patches[kept],
            None if self.inside is None else self.inside[kept],
        )

    def pixels_inside(self, at: int) -> Tensor | None:
        """The pixels of a picture that count, bool (1, S, S); None for all."""
        return None if self.inside is None else self.inside[at : at + 1]


def encode_references(
    scorer: Scorer,
    pictures: Sequence[np.ndarray],
    class_name: str,
    settings: PatchSettings,
    *,
    rotations: bool = False,
    names: Sequence[str] = (),
    inside: Sequence[np.ndarray | None] | None = None,
    on_done: Callable[[int], None] = lambda done: None,
) -> Encoded:
    """Send pictures, uint8 (S, S, 3), through the model; of equal ones the first is taken.

    Args:
        scorer: without references.
        inside: bool (S, S) of each, the pixels that count; None for all.
        on_done: called with the number of pictures done since the last call.

    Raises:
        ConfigError: their patches would not fit into memory.
    """
    labels = list(names) or [f"picture {at}" for at in range(len(pictures))]
    unique: dict[str, int] = {}
    for at in sorted(range(len(pictures)), key=lambda at: labels[at]):
        unique.setdefault(picture_digest(pictures[at]), at)
    order = sorted(unique)
    chosen = [unique[digest] for digest in order]
    _check_room(scorer, len(chosen), settings, len(ANGLES) if rotations else 1)
    words: list[BatchScores] = []
    maps, patches = [], []
    masks = None if inside is None else inside_of([inside[at] for at in chosen], scorer.model)
    for part in batched(range(len(chosen)), scorer.settings.batch_size):
        batch = [pictures[chosen[at]] for at in part]
        own = None if masks is None else masks[part]
        features, scores = scorer.encoded(batch, [class_name] * len(batch), own)
        maps.append(smoothed(scores.map, scorer.sigma, own).half().cpu())
        words += _one_by_one(scores)
        layers = scorer.model.backbone.layers
        views = [patch_directions(features.stages, layers, settings)]
        for angle in ANGLES[1:] if rotations else ():
            views.append(patches_of(scorer, [turned(one, angle) for one in batch], settings))
        patches.append(torch.cat(views, dim=1).half())
        on_done(len(batch))
    return Encoded(
        tuple(labels[at] for at in chosen),
        tuple(order),
        [pictures[at] for at in chosen],
        words,
        torch.cat(maps),
        torch.cat(patches),
        None if masks is None else masks.cpu(),
    )


@torch.no_grad()
def patches_of(scorer: Scorer, pictures: Sequence[np.ndarray], settings: PatchSettings) -> Tensor:
    """Directions (B, N, C) of pictures, uint8 (S, S, 3), without their scores by words."""
    backbone = scorer.model.backbone
    features = backbone.encode_image(normalised(scorer.model, pictures))
    return patch_directions(features.stages, backbone.layers, settings)


def turned(picture: np.ndarray, degrees: float, zoom: float = 1, shift: float = 0) -> np.ndarray:
    """A picture (S, S, 3) turned about its centre; what comes in from outside is its reflection.

    Args:
        shift: to the right and downwards, as a share of the side.
    """
    side = picture.shape[0]
    return cv2.warpAffine(
        np.ascontiguousarray(picture),
        _turning(side, degrees, zoom, shift),
        (side, side),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )


def views_inside(cells: Tensor, views: int, grid: tuple[int, int]) -> Tensor:
    """Which cells of a picture and of its turned copies count: bool (..., N) -> (..., views).

    Args:
        views: N, or 8 N with rotations.
    """
    if views == cells.shape[-1]:
        return cells
    return cells[..., unturned_cells(torch.arange(views), grid)]


def unturned_cells(cells: Tensor, grid: tuple[int, int]) -> Tensor:
    """Cells of turned pictures -> where they lie in the picture itself, of the same dtype.

    Args:
        cells: below 8 N; angle times N plus the cell, counted row by row.
    """
    count = grid[0] * grid[1]
    found = cells.clone()
    for number, angle in enumerate(ANGLES[1:], start=1):
        own = cells // count == number
        place = (cells[own] % count).cpu().numpy()
        rows, columns = place // grid[1], place % grid[1]
        points = np.stack([(columns + 0.5) / grid[1], (rows + 0.5) / grid[0], np.ones(len(place))])
        x, y = cv2.invertAffineTransform(_turning(1, angle)) @ points
        x, y = (np.clip(v, 0, 1 - 1e-9) for v in (x, y))
        back = (y * grid[0]).astype(np.int64) * grid[1] + (x * grid[1]).astype(np.int64)
        found[own] = torch.from_numpy(back).to(found)
    return found


def _turning(side: float, degrees: float, zoom: float = 1, shift: float = 0) -> np.ndarray:
    middle = side / 2 if side == 1 else (side - 1) / 2
    matrix: np.ndarray = cv2.getRotationMatrix2D((middle, middle), degrees, zoom)
    matrix[:, 2] += shift * side
    return matrix


def _one_by_one(scores: BatchScores) -> list[BatchScores]:
    columns = (
        scores.text_score,
        scores.text_spread,
        scores.map,
        scores.map_spread,
        scores.pair_scores,
    )
    small = [column.half() if column.ndim == 3 else column for column in columns]
    parts = zip(*(column.cpu().split(1) for column in small), strict=True)
    return [BatchScores(*part) for part in parts]


def _check_room(scorer: Scorer, count: int, settings: PatchSettings, views: int) -> None:
    backbone = scorer.model.backbone
    channels = sum(
        min(settings.width, shape[0])
        for layer, shape in zip(backbone.layers, backbone.stage_shapes, strict=True)
        if layer in settings.layers
    )
    cells = math.prod(settings.grid) * views
    parts = {
        "their number (patches)": _HALF * count * cells * channels,
        "their number (maps)": 3 * _HALF * count * backbone.image_size**2,
    }
    check_memory(f"{count} reference pictures", parts)
