"""Polygons in a JSON file as a mask: a file of labelme, or a plain one.

Symbols: W×H pixels of the picture that the polygons were drawn on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bayes_pfl.errors import DataError
from bayes_pfl.support.parsing import MIB, Malformed, read_json, short

_MAX_BYTES = 64 * MIB  # labelme keeps a copy of the picture in its file
_MAX_POINTS = 100_000
_MAX_SIDE = 2**20
_FINE, _MOST_PIXELS = 2048, 2**26  # of the mask: its longer side at least, all of it at most
_SHIFT = 4  # bits of a coordinate below the pixel
_FORM = '{"size": [W, H], "polygons": [[[x, y], ...], ...]}, or a file of labelme'


def read_polygons(path: Path) -> np.ndarray:
    """The area of all polygons of a file, bool (h, w): of the picture's proportions.

    Coordinates are those of labelme: pixel 0 reaches from 0 to 1. A pixel that an outline touches
    is inside.

    Raises:
        DataError: the file cannot be read, or holds no such polygons.
    """
    try:
        size, polygons = _parsed(read_json(path, _MAX_BYTES))
    except OSError as error:
        raise DataError(f"{path}: not readable ({error.strerror})") from error
    except Malformed as error:
        raise DataError(f"{path}: not a file of polygons ({error}); give {_FORM}") from error
    pixels = size[0] * size[1]
    scale = max(1.0, _FINE / max(size))
    scale = min(scale, math.sqrt(_MOST_PIXELS / pixels)) if pixels > _MOST_PIXELS else scale
    width, height = (max(1, round(scale * side)) for side in size)
    mask = np.zeros((height, width), np.uint8)
    for points in polygons:
        corners = np.rint((points * (width / size[0], height / size[1]) - 0.5) * 2**_SHIFT)
        cv2.fillPoly(mask, [corners.astype(np.int32)], 1, shift=_SHIFT)
    return mask.astype(bool)


def _parsed(data: Any) -> tuple[tuple[int, int], list[np.ndarray]]:
    """(W, H) and polygons, float (n, 2) each; raises Malformed."""
    if not isinstance(data, dict):
        raise Malformed("no object")
    labelme = "shapes" in data
    size = [data.get("imageWidth"), data.get("imageHeight")] if labelme else data.get("size")
    if not (isinstance(size, list) and len(size) == 2 and all(map(_is_side, size))):
        names = "imageWidth and imageHeight" if labelme else "size"
        raise Malformed(f"{names} = {short(size)}: two whole numbers from 1 to {_MAX_SIDE}")
    listed = data["shapes"] if labelme else data.get("polygons")
    if not isinstance(listed, list) or not listed:
        raise Malformed("no polygons")
    polygons = list(_shapes(listed) if labelme else map(_points, listed))
    if sum(map(len, polygons)) > _MAX_POINTS:
        raise Malformed(f"more than {_MAX_POINTS} points")
    for points in polygons:
        outside = ((points < 0) | (points > size)).any(axis=1)
        if outside.any():
            raise Malformed(
                f"the point {points[outside][0].tolist()} lies outside the picture of "
                f"{size[0]}x{size[1]} pixels"
            )
    return (size[0], size[1]), polygons


def _is_side(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MAX_SIDE


def _shapes(listed: list[Any]) -> Iterator[np.ndarray]:
    for shape in listed:
        if not isinstance(shape, dict):
            raise Malformed(f"shape {short(shape)}: no object")
        kind = shape.get("shape_type", "polygon")
        if kind == "rectangle":
            (left, top), (right, bottom) = _points(shape.get("points"), 2)[:2]
            yield np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
        elif kind == "polygon":
            yield _points(shape.get("points"))
        else:
            raise Malformed(f"shape_type {short(kind)}: polygon or rectangle")


def _points(listed: Any, fewest: int = 3) -> np.ndarray:
    """Points (n, 2); raises Malformed."""
    if not isinstance(listed, list) or not fewest <= len(listed) <= _MAX_POINTS:
        raise Malformed(f"points {short(listed)}: a list of {fewest} at least")
    for point in listed:
        if not (isinstance(point, list) and len(point) == 2 and all(map(_is_number, point))):
            raise Malformed(f"point {short(point)}: two numbers")
    return np.array(listed, np.float64)


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) < 2 * _MAX_SIDE  # false for NaN
