"""Pixels in memory (Pillow images, arrays, tensors of any type) -> 8-bit RGB, by fixed rules."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from bayes_pfl.errors import DataError

_ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")


def to_uint8(values: np.ndarray) -> np.ndarray:
    """Scale pixel values of any numeric type to uint8: linearly, not by the picture's contrast.

    Integers: the narrowest of 8, 12 and 16 bits that holds the largest value is taken as the depth
    of the file (12-bit cameras write 16-bit files): 8 bits stay, 12 bits are shifted by 4, 16 bits
    are divided by 257. Floats within [0, 1] are multiplied by 255, others within [0, 65535] follow
    the integer rule. Values outside those ranges, such as negative ones, have no agreed meaning:
    they are stretched from their minimum to their maximum.

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
    return from_depth(np.rint(values).astype(np.uint32), high)


def from_depth(values: np.ndarray, high: float) -> np.ndarray:
    """Whole numbers -> uint8, by the depth that the highest of the picture tells.

    Args:
        high: the highest value of the whole picture.
    """
    if high <= 255:
        return values.astype(np.uint8)
    if high <= 4095:
        return (values >> 4).astype(np.uint8)
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _stretch(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float64)
    low, high = values.min(), values.max()
    return np.rint((values - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)


def as_rgb(image: Image.Image | np.ndarray | torch.Tensor) -> Image.Image:
    """A Pillow image, an array (H, W[, C]) or a tensor ([C,] H, W), in RGB order -> mode RGB.

    An EXIF rotation is not applied: `images.read_image` does that. Arrays with the channels first,
    (3, H, W), are recognised where the last axis is too long for channels. Values: uint8; other
    integers by their depth; floats in [0, 1].

    Raises:
        DataError: another type or shape, floats outside [0, 1], NaN.
    """
    if isinstance(image, Image.Image):
        return flatten_to_rgb(image)
    values = _channels_last(image)
    if values.dtype.kind == "f" and values.size and not (values.min() >= 0 and values.max() <= 1):
        raise DataError(
            f"a float image must lie in [0, 1], this one in [{values.min():g}, {values.max():g}]; "
            "divide by its full scale, and do not normalise it"
        )
    return array_to_rgb(values)


def _channels_last(image: np.ndarray | torch.Tensor) -> np.ndarray:
    if isinstance(image, torch.Tensor):
        tensor = image.detach().cpu()
        values = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        return np.moveaxis(values, 0, -1) if values.ndim == 3 else values
    if isinstance(image, np.ndarray):
        first = image.ndim == 3 and image.shape[0] in (1, 3, 4) and image.shape[2] > 4
        return np.moveaxis(image, 0, -1) if first else image
    raise DataError(
        f"an image of type {type(image).__name__} cannot be read; give a path, a PIL image, "
        "a NumPy array or a torch tensor"
    )


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
    # The depth follows from the colours: an opaque alpha is always at its full range.
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
