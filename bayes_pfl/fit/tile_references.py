"""The tiles of large reference pictures: patches kept, and the scale of the most anomalous tile.

A large picture is judged by its most anomalous tile, so that the scale is that of the highest tile
of each reference, every tile compared with those of the other references. Where these may be
anomalous themselves (mutual scoring) the scale is by their medians.

Symbols: n references, v tiles of one, N = h*w cells, C channels, K prompt pairs, S image side.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bayes_pfl.data.roi import PictureRoi
from bayes_pfl.data.tiles import BlendedMap, Cutting, Tile, TileSettings, Tiling
from bayes_pfl.detect.full_maps import new_map
from bayes_pfl.detect.inputs import batched
from bayes_pfl.detect.memory import PatchMemory, memory_score, spread_cells
from bayes_pfl.detect.patches import PatchSettings, patch_directions, tile_settings
from bayes_pfl.detect.references import (
    Deviations,
    References,
    Scale,
    cells_inside,
    combined_maps,
    deviations,
    distance_maps,
    most_deviating,
)
from bayes_pfl.detect.scorer import Scorer, inside_of
from bayes_pfl.detect.standards import MEMORY_SPREAD, WORDS_SPREAD, Standard, log_odds
from bayes_pfl.detect.whitening import PatchSums, Whitening
from bayes_pfl.fit.encoded import ANGLES, patches_of, turned, unturned_cells, views_inside
from bayes_pfl.fit.map_sums import MapSums, median_standard
from bayes_pfl.fit.normal_pictures import NormalPicture, in_order
from bayes_pfl.fit.references import (
    LEAST_DISTANCE,
    LEAST_ODDS,
    STAND_IN,
    FittedReferences,
    ReferenceOptions,
)
from bayes_pfl.model.scoring import deploy_scores, smoothed
from bayes_pfl.support.progress import Progress


@dataclass
class _Picture:
    """What is known of a reference of v tiles; maps and patches lie in files.

    Attributes:
        words: scores by words, (v,).
        pairs: by each prompt pair, (v, K).
        farthest: patches of a tile whose mean distance is its memory score; None for 1%.
        distances: of its patches to those of the other references, float16 (v, N).
        roi: its region of interest; None where all of it counts.
    """

    number: int
    tiling: Tiling
    size: tuple[int, int]
    folder: Path
    side: int
    farthest: int | None
    roi: PictureRoi | None
    tiles: list[Tile] = field(default_factory=list)
    words: Tensor = field(default_factory=lambda: torch.zeros(0))
    pairs: Tensor = field(default_factory=lambda: torch.zeros(0))
    distances: Tensor = field(default_factory=lambda: torch.zeros(0))

    def keep(self, what: str, values: Tensor) -> None:
        """Write a part to its file."""
        np.save(self.folder / f"{self.number}.{what}.npy", values.half().cpu().numpy())

    def kept(self, what: str) -> np.ndarray:
        """A part, read as it is needed."""
        path = self.folder / f"{self.number}.{what}.npy"
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        return array

    def inside(self, tile: Tile) -> Tensor | None:
        """The pixels of a tile that count, bool (1, S, S); None for all."""
        if self.roi is None:
            return None
        return torch.from_numpy(self.roi.of_tile(tile, self.side))[None]

    def cells_inside(self, grid: tuple[int, int]) -> Tensor | None:
        """Which cells of its tiles count, bool (v, N); None for all."""
        masks = [self.inside(tile) for tile in self.tiles]
        known = [cells_inside(mask, grid) for mask in masks if mask is not None]
        return torch.cat(known) if known else None

    @property
    def numbers(self) -> Tensor:
        """The place of each of its tiles among all of the picture, (v,): tiles that the region of
        interest does not touch are left out."""
        places = {tile: at for at, tile in enumerate(self.tiling.tiles(self.size))}
        return torch.tensor([places[tile] for tile in self.tiles])

    def maps(
        self, grid: tuple[int, int], sigma: float
    ) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """Of each tile the log-odds of its map by words and its map of distances, (S, S), and the
        pixels that count, bool (S, S), or None for all."""
        for tile, values, distance in zip(
            self.tiles, self.kept("maps"), self.distances, strict=True
        ):
            inside = self.inside(tile)
            odds = log_odds(torch.from_numpy(values.astype(np.float32)))
            far = distance_maps(distance[None].float(), grid, self.side, sigma, inside)[0]
            yield odds, far, None if inside is None else inside[0]

    @property
    def memory_scores(self) -> Tensor:
        """Of each tile, (v,)."""
        return memory_score(self.distances.float(), self.farthest)


class LeftOut(NamedTuple):
    """What the other references say of one.

    Attributes:
        deviations: the highest of its tiles.
        map: float32 (H, W), at its own size.
        sees_whole: whether such a picture is also looked at as a whole.
    """

    deviations: Deviations
    map: np.ndarray
    sees_whole: bool


@dataclass(frozen=True)
class FittedTiles:
    """The tiles of the references that have any.

    Attributes:
        references: what the tiles of new pictures are compared with.
    """

    references: References
    _pictures: dict[int, _Picture]
    _sums: dict[int, tuple[MapSums, MapSums]]
    _sigma: float

    def left_out(self, number: int) -> LeftOut | None:
        """A reference by its tiles and a scale that it had no part in; None if it has no tiles."""
        one = self._pictures.get(number)
        if one is None:
            return None
        scale = _scale(self._pictures, self._sums, without=number)
        blended = BlendedMap(one.tiling, one.size, new_map(one.size))
        grid = self.references.settings.grid
        for tile, words, distance in zip(one.tiles, one.kept("maps"), one.distances, strict=True):
            inside = one.inside(tile)
            far = distance_maps(distance[None].float(), grid, one.side, self._sigma, inside)
            known = torch.from_numpy(words[None].astype(np.float32))
            both = combined_maps(scale, known, far)
            blended.add(tile, (both if inside is None else both * inside)[0].numpy())
        found = deviations(scale, one.words, one.pairs, one.memory_scores)
        return LeftOut(most_deviating([found]), blended.values, one.tiling.sees_whole(one.size))


def fit_tiles(
    scorer: Scorer,
    own: Sequence[NormalPicture],
    cut: TileSettings,
    class_name: str,
    references: References,
    options: ReferenceOptions,
    folder: Path,
    progress: Progress,
) -> FittedTiles | None:
    """Send the tiles of references through the model; None where no reference has any.

    Args:
        scorer: without references.
        own: the picture of each reference.
        references: the whole pictures, in that order.
        folder: for maps and patches, 0.25 MB a tile, while this and :meth:`FittedTiles.left_out`
            run.
    """
    settings = tile_settings(scorer.model.backbone, references.settings)
    pictures = {}
    progress.start("tiles", len(own))
    for number, picture in enumerate(own):
        tiling, cuttings = picture.cut(cut)
        if tiling is not None:
            side = scorer.model.backbone.image_size
            one = _Picture(
                number, tiling, picture.size, folder, side, settings.farthest, picture.roi
            )
            pictures[number] = one
            _encode(scorer, one, cuttings, class_name, settings, options.rotations)
        progress.advance(1, {})
    if not pictures:
        return None
    memory = _memory(pictures, settings, len(own), options)
    sums: dict[int, tuple[MapSums, MapSums]] = {}
    progress.start("tiles compared", len(pictures))
    for number, one in pictures.items():
        if len(pictures) > 1:
            one.distances = _distances(memory.without(number), one.kept("patches"), settings)
        else:
            one.distances = _of_copies(scorer, memory, own[number].cut(cut)[1], settings)
        if (known := one.cells_inside(settings.grid)) is not None:
            one.distances = one.distances * known
        if not options.mutual:
            sums[number] = _sums_of(one, settings.grid, scorer.sigma)
        progress.advance(1, {})
    grid, sigma = settings.grid, scorer.sigma
    scale = _median_scale(pictures, grid, sigma) if options.mutual else _scale(pictures, sums)
    found = References(settings, memory, scale, references.digests)
    return FittedTiles(found, pictures, sums, scorer.sigma)


def _encode(
    scorer: Scorer,
    one: _Picture,
    cuttings: Iterable[Cutting],
    class_name: str,
    settings: PatchSettings,
    rotations: bool,
) -> None:
    words, pairs, maps, patches = [], [], [], []
    layers = scorer.model.backbone.layers
    for batch in batched(cuttings, scorer.settings.batch_size):
        pixels = [part for _, part in batch]
        tiles = [tile for tile, _ in batch]
        one.tiles += tiles
        masks = [one.roi.of_tile(tile, one.side) if one.roi else None for tile in tiles]
        inside = inside_of(masks, scorer.model)
        features, scores = scorer.encoded(pixels, [class_name] * len(batch), inside)
        words.append(deploy_scores(scores).score.float().cpu())
        pairs.append(scores.pair_scores.float().cpu())
        maps.append(smoothed(scores.map, scorer.sigma, inside).half().cpu())
        views = [patch_directions(features.stages, layers, settings)]
        for angle in ANGLES[1:] if rotations else ():
            views.append(patches_of(scorer, [turned(part, angle) for part in pixels], settings))
        patches.append(torch.cat(views, 1).half().cpu())
    one.words, one.pairs = torch.cat(words), torch.cat(pairs)
    one.keep("maps", torch.cat(maps))
    one.keep("patches", torch.cat(patches))


def _memory(
    pictures: dict[int, _Picture], settings: PatchSettings, count: int, options: ReferenceOptions
) -> PatchMemory:
    """The same number of patches of each picture, drawn over all its tiles."""
    each = max(1, settings.most // len(pictures))
    whitening = _whitening(pictures, settings)
    vectors, owners, cells = [], [], []
    size = settings.grid[0] * settings.grid[1]
    for number, one in pictures.items():
        patches = one.kept("patches")
        tiles, views = patches.shape[:2]
        inside = one.cells_inside(settings.grid)
        if inside is not None:
            inside = views_inside(inside, views, settings.grid).flatten()  # (tiles * views,)
        chosen = spread_cells(tiles * views, min(each, tiles * views), number, inside)
        tile, cell = chosen // views, chosen % views
        kept = torch.from_numpy(patches[tile.numpy(), cell.numpy()])
        vectors.append(whitening(kept).half())
        place = unturned_cells(cell, settings.grid) if options.rotations else cell
        owners.append(torch.full((len(chosen),), number, dtype=torch.int32))
        cells.append((one.numbers[tile] * size + place).int())
    columns = torch.cat(vectors), torch.cat(owners), torch.cat(cells)
    return PatchMemory(*columns, count, options.mutual, whitening)


def _whitening(pictures: dict[int, _Picture], settings: PatchSettings) -> Whitening:
    """By all patches that count of all tiles."""
    sums = None
    for one in pictures.values():
        patches, inside = one.kept("patches"), one.cells_inside(settings.grid)
        for at, tile in enumerate(patches):
            values = torch.from_numpy(np.array(tile))  # (N or 8 N, C)
            if inside is not None:
                values = values[views_inside(inside[at], len(values), settings.grid)]
            sums = sums or PatchSums(values.shape[1])
            sums.add(values)
    assert sums is not None
    return sums.whitening()


def _distances(memory: PatchMemory, patches: np.ndarray, settings: PatchSettings) -> Tensor:
    """Of a reference's tiles, patches (v, N or 8 N, C), to the others: float16 (v, N)."""
    cells = settings.grid[0] * settings.grid[1]  # not those of turned copies
    parts = (torch.from_numpy(np.array(part[None, :cells], np.float32)) for part in patches)
    rows = [memory.nearest(part.to(memory.vectors.device)).distance.cpu() for part in parts]
    return torch.cat(rows).half()


def _of_copies(
    scorer: Scorer, memory: PatchMemory, cuttings: Iterable[Cutting], settings: PatchSettings
) -> Tensor:
    """In place of distances between references where there is one alone, float16 (v, N): those of
    changed copies of its tiles, times :data:`STAND_IN`."""
    rows = []
    for batch in batched(cuttings, scorer.settings.batch_size):
        changed = [turned(part, 8, zoom=1.1, shift=0.05) for _, part in batch]
        rows.append(memory.nearest(patches_of(scorer, changed, settings)).distance.cpu())
    return (STAND_IN * torch.cat(rows)).half()


def _sums_of(one: _Picture, grid: tuple[int, int], sigma: float) -> tuple[MapSums, MapSums]:
    """Of its maps by words, and of its maps of distances."""
    masked = one.roi is not None
    words, far = MapSums(LEAST_ODDS, masked), MapSums(LEAST_DISTANCE, masked)
    for odds, distance, mask in one.maps(grid, sigma):
        words.add(odds, mask)
        far.add(distance, mask)
    return MapSums.together([words]), MapSums.together([far])


def _scale(
    pictures: dict[int, _Picture],
    sums: dict[int, tuple[MapSums, MapSums]],
    without: int | None = None,
) -> Scale:
    chosen = [number for number in pictures if number != without] or list(pictures)
    odds, far, pairs = [], [], []
    for number in chosen:
        one = pictures[number]
        strongest = int(one.words.argmax())
        odds.append(float(log_odds(one.words[strongest])))
        pairs.append(log_odds(one.pairs[strongest]))
        far.append(float(one.memory_scores.max()))
    return Scale(
        Standard.of(odds, WORDS_SPREAD),
        Standard.of(far, MEMORY_SPREAD * float(np.mean(far))),
        torch.stack(pairs).mean(0),
        *(
            MapSums.together([sums[number][at] for number in chosen]).standard(False)
            for at in (0, 1)
        ),
    )


def _median_scale(pictures: dict[int, _Picture], grid: tuple[int, int], sigma: float) -> Scale:
    """As :func:`_scale` for pictures that may be anomalous: medians, and deviations from them."""
    strongest = [int(one.words.argmax()) for one in pictures.values()]
    columns = list(zip(pictures.values(), strongest, strict=True))
    odds = [float(log_odds(one.words[at])) for one, at in columns]
    far = [float(one.memory_scores.max()) for one in pictures.values()]
    tiles = sum(len(one.tiles) for one in pictures.values())

    def pixels(which: int) -> Iterator[Tensor]:
        for one in pictures.values():
            for words, distance, mask in one.maps(grid, sigma):
                values = (words, distance)[which]
                yield values if mask is None else values[mask]

    return Scale(
        Standard.robust(odds, WORDS_SPREAD / 4),
        Standard.robust(far, MEMORY_SPREAD / 4 * float(np.median(far))),
        torch.stack([log_odds(one.pairs[at]) for one, at in columns]).median(0).values,
        median_standard(pixels(0), tiles, LEAST_ODDS),
        median_standard(pixels(1), tiles, LEAST_DISTANCE),
    )


def with_tiles(
    scorer: Scorer,
    found: FittedReferences,
    pictures: Sequence[NormalPicture],
    cut: TileSettings,
    class_name: str,
    progress: Progress,
) -> tuple[References, list[NormalPicture]]:
    """References with the tiles of their pictures, where any is larger than a tile.

    Args:
        scorer: without references.
        pictures: those that the references were made of, in any order.

    Returns:
        The references, and the picture of each.
    """
    own = in_order(pictures, found.references.digests)
    with temporary_folder() as folder:
        tiles = fit_tiles(
            *(scorer, own, cut, class_name, found.references, found.options, Path(folder)),
            progress,
        )
    if tiles is None:
        return found.references, own
    return replace(found.seen_in_tiles().references, tiles=tiles.references), own


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """For :func:`fit_tiles`."""
    return tempfile.TemporaryDirectory(prefix="bayes-pfl-")
