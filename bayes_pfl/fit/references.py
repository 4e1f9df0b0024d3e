"""Reference pictures made ready to be compared with: patches kept, and the scale of scores.

Every reference is scored as a new picture would be: by words, and by its distance to the patches of
the other references, never to its own. From these scores come the scale, and with 20 references or
more the thresholds of :mod:`bayes_pfl.fit.conformal`.

Symbols: n references, N = h*w cells, C channels, S image side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from bayes_pfl.detect.memory import PatchMemory, memory_score
from bayes_pfl.detect.patches import patch_settings
from bayes_pfl.detect.references import (
    COPY_SHARE,
    Combined,
    Deviations,
    References,
    Scale,
    cells_inside,
    combine_scores,
    distance_maps,
)
from bayes_pfl.detect.scorer import Scorer
from bayes_pfl.detect.standards import (
    MEMORY_SPREAD,
    WORDS_SPREAD,
    Standard,
    log_odds,
)
from bayes_pfl.errors import DataError
from bayes_pfl.fit.encoded import (
    Encoded,
    encode_references,
    patches_of,
    turned,
    unturned_cells,
    views_inside,
)
from bayes_pfl.fit.map_sums import MapSums, median_standard
from bayes_pfl.model.scoring import deploy_scores

FEWEST_MUTUAL = 8
"""Pictures that mutual scoring needs: below, the nearest 30% of the others are two at most."""

DRAWN_MUTUAL = 32
"""Pictures that the others are compared with in mutual scoring, by default."""

STAND_IN = 2.0
"""How much farther another picture lies than a changed copy of the same: with one reference the
distance of its copies, times this, takes the place of distances between references. Measured on 16
rendered categories and four sets of photographs, with a standard deviation from set to set: 2.3
and 0.7 for the mirrored copy, 2.2 and 0.5 for one that is turned, shifted, larger and brighter."""

LEAST_DISTANCE, LEAST_ODDS = 0.01, 0.2
"""Smallest spreads of the pixels of maps: near copies would have none."""


@dataclass(frozen=True)
class ReferenceOptions:
    """How references are made.

    Attributes:
        rotations: also compare with the references turned by 45, 90, ... 315 degrees.
        aligned: measure a pixel by what the references show at its place, for parts that always
            lie the same way.
        mutual: the pictures may be anomalous themselves, as those of an unlabelled folder.
    """

    rotations: bool = False
    aligned: bool = False
    mutual: bool = False


_DEFAULTS = ReferenceOptions()


@dataclass(frozen=True)
class FittedReferences:
    """References, and the scores of each by the words and the other references.

    Attributes:
        scale_sums: of the maps by words, and of the maps of distances.
        distances: of each reference's patches to those of the others, (n, N); with a single
            reference those of its changed copies, (2, N).
        inside: bool, the pixels that count of each row of ``distances``; None for all.
        by_highest: see :meth:`seen_in_tiles`.
    """

    references: References
    encoded: Encoded
    options: ReferenceOptions
    sigma: float
    distances: Tensor
    scale_sums: tuple[MapSums, MapSums]
    inside: Tensor | None = None
    by_highest: bool = False

    def seen_in_tiles(self) -> FittedReferences:
        """The same for pictures that are also seen in tiles: as a whole they are measured from the
        highest score of a reference, not from the mean.

        The whole is there for what no tile shows, such as a missing part, which lies far above any
        normal picture. Measured from the mean, normal pictures that merely look different as a
        whole hide the faults that the tiles see. References that may be anomalous stay as they are.
        """
        if self.options.mutual:
            return self
        everyone = range(len(self.encoded))
        words, memory, _ = _standards(self.encoded, self.distances, everyone, False, True)
        scale = replace(self.references.scale, words=words, memory=memory)
        references = replace(self.references, scale=scale)
        return replace(self, references=references, by_highest=True)

    def left_out(self, at: int) -> tuple[Deviations, np.ndarray]:
        """The deviations of a reference and its map, float32 (S, S) in [0, 1), by a scale that it
        had no part in; there must be two references at least."""
        found = self._left_out(at)
        return found.deviations, found.map[0].numpy()

    def memory_scores(self) -> list[float]:
        """The distance of each to the others."""
        return memory_score(self.distances).tolist()

    def near_copies(self) -> list[int]:
        """References that are copies of others, such as the same photograph saved again.

        Their patches lie nearer to those of one other reference than a fifth of what is usual; of
        each group the first one is not named.
        """
        mean = self._mean_distances()
        usual = float(mean.median())
        close = mean < COPY_SHARE * usual
        kept: list[int] = []
        copies: list[int] = []
        cells = self.distances.shape[1]
        for at in torch.nonzero(close).flatten().tolist() if len(self.encoded) > 2 else ():
            own = self.encoded.patches[at, :cells].float()
            others = [self.encoded.patches[other, :cells].float() for other in kept]
            far = [float((1 - (own @ other.T).amax(-1)).mean()) for other in others]
            if min(far, default=usual) < COPY_SHARE * usual:
                copies.append(at)
            else:
                kept.append(at)
        return copies

    def _mean_distances(self) -> Tensor:
        """Of the patches that count, (n,)."""
        if self.inside is None:
            return self.distances.mean(1)
        cells = cells_inside(self.inside, self.references.settings.grid)
        return self.distances.sum(1) / cells.sum(1)

    def _left_out(self, at: int) -> Combined:
        """A reference, scored by what the others say."""
        others = [other for other in range(len(self.encoded)) if other != at] or [at]
        words, far = self.encoded.maps[at : at + 1].float(), self._distance_map(at)
        words_sums, far_sums = self.scale_sums
        aligned, inside = self.options.aligned, self.encoded.pixels_inside(at)
        mask = None if inside is None else inside[0]
        scale = Scale(
            *_standards(self.encoded, self.distances, others, self.options.mutual, self.by_highest),
            words_sums.standard(aligned, log_odds(words[0]), mask),
            far_sums.standard(aligned, far[0], mask),
        )
        memory = memory_score(self.distances[at : at + 1])
        return combine_scores(scale, self.encoded.words[at], words, memory, far, inside)

    def _distance_map(self, at: int) -> Tensor:
        grid, side = self.references.settings.grid, self.encoded.maps.shape[-1]
        inside = None if self.inside is None else self.inside[at : at + 1]
        return distance_maps(self.distances[at : at + 1], grid, side, self.sigma, inside)


def fit_references(
    scorer: Scorer,
    pictures: Sequence[np.ndarray],
    class_name: str,
    options: ReferenceOptions = _DEFAULTS,
    names: Sequence[str] = (),
    on_done: Callable[[int], None] = lambda done: None,
    inside: Sequence[np.ndarray | None] | None = None,
) -> FittedReferences:
    """References from pictures as the model sees them, uint8 (S, S, 3), in any order.

    Args:
        scorer: without references.
        names: of the pictures, for messages.
        on_done: called with the number of pictures done since the last call.
        inside: bool (S, S) of each, the pixels that count; None for all.

    Raises:
        DataError: no pictures, or too few for mutual scoring.
        ConfigError: they would not fit into memory.
    """
    if not pictures:
        raise DataError("no reference pictures: give one at least")
    encoded = encode_references(
        scorer,
        pictures,
        class_name,
        patch_settings(scorer.model.backbone, scorer.model.config.references),
        rotations=options.rotations,
        names=names,
        inside=inside,
        on_done=on_done,
    )
    return references_of(scorer, encoded, options)


def references_of(
    scorer: Scorer, encoded: Encoded, options: ReferenceOptions = _DEFAULTS
) -> FittedReferences:
    """References from pictures that have been through the model, with the same options.

    Raises:
        DataError: too few for mutual scoring.
    """
    backbone = scorer.model.backbone
    settings = patch_settings(backbone, scorer.model.config.references)
    if options.mutual and len(encoded) < FEWEST_MUTUAL:
        raise DataError(
            f"{len(encoded)} different pictures are too few for mutual scoring, which compares "
            f"each with the others: {FEWEST_MUTUAL} at least; with sound ones, use bayes-pfl fit"
        )
    inside, grid, known = encoded.inside, settings.grid, None
    if inside is not None:
        known = views_inside(cells_inside(inside, grid), encoded.patches.shape[1], grid)
    memory = PatchMemory.of(encoded.patches, settings.most, mutual=options.mutual, inside=known)
    if len(encoded) > 1:
        distances = _distances(memory, encoded, grid[0] * grid[1])
    else:
        copies = _changed(encoded.pictures[0])
        far = memory.nearest(patches_of(scorer, copies, settings)).distance
        distances = STAND_IN * far.cpu()
        if inside is not None:
            inside = torch.from_numpy(np.stack(_changed(inside[0].numpy())))
    if inside is not None:
        distances = distances * cells_inside(inside, grid)
    if options.rotations:
        memory = replace(memory, cells=unturned_cells(memory.cells, grid))
    masked = inside is not None
    sums = MapSums(LEAST_ODDS, masked), MapSums(LEAST_DISTANCE, masked)
    for words, mask in zip(encoded.maps, _each(encoded.inside, len(encoded)), strict=True):
        sums[0].add(log_odds(words.float()), None if mask is None else mask[0])
    for distance, mask in zip(distances.split(1), _each(inside, len(distances)), strict=True):
        far = distance_maps(distance, grid, backbone.image_size, scorer.sigma, mask)
        sums[1].add(far[0], None if mask is None else mask[0])
    scale = _scale(encoded, distances, grid, scorer.sigma, options, sums)
    references = References(settings, memory, scale, encoded.digests)
    return FittedReferences(references, encoded, options, scorer.sigma, distances, sums, inside)


def _changed(picture: np.ndarray) -> list[np.ndarray]:
    """Two changed copies of a picture (S, S, 3), or of the pixels of one that count, (S, S)."""
    if picture.dtype == bool:
        return [one > 0 for one in _changed(picture.astype(np.uint8))]
    return [picture[:, ::-1], turned(picture, 8, zoom=1.1, shift=0.05)]


def _each(inside: Tensor | None, count: int) -> Sequence[Tensor | None]:
    """The pixels that count of each picture, bool (1, S, S); None for all."""
    return [None] * count if inside is None else inside.split(1)


def _distances(memory: PatchMemory, encoded: Encoded, cells: int) -> Tensor:
    """The distance of each reference's patches to those of the others, (n, N), on the CPU."""
    rows = []
    for at in range(len(encoded)):
        own = encoded.patches[at : at + 1, :cells]  # not those of its turned copies
        rows.append(memory.without(at).nearest(own).distance.cpu())
    return torch.cat(rows)


def _scale(
    encoded: Encoded,
    distances: Tensor,
    grid: tuple[int, int],
    sigma: float,
    options: ReferenceOptions,
    sums: tuple[MapSums, MapSums],
) -> Scale:
    words, memory, pairs = _standards(encoded, distances, range(len(encoded)), options.mutual)
    if not options.mutual:
        return Scale(words, memory, pairs, *(one.standard(options.aligned) for one in sums))
    count, side = len(encoded), encoded.maps.shape[-1]
    masks = _each(encoded.inside, count)
    words_maps = (
        _counted(log_odds(one.float()), mask) for one, mask in zip(encoded.maps, masks, strict=True)
    )
    far = (
        _counted(distance_maps(one, grid, side, sigma, mask)[0], mask)
        for one, mask in zip(distances.split(1), masks, strict=True)
    )
    return Scale(
        words,
        memory,
        pairs,
        median_standard(words_maps, count, LEAST_ODDS),
        median_standard(far, count, LEAST_DISTANCE),
    )


def _counted(one: Tensor, inside: Tensor | None) -> Tensor:
    """The pixels of a map (S, S) that count."""
    return one if inside is None else one[inside[0]]


def _standards(
    encoded: Encoded,
    distances: Tensor,
    chosen: Sequence[int],
    mutual: bool,
    by_highest: bool = False,
) -> tuple[Standard, Standard, Tensor]:
    """From chosen references: the standards of the scores by words and of the memory scores, and
    the mean log-odds of each prompt pair, (K,).

    Args:
        by_highest: measure from the highest score, not from the mean.
    """
    odds = [float(log_odds(deploy_scores(encoded.words[at]).score.float())) for at in chosen]
    far = memory_score(distances)  # (n,)
    if len(encoded) == 1:
        far = far.mean(0, keepdim=True)
    values = [float(far[at]) for at in chosen]
    by_pair = torch.cat([log_odds(encoded.words[at].pair_scores.float()) for at in chosen])
    pairs = by_pair.median(0).values if mutual else by_pair.mean(0)
    if mutual:
        return (
            Standard.robust(odds, WORDS_SPREAD / 4),
            Standard.robust(values, MEMORY_SPREAD / 4 * float(np.median(values))),
            pairs,
        )
    words = Standard.of(odds, WORDS_SPREAD)
    memory = Standard.of(values, MEMORY_SPREAD * float(np.mean(values)))
    if by_highest:
        words, memory = words._replace(centre=max(odds)), memory._replace(centre=max(values))
    return words, memory, pairs
