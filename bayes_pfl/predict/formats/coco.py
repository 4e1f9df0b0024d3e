"""coco.json: the regions of a run as COCO's instances, read by pycocotools and its relatives.

The file is written as a stream, image by image: no more than one row is in memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bayes_pfl.detect.regions import FoundRegions
from bayes_pfl.predict.rows import Row
from bayes_pfl.predict.tables import written_whole
from bayes_pfl.support.version import __version__

CATEGORY = "anomaly"
"""The one category, number 1: which fault it is, no map says."""


def runs_of(found: FoundRegions, number: int) -> tuple[int, ...]:
    """The pixels of a region as COCO's uncompressed run lengths.

    Returns:
        Lengths of the runs of pixels outside and inside in turn, column by column over the whole
        map of H×W pixels; the first is outside, perhaps of length 0. They add up to H·W.
    """
    height, width = found.shape
    left, top, _, _ = found.regions[number].box
    columns = np.pad(found.part(number).T, ((0, 0), (1, 1))).view(np.int8)  # (w, h + 2)
    steps = np.diff(columns, axis=1)  # (w, h + 1)
    column, begin = np.nonzero(steps == 1)
    end = np.nonzero(steps == -1)[1]
    first = (column + left) * height + top
    begins, ends = first + begin, first + end
    # A run that reaches the lower edge goes on where the next column begins.
    apart = begins[1:] != ends[:-1]
    begins, ends = begins[np.r_[True, apart]], ends[np.r_[apart, True]]
    borders = np.stack([begins, ends], axis=1).ravel()
    lengths = np.diff(borders, prepend=0, append=height * width).tolist()
    return tuple(lengths if lengths[-1] else lengths[:-1])


def write_coco(path: Path, rows: Callable[[], Iterable[Row]]) -> None:
    """Write the file, whole or not at all.

    Args:
        rows: the rows of the run, each time it is called; with ``runs``.

    Raises:
        ConfigError: it cannot be written.
    """
    info = {"description": "regions found by bayes-pfl", "version": __version__}
    kind = {"id": 1, "name": CATEGORY, "supercategory": CATEGORY}
    with written_whole(path) as file:
        file.write(f'{{"info":{_json(info)},"licenses":[],"categories":[{_json(kind)}],"images":[')
        _write_list(file.write, _images(rows()))
        file.write('],"annotations":[')
        _write_list(file.write, _annotations(rows()))
        file.write("]}\n")


def _images(rows: Iterable[Row]) -> Iterator[dict[str, Any]]:
    for number, row in _scored(rows):
        yield {
            "id": number,
            "file_name": row.path,
            "page": row.page,
            "width": row.width,
            "height": row.height,
            "class_name": row.class_name,
            "score": row.score,
        }


def _annotations(rows: Iterable[Row]) -> Iterator[dict[str, Any]]:
    count = 0
    for image, row in _scored(rows):
        for region, runs in zip(row.listed, row.runs, strict=True):
            count += 1
            left, top, right, bottom = region.box
            yield {
                "id": count,
                "image_id": image,
                "category_id": 1,
                "segmentation": {"size": [row.height, row.width], "counts": runs},
                "area": region.area,
                "bbox": [left, top, right - left, bottom - top],
                "iscrowd": 0,
                "score": region.peak,
                "p_value": region.p_value,
            }


def _scored(rows: Iterable[Row]) -> Iterator[tuple[int, Row]]:
    """Rows of images whose regions are known, counted from 1."""
    return enumerate((row for row in rows if row.regions is not None), start=1)


def _write_list(write: Callable[[str], object], items: Iterable[dict[str, Any]]) -> None:
    for number, item in enumerate(items):
        write((",\n" if number else "\n") + _json(item))


def _json(value: Any) -> str:
    # ASCII, so that bytes of a path that are not UTF-8 are kept as escapes.
    return json.dumps(value, separators=(",", ":"))
