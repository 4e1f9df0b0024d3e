"""Scores pictures with an exported detector: python predict.py PHOTOS --out DIR

It stands beside the model and manifest.json and needs what requirements.txt lists, no PyTorch.
"""

# This file is copied into the folders of `bayes-pfl export`, so that it imports nothing of
# bayes_pfl; the tests compare both, row by row.

from __future__ import annotations

import argparse
import csv
import errno
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from detector import Detector, Refused
from pictures import SUFFIXES, pages_of
from PIL import Image
from regions import COLUMNS as REGION_COLUMNS
from regions import MOST, regions_of

COLUMNS = (
    *("path", "class_name", "score", "label", "uncertainty", "text_score", "map_score", "width"),
    *("height", "error", "score_low", "score_high", "needs_review", "p_value", "words_score"),
    *("memory_score", "compared_with", "page", "regions", "tile"),
)
"""Those of ``bayes-pfl predict``."""

_PIXELS_WAITING = 2**26  # of decoded pictures that wait for their batch, about


def pictures_below(places: Sequence[Path], out: Path) -> dict[str, Path]:
    """The pictures that are named, or lie below folders that are, by the names of their rows.

    Raises:
        Refused: there are none, or two of one name.
    """
    found: dict[str, Path] = {}
    written = (out / "maps").resolve()
    for place in places:
        every = sorted(place.rglob("*"), key=lambda x: x.parts) if place.is_dir() else [place]
        for path in every:
            name = path.relative_to(place).as_posix() if place.is_dir() else path.name
            hidden = place.is_dir() and any(part.startswith(".") for part in name.split("/"))
            if hidden or path.is_dir() or not name.lower().endswith(SUFFIXES):
                continue
            if written in path.resolve().parents:
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
                pixels = sum(one.width * one.height for _, one in waiting)
                if len(waiting) == batch_size or pixels >= _PIXELS_WAITING:
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
        deep = np.rint(values * np.float32(65535)).astype(np.uint16)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(deep).save(file, compress_level=1)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise
            row["error"] = f"map not written: {error}"
        ends = {"score_low": numbers["low"], "score_high": numbers["high"]}
        found = {**numbers, **ends, **row, **verdict(detector.manifest, numbers)}
        if (threshold := detector.manifest["map_threshold"]) is not None:
            least_peak = detector.manifest.get("region_threshold")
            found["listed"] = regions_of(values, threshold, least_peak)
            found["regions"] = len(found["listed"])
        yield found


def verdict(manifest: dict[str, Any], numbers: dict[str, Any]) -> dict[str, Any]:
    """The columns that thresholds and normal scores add."""
    found: dict[str, Any] = {"compared_with": manifest["compared_with"]}
    if (threshold := manifest["threshold"]) is not None:
        found["label"] = int(np.float32(numbers["score"]) >= threshold)
    if known := manifest["normal_scores"]:
        found["p_value"] = p_value(known, numbers["score"])
        near = found["p_value"] <= manifest["review_p"]
        found["needs_review"] = int(not found["label"] and near)
    return found


def p_value(known: Sequence[float], value: float) -> float:
    """Share of values of normal pictures, in rising order, that reach this one."""
    below = int(np.searchsorted(known, value, side="left"))
    return (1 + len(known) - below) / (len(known) + 1)


def region_rows(row: dict[str, Any], peaks: Sequence[float] | None) -> Iterator[dict[str, Any]]:
    """The rows of regions.csv of a picture.

    Args:
        peaks: the highest values of normal maps, in rising order.
    """
    for number, region in enumerate(row.get("listed", ())[:MOST], start=1):
        rare = {"p_value": p_value(peaks, region["peak"])} if peaks else {}
        yield {"path": row["path"], "page": row["page"], "number": number, **region, **rare}


@contextmanager
def table(path: Path, columns: Sequence[str]) -> Iterator[Any]:
    """Within, a function that adds a row to a CSV file, which gets its name at the end."""
    begun = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with begun.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
        writer.writerow(columns)

        def write(row: dict[str, Any]) -> None:
            values = [row.get(name) for name in columns]
            cells = [round(x, 6) if isinstance(x, float) else x for x in values]
            writer.writerow("" if x is None else x for x in cells)

        yield write
    os.replace(begun, path)


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
        peaks = detector.manifest.get("normal_peaks")
        with ExitStack() as stack:
            write = stack.enter_context(table(given.out / "predictions.csv", COLUMNS))
            regions = given.out / "regions.csv"
            if detector.manifest["map_threshold"] is not None:
                write_region = stack.enter_context(table(regions, REGION_COLUMNS))
            for row in rows_of(detector, pictures, given.out, max(1, given.batch_size)):
                write(row)
                for region in region_rows(row, peaks):
                    write_region(region)
                count, failed = count + 1, failed + bool(row.get("error"))
    except (Refused, OSError, ImportError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(f"{count - failed} images scored, {failed} failed; written to {given.out}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
