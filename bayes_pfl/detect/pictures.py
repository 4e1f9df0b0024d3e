"""Pictures of any size through the model: seen whole and, where they are large, in tiles.

The score of a large picture is that of its most anomalous view, by each source of evidence: its
words' deviation is the highest of any view, its memory's likewise. Its map blends the tiles' maps
and is raised where the view of the whole sees what they do not.

Symbols: W×H pixels of a picture, S model's image side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

import torch

from bayes_pfl.data.decoding import Decoded
from bayes_pfl.data.tiles import BlendedMap, Tile, Tiling, add_whole
from bayes_pfl.detect.full_maps import new_map
from bayes_pfl.detect.inputs import Loaded, batched
from bayes_pfl.detect.references import most_deviating
from bayes_pfl.detect.scorer import ScoredImage, Scorer, View


def score_pictures(
    scorer: Scorer, items: Sequence[Decoded | Loaded], class_names: Sequence[str]
) -> list[ScoredImage | None]:
    """Score the pictures that could be read; None for each of the others.

    Views of several pictures go through the model together, ``scorer.settings.batch_size`` at once.
    """
    pairs = zip(items, class_names, strict=True)
    jobs = [None if item.pixels is None else _Picture(scorer, item, name) for item, name in pairs]
    steps = chain.from_iterable(job.steps() for job in jobs if job)
    for batch in batched(steps, scorer.settings.batch_size):
        for step, scored in zip(batch, scorer.views([step.view for step in batch]), strict=True):
            step.job.add(step.view.tile, scored)
    return [job.result() if job else None for job in jobs]


class _Step(NamedTuple):
    job: _Picture
    view: View


class _Picture:
    """One picture, while its views are scored."""

    def __init__(self, scorer: Scorer, item: Decoded | Loaded, class_name: str) -> None:
        self.scorer, self.item, self.class_name = scorer, item, class_name
        tiling, size = item.tiling, _size(item)
        self.whole: ScoredImage | None = None
        self.merged = _Merged(scorer, tiling, size) if tiling and size else None

    def steps(self) -> Iterator[_Step]:
        """The views, the whole picture first."""
        pixels, tiling, roi = self.item.pixels, self.item.tiling, self.item.roi
        size = _size(self.item)
        assert pixels is not None
        side = pixels.shape[0]
        if tiling is None or size is None or tiling.sees_whole(size):
            inside = roi.inside((side, side)) if roi else None
            yield _Step(self, View(pixels, self.class_name, inside=inside))
        references = self.scorer.references_of(self.class_name, None)
        twin = references.twin(pixels) if references and tiling else None
        for tile, part in self.item.tiles:
            inside = roi.of_tile(tile, side) if roi else None
            yield _Step(self, View(part, self.class_name, tile, twin, inside))

    def add(self, tile: Tile | None, scored: ScoredImage) -> None:
        """Take the scores of a view."""
        if tile is None or self.merged is None:
            self.whole = scored
        else:
            self.merged.add(tile, scored)

    def result(self) -> ScoredImage:
        """The scores of the picture, when those of all views are there."""
        if self.merged is None:
            assert self.whole is not None
            return self.whole
        return self.merged.result(self.whole)


def _size(item: Decoded | Loaded) -> tuple[int, int] | None:
    """(W, H) of what is looked at: the picture, or the rectangle of its region of interest."""
    return item.roi.crop_size if item.roi else item.size


class _Merged:
    """The tiles of a picture, merged as they come: only their blended maps are kept."""

    def __init__(self, scorer: Scorer, tiling: Tiling, size: tuple[int, int]) -> None:
        self.map = BlendedMap(tiling, size, new_map(size)) if scorer.maps else None
        self.spread = BlendedMap(tiling, size, new_map(size)) if scorer.spread else None
        self.sigma = scorer.sigma
        self.best: ScoredImage | None = None

    def add(self, tile: Tile, scored: ScoredImage) -> None:
        """Take the scores of a tile."""
        if self.map is not None and scored.map is not None:
            self.map.add(tile, scored.map.numpy())
        if self.spread is not None and scored.spread is not None:
            self.spread.add(tile, scored.spread.numpy())
        if scored.place is not None:
            scored = replace(scored, place=scored.place._replace(tile=tile))
        small = replace(scored, map=None, spread=None)
        self.best = strongest(self.best, small) if self.best else small

    def result(self, whole: ScoredImage | None) -> ScoredImage:
        """The scores of the picture, that of the whole view among them."""
        assert self.best is not None
        if whole and whole.map is not None and self.map is not None:
            add_whole(self.map.values, whole.map.numpy(), self.sigma)
        best = strongest(self.best, whole) if whole else self.best
        return replace(
            best,
            memory_score=self.best.memory_score,  # a whole's has another unit
            map=None if self.map is None else torch.from_numpy(self.map.values),
            spread=None if self.spread is None else torch.from_numpy(self.spread.values),
        )


def strongest(first: ScoredImage, second: ScoredImage) -> ScoredImage:
    """The scores of two views of a picture together.

    By words alone they are those of the view with the higher score. With references the words count
    by the view whose words deviate more, the memory by the view whose memory does.
    """
    if not first.finite or not second.finite:
        return second if first.finite else first
    high, low = (second, first) if second.score > first.score else (first, second)
    a, b = high.deviations, low.deviations
    if a is None or b is None:
        return high
    words, memory = (high if a.words >= b.words else low), (high if a.memory >= b.memory else low)
    both = most_deviating([a, b])
    score, uncertainty, lowest, highest = (float(column) for column in both.scores())
    return replace(
        words,
        score=score,
        uncertainty=uncertainty,
        low=lowest,
        high=highest,
        memory_score=memory.memory_score,
        place=high.place,
        deviations=both,
    )
