"""The regions of an image as a file of the annotation tool labelme."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bayes_pfl.detect.regions import Box, FoundRegions, Region
from bayes_pfl.predict.formats.coco import CATEGORY
from bayes_pfl.predict.rows import MOST_REGIONS

_VERSION = "5.5.0"  # of the format: labelme 5 and 6 read it


def labelme_file(found: FoundRegions, image: Path, place: Path) -> bytes:
    """The content of the file: a polygon for each region, the most anomalous first.

    A polygon runs through the centres of the region's border pixels, to a thousandth of the
    region's longer side; holes are filled. Regions of one or two pixels, or in a straight line, are
    given by their boxes.

    Args:
        image: file of the picture.
        place: where the content will be written: labelme looks for the picture from there.
    """
    height, width = found.shape
    home, folder = os.path.realpath(image.parent), os.path.realpath(place.parent)
    path = os.path.join(os.path.relpath(home, folder), image.name)
    content: dict[str, Any] = {
        "version": _VERSION,
        "flags": {},
        "shapes": [
            _shape(region, _outline(found, number))
            for number, region in enumerate(found.regions[:MOST_REGIONS])
        ],
        "imagePath": path.replace(os.sep, "/"),
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }
    return json.dumps(content, separators=(",", ":")).encode("ascii")


def _shape(region: Region, points: np.ndarray) -> dict[str, Any]:
    rare = "" if region.p_value is None else f", p-value {region.p_value:.3g}"
    return {
        "label": CATEGORY,
        "points": points.astype(float).tolist(),
        "group_id": None,
        "description": f"peak {region.peak:.3f}{rare}",
        "shape_type": "polygon",
        "flags": {},
        "mask": None,
        "score": region.peak,
        "p_value": region.p_value,
    }


def _outline(found: FoundRegions, number: int) -> np.ndarray:
    """Corners of the polygon, (n, 2), n at least 3."""
    box: Box = found.regions[number].box
    lines, _ = cv2.findContours(
        found.part(number), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(box.left, box.top)
    )
    slack = max(box.right - box.left, box.bottom - box.top) / 1000
    corners: np.ndarray = cv2.approxPolyDP(lines[0], slack, True)[:, 0]
    if len(corners) < 3:
        left, top, right, bottom = box
        corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    return corners
