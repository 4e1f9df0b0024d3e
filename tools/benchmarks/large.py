"""Small faults on large pictures: found by looking at the whole, and in tiles?

Symbols: W×H pixels of a picture, S model's image side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from PIL import Image
from torch.nn.functional import softplus

from bayes_pfl.checkpoints.load import load_checkpoint
from bayes_pfl.data.tiles import BlendedMap, Tile, TileSettings, Tiling, add_whole, cut
from bayes_pfl.data.transforms import resize_image
from bayes_pfl.detect.inputs import batched
from bayes_pfl.detect.references import Deviations, Scale, most_deviating
from bayes_pfl.detect.scorer import Scorer, View
from bayes_pfl.detect.standards import ODDS_OF_HALF, log_odds
from bayes_pfl.errors import ConfigError
from bayes_pfl.fit.fit import FitOptions, fit_profile
from bayes_pfl.metrics import image_metrics
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.model.scoring import deploy_scores, gaussian_smooth
from bayes_pfl.rendering import CATEGORIES
from bayes_pfl.support.environment import environment
from benchmarks.large_pictures import RealSurface, RenderedSurface, Spoiled, Surface, spoil

SOURCES = ("words", "memory", "profile")
"""What scores are made of; the profile is words and memory together."""

WAYS = tuple(f"{source}{tiles}" for source in SOURCES for tiles in ("", ", tiles"))
_WHOLE = 0  # place of the view of the whole among those of a picture


@dataclass(frozen=True)
class LargeSettings:
    """What is measured.

    Attributes:
        categories: of the renderer, textures.
        folders: of real photographs, see :class:`benchmarks.large_pictures.RealSurface`.
        size: (W, H).
        lengths: of faults, in pixels.
        references, sound: pictures for the profile, and those that are judged with faulty ones.
        faults: of each length, on each of the sound pictures.
        tile: as of ``predict``.

    Raises:
        ConfigError: a category that is no texture of the renderer, or a picture so narrow that it
            is not looked at as a whole.
    """

    checkpoint: str
    categories: tuple[str, ...]
    folders: tuple[Path, ...] = ()
    size: tuple[int, int] = (4000, 3000)
    lengths: tuple[int, ...] = (12, 24, 48, 96)
    references: int = 8
    sound: int = 8
    faults: int = 2
    tile: int | str = "auto"
    samples: int | None = 0
    batch_size: int = 8
    seed: int = 0
    device: str | None = None

    def __post_init__(self) -> None:
        known = sorted(name for name, one in CATEGORIES.items() if one.kind == "texture")
        if unknown := [name for name in self.categories if name not in known]:
            raise ConfigError(
                f"category {unknown[0]!r} is no surface: choose of {', '.join(known)}"
            )
        if max(self.size) > 4 * min(self.size):
            raise ConfigError(f"size = {self.size}: one side must be at most 4 times the other")

    @property
    def surfaces(self) -> list[Surface]:
        """All of them."""
        rendered = [RenderedSurface(name, self.size, self.seed) for name in self.categories]
        return [*rendered, *(RealSurface(one, self.size, self.seed) for one in self.folders)]


def benchmark_large(
    settings: LargeSettings, tell: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """How well faults of each length are found on each surface, in each of :data:`WAYS`.

    A profile is fitted to sound pictures. Others are scored as they are, and with one fault at a
    random place. Of a picture with a fault only the views that show the fault are scored again: the
    others are those of the sound picture. So every view is one that ``predict`` has, and the scores
    are put together as it does.

    A fault counts as found where the map is higher on its mask than anywhere on any of the sound
    pictures, so that a threshold exists that outlines it and nothing on those.

    Args:
        tell: called with each row when it is known.

    Returns:
        {"rows": [{"surface", "length", "faults", way: {"auroc", "found"}}], "means" likewise, over
        the rendered surfaces, "settings", "environment"}
    """
    model = load_checkpoint(settings.checkpoint, device=settings.device)
    rows = []
    for surface in settings.surfaces:
        for row in _of_surface(model, surface, settings):
            rows.append(row)
            tell(row)
    return {
        "rows": rows,
        "means": _means(rows, settings),
        "settings": {**asdict(settings), "folders": [str(one) for one in settings.folders]},
        "environment": environment(model.device.type),
    }


def _means(rows: Sequence[dict[str, Any]], settings: LargeSettings) -> list[dict[str, Any]]:
    """Of the rendered surfaces, by length."""
    found = []
    for length in settings.lengths:
        of_length = [
            row for row in rows if row["length"] == length and row["surface"] in settings.categories
        ]
        if of_length:
            ways = {
                way: {key: fmean(row[way][key] for row in of_length) for key in ("auroc", "found")}
                for way in WAYS
            }
            faults = sum(row["faults"] for row in of_length)
            found.append({"surface": "mean", "length": length, "faults": faults, **ways})
    return found


def _of_surface(
    model: BayesPFLNetwork, surface: Surface, settings: LargeSettings
) -> Iterator[dict[str, Any]]:
    judge = Judge(model, surface, settings)
    sound: list[dict[str, Found]] = []
    faulty: dict[int, list[dict[str, Found]]] = {length: [] for length in settings.lengths}
    for index in range(settings.references, settings.references + settings.sound):
        picture = surface.sound(index)
        known = judge.views(picture)
        sound.append(judge.found(known))
        for length in settings.lengths:
            faults = surface.faults(index, length)
            rng = np.random.default_rng([settings.seed, index, length])
            for _ in range(settings.faults):
                faulty[length].append(judge.found_fault(known, spoil(picture, faults, rng)))
        del known
    for length, found in faulty.items():
        ways = {
            way: _told_apart([one[way] for one in sound], [one[way] for one in found])
            for way in WAYS
        }
        yield {"surface": surface.name, "length": length, "faults": len(found), **ways}


def _told_apart(sound: Sequence[Found], faulty: Sequence[Found]) -> dict[str, float | None]:
    scores = [one.score for one in (*sound, *faulty)]
    labels = [0] * len(sound) + [1] * len(faulty)
    highest = max(one.peak for one in sound)
    return {
        "auroc": image_metrics(scores, labels)["auroc"],
        "found": sum(one.peak > highest for one in faulty) / len(faulty),
    }


class Found(NamedTuple):
    """What one way says of a picture.

    Attributes:
        peak: the highest value of the map; of a picture with a fault, on its mask.
    """

    score: float
    peak: float


class _View(NamedTuple):
    """A view of a picture, scored.

    Attributes:
        words: score by words.
        both: deviations by words and profile.
        maps: of each of :data:`SOURCES`, float32 (S, S).
    """

    words: float
    both: Deviations
    maps: tuple[np.ndarray, ...]


class Judge:
    """A model with a profile of a surface."""

    def __init__(self, model: BayesPFLNetwork, surface: Surface, settings: LargeSettings) -> None:
        side = model.backbone.image_size
        cutting = TileSettings(settings.tile, FitOptions().overlap, side)
        self.tiling: Tiling = cutting.tiling(settings.size)
        self.tiles = self.tiling.tiles(settings.size)
        self.size, self.side, self.name = settings.size, side, surface.class_name
        self._settings = settings
        options = self.options(self.tiling.side)
        pictures = (surface.sound(index) for index in range(settings.references))
        self.profile = fit_profile(model, pictures, self.name, options)
        known = self.profile.references
        assert known is not None and known.tiles is not None
        self._scale_of_whole, self._scale_of_tiles = known.scale, known.tiles.scale
        self.scorer = Scorer(model, options, references={self.name: known})

    def options(self, tile: int | str | None) -> FitOptions:
        """How pictures are scored."""
        chosen = self._settings
        return FitOptions(
            tile=tile, samples=chosen.samples, batch_size=chosen.batch_size, keep_outliers=True
        )

    def views(self, picture: np.ndarray, tiles: Sequence[Tile] | None = None) -> list[_View]:
        """The whole and the tiles of a picture, uint8 (H, W, 3); None for all of them."""
        whole = View(resize_image(Image.fromarray(picture), self.side), self.name)
        parts = (
            View(cut(picture, tile, self.side), self.name, tile)
            for tile in (self.tiles if tiles is None else tiles)
        )
        batches = chain([[whole]], batched(parts, self.scorer.settings.batch_size))
        return list(chain.from_iterable(self._scored(batch) for batch in batches))

    def found(self, views: Sequence[_View]) -> dict[str, Found]:
        """What each way says of a picture."""
        everywhere = np.ones(self.size[::-1], bool)
        return self._found(views, (0, 0), everywhere)

    def found_fault(self, known: Sequence[_View], spoiled: Spoiled) -> dict[str, Found]:
        """What each way says of a picture with a fault.

        Args:
            known: the views of the picture without it.
        """
        corner = (spoiled.left, spoiled.top)
        places = self._places(corner, spoiled.mask, 0)
        changed = self.views(spoiled.picture, [self.tiles[place] for place in places])
        views = list(known)
        for place, view in zip((_WHOLE, *(place + 1 for place in places)), changed, strict=True):
            views[place] = view
        return self._found(views, corner, spoiled.mask)

    @torch.no_grad()
    def _scored(self, views: Sequence[View]) -> Iterator[_View]:
        scored = self.scorer.view_batch(views)
        assert scored.combined is not None
        words = deploy_scores(scored.words).score.tolist()
        parts = zip(*(part.cpu().split(1) for part in scored.combined.deviations), strict=True)
        scale = self._scale_of_whole if views[0].tile is None else self._scale_of_tiles
        by_words = gaussian_smooth(scored.words.map, self.scorer.sigma)
        kinds = (by_words, memory_maps(scale, by_words, scored.maps), scored.maps)
        maps = zip(*(kind.cpu().numpy() for kind in kinds), strict=True)
        for score, part, of_view in zip(words, parts, maps, strict=True):
            yield _View(score, Deviations(*part), of_view)

    def _found(
        self, views: Sequence[_View], corner: tuple[int, int], mask: np.ndarray
    ) -> dict[str, Found]:
        """What each way says of all views of a picture, and of a part of its map."""
        first, highest = views[_WHOLE], most_deviating([view.both for view in views])
        scores = {
            "words": first.words,
            "words, tiles": max(view.words for view in views),
            "memory": float(first.both.memory),
            "memory, tiles": float(highest.memory),
            "profile": float(first.both.scores().score),
            "profile, tiles": float(highest.scores().score),
        }
        peaks = self._peaks(views, corner, mask)
        return {way: Found(scores[way], peaks[way]) for way in WAYS}

    def _peaks(
        self, views: Sequence[_View], corner: tuple[int, int], mask: np.ndarray
    ) -> dict[str, float]:
        """The highest value of each way's map on a mask, bool (h, w), with its upper left corner at
        ``corner`` (left, top).

        Tiles too far away to have the fault in their blur are left out.
        """
        left, top = corner
        part = np.s_[top : top + mask.shape[0], left : left + mask.shape[1]]
        sigma = self.scorer.sigma
        far = math.ceil((4 * sigma + 3) * max(self.size) / self.side)  # see tiles.add_whole
        places = self._places(corner, mask, far)
        peaks = {}
        for at, way in enumerate(SOURCES):
            whole = views[_WHOLE].maps[at]
            blended = BlendedMap(self.tiling, self.size)
            for place in places:
                blended.add(self.tiles[place], views[place + 1].maps[at])
            add_whole(blended.values, whole, sigma)
            alone = cv2.resize(whole, self.size, interpolation=cv2.INTER_LINEAR)
            peaks[way] = float(alone[part][mask].max())
            peaks[f"{way}, tiles"] = float(blended.values[part][mask].max())
        return peaks

    def _places(self, corner: tuple[int, int], mask: np.ndarray, far: int) -> list[int]:
        """The tiles that reach to within ``far`` pixels of a mask."""
        left, top = corner
        high, wide = mask.shape
        return [
            place
            for place, tile in enumerate(self.tiles)
            if tile.left - far < left + wide and left - far < tile.left + tile.side
            if tile.top - far < top + high and top - far < tile.top + tile.side
        ]


def memory_maps(scale: Scale, words: torch.Tensor, both: torch.Tensor) -> torch.Tensor:
    """What the memory adds to maps by words and memory, (B, S, S): 0 or more.

    Args:
        words, both: smoothed maps of the same images, (B, S, S) each.
    """
    of_words = softplus(scale.words_map.deviations(log_odds(words)))
    odds = ODDS_OF_HALF * both / (1 - both)  # (1 + words) (1 + memory) - 1, see `combined`
    return (1 + odds) / (1 + of_words) - 1
