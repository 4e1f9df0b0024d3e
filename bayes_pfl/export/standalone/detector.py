"""An exported detector: its model, and how pictures are cut into views and scored by it.

Symbols: W×H pixels of a picture, S the model's image side, B views, T side of a tile.
"""

# This file is copied into the folders of `bayes-pfl export`, so that it imports nothing of
# bayes_pfl; the tests compare both, row by row.

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

try:
    from interest import Interest, Spot
except ImportError:  # within the package
    from .interest import Interest, Spot

_NARROW = 4  # a picture that is longer is not looked at as a whole


class Refused(Exception):
    """What a user can correct, in one line."""


class Detector:
    """The folder of an export.

    Raises:
        Refused: it is none, or was changed.
    """

    def __init__(self, folder: Path, threads: int = 0) -> None:
        try:
            self.manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
            files = {Path(name).name: digest for name, digest in self.manifest["sha256"].items()}
            found = {name: _sha256(folder / name) for name in files}
            version = (self.manifest["format"], self.manifest["version"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Refused(f"{folder}: not the folder of an export ({error})") from error
        if version != ("bayes-pfl export", 1) or self.manifest["model"] not in files:
            raise Refused(f"{folder}: an export of another version; export again")
        if changed := [name for name in files if files[name] != found[name]]:
            raise Refused(f"{folder / changed[0]}: has changed since the export; export again")
        self.side = int(self.manifest["settings"]["image_size"])
        name = self.manifest.get("roi")
        self.roi = Interest.read(folder / name) if name else None
        self._run = _opened(folder, self.manifest, threads)

    def run(
        self,
        pixels: Sequence[np.ndarray],
        twins: Sequence[int] = (),
        tile: bool = False,
        inside: Sequence[np.ndarray] = (),
    ) -> dict[str, np.ndarray]:
        """The outputs of the model for B views, uint8 (S, S, 3) each.

        Args:
            twins: number of the reference that each view is of, -1 for none.
            inside: of each view the pixels that count, bool (S, S); none where all do.
        """
        given = {
            "pixels": np.stack(pixels),
            "twin": np.array(twins or [-1] * len(pixels), np.int64),
            "tile": np.array(int(tile), np.int64),
            "inside": np.stack(inside or [np.ones((self.side, self.side), bool)] * len(pixels)),
        }
        return self._run({name: given[name] for name in self.manifest["inputs"]})

    def twin(self, pixels: np.ndarray) -> int:
        """Number of the reference picture that these pixels are, (S, S, 3); -1 for none."""
        known = self.manifest["reference_digests"]
        digest = hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()[:32]
        return known.index(digest) if len(known) > 1 and digest in known else -1

    def score(
        self, pictures: Sequence[Image.Image], batch_size: int = 8
    ) -> list[tuple[dict[str, Any], np.ndarray]]:
        """The numbers of each picture, mode RGB, and its map, float32 (H, W)."""
        tile = self.manifest["settings"]["tile"]
        spots = [Spot(self.roi, picture.size) for picture in pictures]
        seen = [spot.crop(picture) for spot, picture in zip(spots, pictures, strict=True)]
        if tile and any(max(picture.size) > tile for picture in seen):
            found = [
                self._tiled(one, spot, batch_size) for one, spot in zip(seen, spots, strict=True)
            ]
        else:
            found = self._whole(seen, spots)
        return [
            (view, spot.put_back(values.clip(0, 1)))
            for (view, values), spot in zip(found, spots, strict=True)
        ]

    def _whole(
        self, pictures: Sequence[Image.Image], spots: Sequence[Spot]
    ) -> list[tuple[dict[str, Any], np.ndarray]]:
        pixels = [_resized(picture, self.side) for picture in pictures]
        inside = [spot.inside((self.side, self.side)) for spot in spots]
        views = _views(self.run(pixels, [self.twin(one) for one in pixels], inside=inside))
        return [
            (view, stretched(view.pop("map"), *picture.size))
            for view, picture in zip(views, pictures, strict=True)
        ]

    def _tiled(
        self, picture: Image.Image, spot: Spot, batch_size: int
    ) -> tuple[dict[str, Any], np.ndarray]:
        side, overlap = (self.manifest["settings"][name] for name in ("tile", "overlap"))
        (width, height), pixels = picture.size, _resized(picture, self.side)
        if max(picture.size) <= side:
            return self._whole([picture], [spot])[0]
        twin = self.twin(pixels)
        views, blended, values = [], np.zeros((height, width), np.float32), np.asarray(picture)
        across, down = weights(width, side, overlap), weights(height, side, overlap)
        places = [(x, y) for y in down for x in across if spot.touches(x, y, side)]
        for start in range(0, len(places), batch_size):
            part = places[start : start + batch_size]
            tiles = [cut(values, *place, side, self.side) for place in part]
            inside = [spot.of_tile(*place, side, self.side) for place in part]
            found = _views(self.run(tiles, [twin] * len(part), True, inside))
            for (left, top), view in zip(part, found, strict=True):
                here = blended[top : top + side, left : left + side]
                share = np.outer(down[top][: here.shape[0]], across[left][: here.shape[1]])
                own = stretched(view.pop("map"), side, side)
                here += own[: here.shape[0], : here.shape[1]] * share
                views.append(view)
        if max(picture.size) <= _NARROW * min(picture.size):
            inside = [spot.inside((self.side, self.side))]
            (whole,) = _views(self.run([pixels], [twin], inside=inside))
            raise_by_whole(blended, whole.pop("map"), self.manifest["reach"])
            numbers = self._strongest([*views, whole])
            if "memory_score" in numbers:  # the whole's has another unit
                numbers = {**numbers, "memory_score": self._strongest(views)["memory_score"]}
        else:
            numbers = self._strongest(views)
        return {**numbers, "tile": side}, blended

    def _strongest(self, views: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The numbers of several views of one picture together."""
        highest = max(views, key=lambda view: view["score"])
        if "words_deviation" not in highest:
            return highest
        words, memory = (
            max(views, key=lambda view: view[name])  # noqa: B023  (used at once)
            for name in ("words_deviation", "memory_deviation")
        )
        far, half = memory["memory_deviation"], self.manifest["odds_of_half"]
        score, pairs = (
            _combined(words[name], far, half) for name in ("words_deviation", "pair_deviations")
        )
        low, high = np.quantile(pairs, (0.025, 0.975))
        return {
            **words,
            **{"score": float(score), "uncertainty": float(np.std(pairs))},
            **{"low": float(low), "high": float(high), "memory_score": memory["memory_score"]},
        }


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _combined(words: Any, memory: Any, half: float) -> Any:
    words, memory = np.logaddexp(0, words), np.logaddexp(0, memory)
    odds = words + memory + words * memory
    return odds / (odds + half)


def _views(found: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """The outputs of a batch, view by view, without the maps of the uncertainty."""
    return [
        {
            name: float(values[at]) if values.ndim == 1 else values[at]
            for name, values in found.items()
            if name != "spread"
        }
        for at in range(len(found["score"]))
    ]


def _opened(folder: Path, manifest: dict[str, Any], threads: int) -> Any:
    """What runs the model: inputs by name -> outputs by name."""
    names: list[str] = manifest["outputs"]
    if manifest["runtime"] == "openvino":
        import openvino

        hints: dict[str, Any] = {}
        if manifest["settings"]["precision"] != "float16":
            # Else processors that have bfloat16 or float16 compute in it.
            hints["INFERENCE_PRECISION_HINT"] = "f32"
        if threads:
            hints["INFERENCE_NUM_THREADS"] = threads
        compiled = openvino.Core().compile_model(folder / manifest["model"], "CPU", hints)
        # The memory of its outputs is used again at the next call.
        return lambda inputs: {
            name: compiled_output.copy()
            for name, compiled_output in zip(names, compiled(inputs).to_tuple(), strict=True)
        }
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # what its optimiser leaves undone concerns nobody
    session = onnxruntime.InferenceSession(
        folder / manifest["model"], options, providers=["CPUExecutionProvider"]
    )
    return lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))


def _resized(picture: Image.Image, side: int) -> np.ndarray:
    return np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC))


def starts(length: int, side: int, overlap: float) -> list[int]:
    """Where the tiles along an edge of a picture begin."""
    if length <= side:
        return [0]
    last = length - side
    return [*range(0, last, max(1, side - math.ceil(side * overlap))), last]


def weights(length: int, side: int, overlap: float) -> dict[int, np.ndarray]:
    """What each tile counts along an edge, float32 (T,), by where it begins."""
    place = np.arange(side) + 0.5
    rise = np.minimum(1, np.minimum(place, side - place) / max(1.0, side * overlap))
    total = np.zeros(max(length, side))
    for start in starts(length, side, overlap):
        total[start : start + side] += rise
    found = starts(length, side, overlap)
    return {start: (rise / total[start : start + side]).astype(np.float32) for start in found}


def cut(picture: np.ndarray, left: int, top: int, side: int, image_side: int) -> np.ndarray:
    """A tile as the model sees it; beyond the edges of a picture is its mirror image."""
    part = picture[top : top + side, left : left + side]
    edges = ((0, side - part.shape[0]), (0, side - part.shape[1]), (0, 0))
    whole = np.ascontiguousarray(np.pad(part, edges, mode="symmetric"))
    return _resized(Image.fromarray(whole), image_side)


def stretched(values: np.ndarray, width: int, height: int) -> np.ndarray:
    """A map resized bilinearly, pixel centres aligned: float32 (height, width)."""
    rows, columns = (_between(*pair) for pair in zip(values.shape, (height, width), strict=True))
    across = values[:, columns[0]] * (1 - columns[2]) + values[:, columns[1]] * columns[2]
    share = rows[2][:, None]
    return np.asarray(across[rows[0]] * (1 - share) + across[rows[1]] * share, np.float32)


def _between(length: int, wanted: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each wanted place the two cells around it, and the share of the second."""
    place = ((np.arange(wanted) + 0.5) * (length / wanted) - 0.5).clip(0, length - 1)
    below = np.floor(place).astype(int)
    return below, np.minimum(below + 1, length - 1), (place - below).astype(np.float32)


def _grown(marker: np.ndarray, within: np.ndarray) -> np.ndarray:
    """The highest level at which each pixel hangs together with the marker, float32 (S, S)."""
    while True:
        wide = np.pad(marker, 1)
        wide = np.maximum(np.maximum(wide[:-2], wide[1:-1]), wide[2:])
        wide = np.maximum(np.maximum(wide[:, :-2], wide[:, 1:-1]), wide[:, 2:])
        wide = np.minimum(wide, within)
        if np.array_equal(wide, marker):
            return marker
        marker = wide


def raise_by_whole(values: np.ndarray, whole: np.ndarray, reach: Sequence[int]) -> None:
    """Raise the map of the tiles (H, W) where the view of the whole (S, S) says more.

    Args:
        reach: half the width of each row of the disc within which a tile's fault explains it.
    """
    side, radius = len(whole), len(reach) // 2
    down, across = (np.arange(side) * length // side for length in values.shape)
    highest = np.maximum.reduceat(np.maximum.reduceat(values, down, 0), across, 1)
    seen = np.zeros_like(whole)
    for shift, width in enumerate(reach):
        wide = np.pad(highest, ((radius, radius), (width, width)))[shift : shift + side]
        rows = np.lib.stride_tricks.sliding_window_view(wide, 2 * width + 1, axis=1)
        np.maximum(seen, rows.max(-1), out=seen)
    explained = _grown(np.minimum(seen, whole), whole)
    more = np.where(whole > explained, whole, np.float32(0))
    np.maximum(values, stretched(more, values.shape[1], values.shape[0]), out=values)
