"""Scores pictures with an exported detector: python predict.py PHOTOS --out DIR

It stands beside model.onnx and manifest.json and needs what requirements.txt lists, no PyTorch.

Symbols: W×H pixels of a picture, S the model's image side, B views, T side of a tile.
"""

# This file is copied into the folders of `bayes-pfl export`, so that it imports nothing of
# bayes_pfl; the tests compare both, row by row.

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image

COLUMNS = (
    *("path", "class_name", "score", "label", "uncertainty", "text_score", "map_score", "width"),
    *("height", "error", "score_low", "score_high", "needs_review", "p_value", "words_score"),
    *("memory_score", "compared_with", "page", "regions", "tile"),
)
"""Those of ``bayes-pfl predict``; ``regions`` stays empty."""

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".jpe", ".jfif", ".gif"),
    *(".jp2", ".ppm", ".pgm", ".pbm", ".pnm", ".avif"),
)
_FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
_MOST_PIXELS = 178_956_970
_NARROW = 4  # a picture that is longer is not looked at as a whole
_SUBFILE, _COPY_OR_MASK = 254, 5  # tag of a TIFF, and its bits for what is no page

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By the number in EXIF."""


class Refused(Exception):
    """What a user can correct, in one line."""


# Reading ------------------------------------------------------------------------------------------


def pages_of(path: Path) -> Iterator[tuple[int | None, Image.Image]]:
    """The upright pictures of a file, mode RGB, with their page; None in a file of one picture.

    Raises:
        Exception: as Pillow's decoders do.
    """
    with Image.open(path, formats=[name for name in _FORMATS if name in Image.OPEN]) as image:
        frames = range(getattr(image, "n_frames", 1) if image.format == "TIFF" else 1)
        kinds = [_seek(image, at).get(_SUBFILE, 0) if len(frames) > 1 else 0 for at in frames]
        pages = [at for at in frames if at == 0 or not kinds[at] & _COPY_OR_MASK]
        for at in pages:
            if len(frames) > 1:
                _seek(image, at)
            yield (at + 1 if len(pages) > 1 else None), _decoded(image)


def _seek(image: Any, at: int) -> Any:
    image.seek(at)
    return image.tag_v2


def _decoded(image: Image.Image) -> Image.Image:
    if image.width * image.height > _MOST_PIXELS:
        raise Refused(f"{image.width}x{image.height} is more than {_MOST_PIXELS} pixels; reduce it")
    if image.mode in ("RGB", "RGBA", "LA") and ";16" in str(getattr(image, "tile", "")):
        raise Refused("16 bits a channel in colour: bayes-pfl predict reads it; or save 8 bits")
    try:
        turn = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a damaged EXIF block does not make the picture unreadable
        turn = 1
    image.load()
    rgb = to_rgb(image)
    return rgb.transpose(_TURNS[turn]) if turn in _TURNS else rgb


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode -> mode RGB; transparency on white, deep pictures by their depth."""
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_eight_bits(np.asarray(image))).convert("RGB")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _eight_bits(values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all():
        raise Refused("pixel values are NaN or infinite; replace them by finite numbers")
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if low < 0 or high > 65535:
        wide = values.astype(np.float64)
        low, high = wide.min(), wide.max()
        return np.rint((wide - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)
    if values.dtype.kind == "f" and high <= 1:
        return np.rint(values * 255).astype(np.uint8)
    whole = np.rint(values).astype(np.uint32)
    if high <= 255:
        return whole.astype(np.uint8)
    return (whole >> 4 if high <= 4095 else (whole + 128) // 257).astype(np.uint8)


def _resized(picture: Image.Image, side: int) -> np.ndarray:
    return np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC))


# Tiles --------------------------------------------------------------------------------------------


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


def raise_by_whole(values: np.ndarray, whole: np.ndarray, reach: Sequence[int]) -> None:
    """Raise the map of the tiles (H, W) where the view of the whole (S, S) says more.

    Args:
        reach: half the width of each row of the disc within which a tile's fault explains it.
    """
    side, radius = len(whole), len(reach) // 2
    down, across = (np.arange(side) * length // side for length in values.shape)
    highest = np.maximum.reduceat(np.maximum.reduceat(values, down, 0), across, 1)
    explained = np.zeros_like(whole)
    for shift, width in enumerate(reach):
        wide = np.pad(highest, ((radius, radius), (width, width)))[shift : shift + side]
        rows = np.lib.stride_tricks.sliding_window_view(wide, 2 * width + 1, axis=1)
        np.maximum(explained, rows.max(-1), out=explained)
    more = np.where(whole > explained, whole, np.float32(0))
    np.maximum(values, stretched(more, values.shape[1], values.shape[0]), out=values)


# Scoring ------------------------------------------------------------------------------------------


class Detector:
    """The folder of an export.

    Raises:
        Refused: it is none, or was changed.
    """

    def __init__(self, folder: Path, threads: int = 0) -> None:
        try:
            self.manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
            files = self.manifest["sha256"]
            found = {x: hashlib.sha256((folder / x).read_bytes()).hexdigest() for x in files}
        except (OSError, ValueError, KeyError) as error:
            raise Refused(f"{folder}: not the folder of an export ({error})") from error
        if changed := [name for name in files if files[name] != found[name]]:
            raise Refused(f"{folder / changed[0]}: has changed since the export; export again")
        self.side = int(self.manifest["settings"]["image_size"])
        self._run = _opened(folder, self.manifest, threads)

    def run(
        self, pixels: Sequence[np.ndarray], twins: Sequence[int] = (), tile: bool = False
    ) -> dict[str, np.ndarray]:
        """The outputs of the model for B views, uint8 (S, S, 3) each.

        Args:
            twins: number of the reference that each view is of, -1 for none.
        """
        given = {
            "pixels": np.stack(pixels),
            "twin": np.array(twins or [-1] * len(pixels), np.int64),
            "tile": np.array(int(tile), np.int64),
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
        if tile and any(max(picture.size) > tile for picture in pictures):
            return [self._tiled(picture, batch_size) for picture in pictures]
        pixels = [_resized(picture, self.side) for picture in pictures]
        views = _views(self.run(pixels, [self.twin(one) for one in pixels]))
        return [
            (view, stretched(view.pop("map"), *picture.size).clip(0, 1))
            for view, picture in zip(views, pictures, strict=True)
        ]

    def _tiled(self, picture: Image.Image, batch_size: int) -> tuple[dict[str, Any], np.ndarray]:
        side, overlap = (self.manifest["settings"][name] for name in ("tile", "overlap"))
        (width, height), pixels = picture.size, _resized(picture, self.side)
        if max(picture.size) <= side:
            return self.score([picture])[0]
        twin = self.twin(pixels)
        views, blended, values = [], np.zeros((height, width), np.float32), np.asarray(picture)
        across, down = weights(width, side, overlap), weights(height, side, overlap)
        places = [(left, top) for top in down for left in across]
        for start in range(0, len(places), batch_size):
            part = places[start : start + batch_size]
            tiles = [cut(values, *place, side, self.side) for place in part]
            for (left, top), view in zip(
                part, _views(self.run(tiles, [twin] * len(part), True)), strict=True
            ):
                here = blended[top : top + side, left : left + side]
                share = np.outer(down[top][: here.shape[0]], across[left][: here.shape[1]])
                own = stretched(view.pop("map"), side, side)
                here += own[: here.shape[0], : here.shape[1]] * share
                views.append(view)
        if max(picture.size) <= _NARROW * min(picture.size):
            (whole,) = _views(self.run([pixels], [twin]))
            raise_by_whole(blended, whole.pop("map"), self.manifest["reach"])
            views.append(whole)
        return {**self._strongest(views), "tile": side}, blended.clip(0, 1)

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

        # Without this, processors that have bfloat16 would compute in it.
        hints: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
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


# A run --------------------------------------------------------------------------------------------


def pictures_below(places: Sequence[Path], out: Path) -> dict[str, Path]:
    """The pictures that are named, or lie below folders that are, by the names of their rows.

    Raises:
        Refused: there are none, or two of one name.
    """
    found: dict[str, Path] = {}
    for place in places:
        every = sorted(place.rglob("*"), key=lambda x: x.parts) if place.is_dir() else [place]
        for path in every:
            name = path.relative_to(place).as_posix() if place.is_dir() else path.name
            inside = name if place.is_dir() else ""
            hidden = any(part.startswith(".") for part in inside.split("/"))
            if hidden or not name.lower().endswith(SUFFIXES) or out / "maps" in path.parents:
                continue
            if name in found:
                raise Refused(f"{path}: a second picture called {name}; give one folder of all")
            found[name] = path
    if not found:
        raise Refused(f"{', '.join(map(str, places))}: no pictures ({' '.join(SUFFIXES)})")
    return found


def rows_of(
    detector: Detector, pictures: dict[str, Path], out: Path, batch_size: int
) -> Iterator[dict[str, Any]]:
    """Score the pictures in their order, write their maps, and give a row for each."""
    waiting: list[tuple[dict[str, Any], Image.Image]] = []
    for name, path in pictures.items():
        row: dict[str, Any] = {"path": name, "class_name": detector.manifest["class_name"]}
        try:
            for page, picture in pages_of(path):
                size = {"width": picture.width, "height": picture.height}
                waiting.append(({**row, "page": page, **size}, picture))
                if len(waiting) == batch_size:
                    yield from _finished(detector, waiting, out, batch_size)
                    waiting = []
        except Exception as error:  # a bad file is a row, not the end of a run
            yield from _finished(detector, waiting, out, batch_size)
            waiting = []
            yield {**row, "error": " ".join(str(error).split()) or type(error).__name__}
    yield from _finished(detector, waiting, out, batch_size)


def _finished(
    detector: Detector, waiting: list[tuple[dict[str, Any], Image.Image]], out: Path, batch: int
) -> Iterator[dict[str, Any]]:
    scored = detector.score([picture for _, picture in waiting], batch) if waiting else []
    for (row, _), (numbers, values) in zip(waiting, scored, strict=True):
        page = row["page"]
        file = out / "maps" / f"{row['path']}{'' if page is None else f'.page{page:05}'}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        deep = np.rint(values * np.float32(65535)).astype(np.uint16)
        Image.fromarray(deep).save(file, compress_level=1)
        ends = {"score_low": numbers["low"], "score_high": numbers["high"]}
        yield {**numbers, **ends, **row, **verdict(detector.manifest, numbers)}


def verdict(manifest: dict[str, Any], numbers: dict[str, Any]) -> dict[str, Any]:
    """The columns that thresholds and normal scores add."""
    found: dict[str, Any] = {"compared_with": manifest["compared_with"]}
    if (threshold := manifest["threshold"]) is not None:
        reached = {x: np.float32(numbers[x]) >= threshold for x in ("score", "low", "high")}
        found["label"] = int(reached["score"])
        found["needs_review"] = int(reached["high"] and not reached["low"])
    if known := manifest["normal_scores"]:
        below = int(np.searchsorted(known, numbers["score"], side="left"))
        found["p_value"] = (1 + len(known) - below) / (len(known) + 1)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; exit code 1: pictures failed, 2: nothing was done."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photos", nargs="+", type=Path, help="pictures, or folders of them")
    parser.add_argument("--out", required=True, type=Path, help="folder for the results")
    parser.add_argument("--batch-size", type=int, default=8, help="views at once (default: 8)")
    parser.add_argument("--threads", type=int, default=0, help="default: all cores")
    given = parser.parse_args(arguments)
    failed = count = 0
    try:
        detector = Detector(Path(__file__).resolve().parent, given.threads)
        pictures = pictures_below(given.photos, given.out)
        given.out.mkdir(parents=True, exist_ok=True)
        table = given.out / "predictions.csv"
        begun = table.with_name(f".{table.name}.{os.getpid()}.tmp")
        with begun.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
            writer.writerow(COLUMNS)
            for row in rows_of(detector, pictures, given.out, max(1, given.batch_size)):
                values = [row.get(name) for name in COLUMNS]
                cells = [round(x, 6) if isinstance(x, float) else x for x in values]
                writer.writerow("" if x is None else x for x in cells)
                count, failed = count + 1, failed + bool(row.get("error"))
        os.replace(begun, table)
    except (Refused, OSError, ImportError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(f"{count - failed} images scored, {failed} failed; written to {given.out}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
