"""Maps of the model at the size of a picture, each at its place.

Symbols: W×H pixels of a picture, S the model's image side.
"""

from __future__ import annotations

import tempfile

import numpy as np
import torch
import torch.nn.functional as F

from bayes_pfl.data.roi import PictureRoi
from bayes_pfl.detect.overlays import stretched

IN_MEMORY = 2**26
"""Pixels from which a map is kept in a temporary file, which the system may write to the disk."""

_NOT_COPIED = 2**22  # pixels of a map that has the picture's size already
_ROWS_AT_ONCE = 512


def new_map(size: tuple[int, int], dtype: type[np.generic] = np.float32) -> np.ndarray:
    """Zeros (H, W); a large map lies in a temporary file, which goes with the array.

    Args:
        size: (W, H).
    """
    shape = size[::-1]
    if shape[0] * shape[1] <= IN_MEMORY:
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile(prefix="bayes-pfl-") as file:
        return np.memmap(file, dtype, "w+", shape=shape)


def resize_map(
    values: torch.Tensor, size: tuple[int, int], roi: PictureRoi | None = None
) -> np.ndarray:
    """A map (S, S) in [0, 1] -> float32 (H, W) in [0, 1], bilinear, pixel centres aligned.

    Args:
        size: (width, height).
        roi: of a picture of this size: the map is that of its rectangle; 0 lies outside.
    """
    if roi is not None:
        return put_back(resize_map(values, roi.crop_size), roi)
    width, height = size
    if tuple(values.shape) == (height, width) and values.numel() >= _NOT_COPIED:
        return values.detach().float().cpu().clamp_(0, 1).numpy()
    whole = values.detach().float().cpu()[None, None]
    resized = F.interpolate(whole, (height, width), mode="bilinear", align_corners=False)
    return resized[0, 0].clamp_(0, 1).numpy()


def put_back(values: np.ndarray, roi: PictureRoi) -> np.ndarray:
    """The map of a region's rectangle, float (h, w), as that of its picture: 0 outside."""
    left, top, right, bottom = roi.box
    whole = new_map(roi.size)
    for start in range(0, bottom - top, _ROWS_AT_ONCE):
        stop = min(start + _ROWS_AT_ONCE, bottom - top)
        whole[top + start : top + stop, left:right] = values[start:stop] * roi.rows(start, stop)
    return whole


def small_map(values: np.ndarray, size: tuple[int, int], roi: PictureRoi | None) -> np.ndarray:
    """A map to be stretched over a picture that is shown with (width, height) pixels.

    Args:
        values: float (h, w), of the picture, or of the rectangle of its region of interest.
    """
    if roi is None:
        return values
    shown = PictureRoi.of(roi.roi, size)
    return put_back(stretched(values, shown.crop_size), shown)
