"""Pixel values of any kind brought to 8-bit RGB, by rules that a user can predict."""

from __future__ import annotations

import numpy as np
from PIL import Image

from bayes_pfl.errors import DataError

_ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")


def to_uint8(values: np.ndarray) -> np.ndarray:
    """Scale pixel values of any numeric type to uint8: linearly, not by the picture's contrast.

    Integers: the narrowest of 8, 12, 16 and 32 bits that holds the largest value is taken for the
    file's depth (12-bit cameras write 16-bit files): 8 bits stay, 12 bits are shifted by 4, 16 bits
    are divided by 257. Floats within [0, 1] are multiplied by 255, others within [0, 65535] follow
    the integer rule. What lies outside those ranges, negative values above all, has no agreed
    meaning and is stretched from its own minimum to its own maximum.

    Args:
        values: any shape; bool, integer or floating point.

    Raises:
        DataError: NaN or infinite values, or an array that is not numeric.
    """
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * 255
    if values.dtype.kind not in "iuf":
        raise DataError(f"pixel type {values.dtype} is not numeric; use integers or floats")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError("pixel values are NaN or infinite; replace them by finite numbers")
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if low < 0 or high > 65535:
        return _stretch(values)
    if values.dtype.kind == "f" and high <= 1:
        return np.rint(values * 255).astype(np.uint8)
    return _from_depth(np.rint(values).astype(np.uint32), high)


def _from_depth(values: np.ndarray, high: float) -> np.ndarray:
    if high <= 255:
        return values.astype(np.uint8)
    if high <= 4095:
        return (values >> 4).astype(np.uint8)
    return ((values + 128) // 257).astype(np.uint8)


def _stretch(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float64)
    low, high = values.min(), values.max()
    return np.rint((values - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)


def flatten_to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode -> mode RGB; transparency is composited on white, as on a page."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(to_uint8(np.asarray(image))).convert("RGB")
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        return _on_white(image.convert("RGBA"))
    return image.convert("RGB")


def _on_white(rgba: Image.Image) -> Image.Image:
    page = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(page, rgba).convert("RGB")


def array_to_rgb(values: np.ndarray) -> Image.Image:
    """(H, W), (H, W, 1), (H, W, 2: grey + alpha), (H, W, 3) or (H, W, 4: RGBA) -> mode RGB.

    Raises:
        DataError: another shape, an empty array, or values that `to_uint8` refuses.
    """
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or values.shape[2] not in (1, 2, 3, 4) or values.size == 0:
        raise DataError(
            f"an image array of shape {values.shape} cannot be read; give (H, W), (H, W, 1), "
            "(H, W, 3) or (H, W, 4)"
        )
    # Colour decides the depth: an opaque alpha is full-range and would hide a 12-bit picture.
    colours = values.shape[2] - (values.shape[2] % 2 == 0)
    rgb = np.broadcast_to(to_uint8(values[..., :colours]), (*values.shape[:2], 3))
    if colours == values.shape[2]:
        return Image.fromarray(np.ascontiguousarray(rgb))
    alpha = _full_range_alpha(values[..., colours:])
    return _on_white(Image.fromarray(np.concatenate([rgb, alpha], axis=2)))


def _full_range_alpha(alpha: np.ndarray) -> np.ndarray:
    if alpha.dtype.kind in "iu" and alpha.dtype.itemsize > 1:
        return ((alpha.astype(np.uint32) + 128) // 257).clip(0, 255).astype(np.uint8)
    return to_uint8(alpha)
