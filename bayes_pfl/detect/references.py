"""Reference pictures of one thing, and what a score is when words and references both count.

Symbols: B images, K prompt pairs, N = h*w cells, C channels, n reference pictures, S image side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bayes_pfl.clip.frozen_clip import FrozenCLIP, ImageFeatures
from bayes_pfl.data.tiles import Tile
from bayes_pfl.detect.memory import PatchMemory, memory_score
from bayes_pfl.detect.patches import PatchSettings, patch_directions
from bayes_pfl.detect.standards import MapStandard, Standard, combined, log_odds
from bayes_pfl.model.scoring import BatchScores, credible_interval, deploy_scores, gaussian_smooth

COMBINED_RANGE = (0.2, 0.9)
"""Map values at the two ends of the colours of combined maps."""

COPY_SHARE = 0.2
"""Share of the usual distance between normal pictures below which two are copies. 80 pictures of
five kinds lay at 0.00 to 0.10 of it from themselves saved again as JPEG of quality 95 (75: up to
0.89), other pictures of 39 kinds at 0.59 or more."""

_LEAST_WEIGHT = 1e-12


class Place(NamedTuple):
    """The most anomalous patch of an image, and the most similar one of the references.

    Attributes:
        cell: of the image, or of its tile, counted row by row in the grid of the patches.
        picture: number of the reference picture.
        reference_cell: of that picture; with tiles, of all of them one after the other.
        distance: of the two, see :class:`bayes_pfl.detect.memory.Nearest`.
        tile: of the image; None for the whole.
    """

    cell: int
    picture: int
    reference_cell: int
    distance: float
    tile: Tile | None = None


class Deviations(NamedTuple):
    """How far B images lie above the normal ones, in standard deviations.

    Attributes:
        words, memory: (B,).
        pairs: of each prompt pair by itself, (B, K).
    """

    words: Tensor
    memory: Tensor
    pairs: Tensor

    def scores(self) -> CombinedScores:
        """What words and memory say together."""
        pairs = combined(self.pairs, self.memory[:, None])  # (B, K)
        low, high = credible_interval(pairs)
        spread = pairs.std(1, correction=0)
        return CombinedScores(combined(self.words, self.memory), spread, low, high)


class CombinedScores(NamedTuple):
    """Scores of B images, (B,) each.

    Attributes:
        score: in [0, 1).
        uncertainty: standard deviation of the scores of single prompt pairs.
        low, high: ends of the central 95% of these.
    """

    score: Tensor
    uncertainty: Tensor
    low: Tensor
    high: Tensor


@dataclass(frozen=True)
class Scale:
    """What normal pictures score: what deviations are measured by.

    Attributes:
        words: log-odds of the score by words alone.
        memory: memory score.
        pairs: mean log-odds of the score of each prompt pair by itself, (K,): some pairs score all
            pictures of a thing higher than others do, which is no disagreement.
        words_map: log-odds of the pixels of the map by words, smoothed.
        memory_map: pixels of the map of distances, smoothed.
    """

    words: Standard
    memory: Standard
    pairs: Tensor
    words_map: MapStandard
    memory_map: MapStandard


@dataclass(frozen=True)
class Combined:
    """Scores of B images by words and references.

    Attributes:
        deviations: that the scores are made of.
        words_score: by words alone, in [0, 1], (B,).
        memory_score: mean distance of the farthest patches, (B,), see
            :class:`bayes_pfl.detect.memory.Nearest`.
        map: (B, S, S), in [0, 1).
        spread: half the difference that one standard deviation of the words makes, (B, S, S).
        places: of each image.
    """

    deviations: Deviations
    words_score: Tensor
    memory_score: Tensor
    map: Tensor
    spread: Tensor
    places: list[Place]


@dataclass(frozen=True)
class References:
    """Reference pictures of one thing, ready to be compared with.

    Attributes:
        settings: how patches are made.
        memory: the patches kept.
        scale: what deviations are measured by.
        digests: :func:`picture_digest` of each reference picture.
        tiles: what the tiles of a large picture are compared with: those of the references, and
            their scale, which is that of a picture's most anomalous tile. None without tiles.
    """

    settings: PatchSettings
    memory: PatchMemory
    scale: Scale
    digests: tuple[str, ...]
    tiles: References | None = None

    def to(self, device: torch.device) -> References:
        """The same with its patches on a device."""
        tiles = self.tiles.to(device) if self.tiles else None
        return replace(self, memory=self.memory.to(device), tiles=tiles)

    def patches(self, backbone: FrozenCLIP, features: ImageFeatures) -> Tensor:
        """Directions (B, N, C) of images that have been through the image tower."""
        return patch_directions(features.stages, backbone.layers, self.settings)

    @torch.no_grad()
    def combine(
        self,
        words: BatchScores,
        words_maps: Tensor,
        patches: Tensor,
        sigma: float,
        twins: Sequence[int | None],
        inside: Tensor | None = None,
    ) -> Combined:
        """Combine the scores of B images by words with their distances to the references.

        An image that is one of the references, or a copy of one, is compared with the others alone.

        Args:
            words_maps: smoothed, (B, S, S).
            sigma: of the smoothing of maps, in pixels.
            twins: of each image, see :meth:`twin`.
            inside: bool (B, S, S), the pixels that count; None for all.
        """
        found = [
            self._distances(part, picture)
            for part, picture in zip(patches.split(1), twins, strict=True)
        ]
        distance = torch.cat([one for one, _ in found])  # (B, N)
        nearest = torch.cat([at for _, at in found])
        grid = self.settings.grid
        if inside is not None:
            distance = distance * cells_inside(inside, grid)
        maps = distance_maps(distance, grid, words_maps.shape[-1], sigma, inside)
        far = memory_score(distance, self.settings.farthest)
        both = combine_scores(self.scale, words, words_maps, far, maps, inside)
        return replace(both, places=self._places(both.map, distance, nearest))

    def twin(self, pixels: np.ndarray, patches: Tensor | None = None) -> int | None:
        """The number of the reference that an image is, or is a copy of; None for none.

        Args:
            pixels: uint8 (S, S, 3).
            patches: of the image, (N, C); without them only equal pixels are recognised.
        """
        if self.memory.pictures < 2:
            return None
        digest = picture_digest(pixels)
        if digest in self.digests:
            return self.digests.index(digest)
        if patches is None:
            return None
        distance, nearest = self.memory.at_same_cells(patches).min(0)
        usual = float(self.scale.memory_map.centre.mean())
        return int(nearest) if float(distance) < COPY_SHARE * usual else None

    def _distances(self, patches: Tensor, picture: int | None) -> tuple[Tensor, Tensor]:
        """Distances (B, N), and the nearest patches as indices of the whole memory."""
        if picture is None:
            return self.memory.nearest(patches)
        distance, nearest = self.memory.without(picture).nearest(patches)
        kept = torch.nonzero(self.memory.owners != picture).flatten()
        return distance, kept[nearest]

    def _places(self, maps: Tensor, distance: Tensor, nearest: Tensor) -> list[Place]:
        """Where the combined maps (B, S, S) are highest."""
        cells = F.adaptive_max_pool2d(maps[:, None], self.settings.grid).flatten(1)  # (B, N)
        strongest = cells.argmax(1, keepdim=True)  # (B, 1)
        patch = nearest.gather(1, strongest)[:, 0]
        columns = (
            strongest[:, 0].tolist(),
            self.memory.owners[patch].tolist(),
            self.memory.cells[patch].tolist(),
            distance.gather(1, strongest)[:, 0].tolist(),
        )
        return [Place(*values) for values in zip(*columns, strict=True)]


def combine_scores(
    scale: Scale,
    words: BatchScores,
    words_maps: Tensor,
    memory: Tensor,
    distance_maps: Tensor,
    inside: Tensor | None = None,
) -> Combined:
    """The scores of B images measured by a scale, without their places.

    Args:
        words_maps, distance_maps: smoothed, (B, S, S).
        memory: memory scores, (B,).
        inside: bool (B, S, S), the pixels that count; None for all.
    """
    score = deploy_scores(words).score
    above, below = (
        combined_maps(scale, (words_maps + way * words.map_spread).clamp(0, 1), distance_maps)
        for way in (1, -1)
    )
    both, spread = combined_maps(scale, words_maps, distance_maps), (above - below) / 2
    if inside is not None:
        both, spread = both * inside, spread * inside
    return Combined(
        deviations=deviations(scale, score, words.pair_scores, memory),
        words_score=score,
        memory_score=memory,
        map=both,
        spread=spread,
        places=[],
    )


def deviations(scale: Scale, words: Tensor, pairs: Tensor, memory: Tensor) -> Deviations:
    """Scores of B images measured by a scale.

    Args:
        words: scores by words, (B,).
        pairs: by each prompt pair, (B, K).
        memory: memory scores, (B,).
    """
    of_words = scale.words.deviations(log_odds(words))  # (B,)
    odds = log_odds(pairs.float()) - scale.pairs.to(pairs.device)  # (B, K)
    by_pair = (odds - odds.mean(1, keepdim=True)) / scale.words.spread + of_words[:, None]
    return Deviations(of_words, scale.memory.deviations(memory), by_pair)


def combined_maps(scale: Scale, words_maps: Tensor, distance_maps: Tensor) -> Tensor:
    """Smoothed maps by words and by distances, (B, S, S), combined: in [0, 1)."""
    far = scale.memory_map.deviations(distance_maps)
    return combined(scale.words_map.deviations(log_odds(words_maps)), far)


def most_deviating(parts: Sequence[Deviations]) -> Deviations:
    """Of several views of one picture, the highest deviation by words, and by memory; (1,) each."""
    views = Deviations(*(torch.cat(columns) for columns in zip(*parts, strict=True)))
    words = int(views.words.argmax())
    return Deviations(
        views.words[words : words + 1],
        views.memory.max().reshape(1),
        views.pairs[words : words + 1],
    )


def distance_maps(
    distance: Tensor,
    grid: tuple[int, int],
    side: int,
    sigma: float,
    inside: Tensor | None = None,
) -> Tensor:
    """Distances of cells (B, N) -> smoothed maps (B, S, S).

    Args:
        inside: bool (B, S, S), the pixels that count; None for all. Cells of which no pixel counts
            have the distance 0, and no part in the map.
    """
    maps = gaussian_smooth(_stretched(distance, grid, side), sigma)
    if inside is None:
        return maps
    weights = gaussian_smooth(_stretched(cells_inside(inside, grid), grid, side), sigma)
    return torch.where(inside, maps / weights.clamp_min(_LEAST_WEIGHT), 0)


def _stretched(cells: Tensor, grid: tuple[int, int], side: int) -> Tensor:
    """Values of cells (B, N) -> maps (B, S, S)."""
    values = cells.float().unflatten(1, grid)[:, None]  # (B, 1, h, w)
    return F.interpolate(values, (side, side), mode="bilinear", align_corners=False)[:, 0]


def cells_inside(inside: Tensor, grid: tuple[int, int]) -> Tensor:
    """Whether any pixel of a cell counts: bool (B, S, S) -> (B, N)."""
    return F.adaptive_max_pool2d(inside.float()[:, None], grid).flatten(1) > 0


def picture_digest(pixels: np.ndarray) -> str:
    """Hash of a picture as the model sees it, uint8 (S, S, 3): copies of a file have the same."""
    return hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()[:32]
