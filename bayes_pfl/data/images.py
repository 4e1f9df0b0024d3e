"""Images as they come (any depth, mode, orientation) -> RGB; masks; and the images of a folder."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, TiffImagePlugin

from bayes_pfl.data.pixels import array_to_rgb, flatten_to_rgb
from bayes_pfl.errors import DataError, ImageReadError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")

MAX_PIXELS = 178_956_970
"""Larger images are refused: Pillow's own limit against decompression bombs."""

# Named, because Pillow would otherwise hand a PostScript file called .png to Ghostscript.
_FORMATS = ("BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")

_TIFF_MAGIC = (b"II*\x00", b"MM\x00*")
_DEEP_MAGIC = (b"\x89PNG", *_TIFF_MAGIC)
_IMAGE_MAGIC = (b"\xff\xd8\xff", b"GIF8", b"RIFF", *_DEEP_MAGIC)

_EXIF_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read one image file, whatever its mode, as an upright picture of mode RGB.

    Depths above 8 bits are scaled as `bayes_pfl.data.pixels.to_uint8` says; transparency is
    composited on white; the EXIF rotation is applied; of an animation the first frame is taken.

    Raises:
        ImageReadError: missing, empty, truncated or too large files, and files that are no image.
    """
    path = Path(path)
    try:
        with _open(path, max_pixels) as image:
            rgb = _decode(path, image)
            turn = _orientation(image)
    except DataError as error:
        known = isinstance(error, ImageReadError)
        raise error if known else ImageReadError(f"{path}: {error}") from error
    except Exception as error:  # decoders of damaged files raise almost anything
        raise _unreadable(path, error) from error
    return rgb.transpose(turn) if turn is not None else rgb


def read_mask(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read a mask: bool (H, W), true where the picture is anomalous.

    Any value above 0 counts (in any channel; fully transparent pixels do not). A JPEG mask is
    blurred by its compression: there, grey values above 127 count.

    Raises:
        ImageReadError: as `read_image`.
    """
    path = Path(path)
    try:
        with _open(path, max_pixels) as image:
            return _mask_values(image)
    except ImageReadError:
        raise
    except Exception as error:  # decoders of damaged files raise almost anything
        raise _unreadable(path, error) from error


def as_rgb(image: Image.Image | np.ndarray | torch.Tensor) -> Image.Image:
    """A Pillow image, an array (H, W[, C]) or a tensor ([C,] H, W), in RGB order -> mode RGB.

    The pixels are taken as they lie: an EXIF rotation is for `read_image`.
    Arrays with the channels first, (3, H, W), are recognised when their last axis cannot be
    channels. Values: uint8; other integers by their depth; floats in [0, 1].

    Raises:
        DataError: another type or shape, floats outside [0, 1], NaN.
    """
    if isinstance(image, Image.Image):
        return flatten_to_rgb(image)
    if isinstance(image, torch.Tensor):
        values = image.detach().cpu()
        values = (values.float() if values.is_floating_point() else values).numpy()
        values = np.moveaxis(values, 0, -1) if values.ndim == 3 else values
    elif isinstance(image, np.ndarray):
        first = image.ndim == 3 and image.shape[0] in (1, 3, 4) and image.shape[2] > 4
        values = np.moveaxis(image, 0, -1) if first else image
    else:
        raise DataError(
            f"an image of type {type(image).__name__} cannot be read; give a path, a PIL image, "
            "a NumPy array or a torch tensor"
        )
    if values.dtype.kind == "f" and values.size and not (values.min() >= 0 and values.max() <= 1):
        raise DataError(
            f"a float image must lie in [0, 1], this one in [{values.min():g}, {values.max():g}]; "
            "divide by its full scale, and do not normalise it"
        )
    return array_to_rgb(values)


def find_images(folder: str | os.PathLike[str]) -> list[Path]:
    """The image files below a folder, by extension, sorted by their path within it.

    Hidden files and folders (names that begin with a dot) are left out. Linked folders are
    followed, each real folder once.

    Raises:
        DataError: the folder is missing, is no folder, or a folder below it cannot be listed.
    """
    folder = Path(folder)
    if not folder.is_dir():
        state = "is not a folder" if folder.exists() else "does not exist"
        raise DataError(f"{folder} {state}; give a folder of images")
    found: list[Path] = []
    seen: set[str] = set()
    for where, folders, files in os.walk(folder, followlinks=True, onerror=_refuse_listing):
        real = os.path.realpath(where)
        # Sorted, so that of two ways to one real folder the same is taken on every machine.
        folders[:] = [] if real in seen else sorted(n for n in folders if not n.startswith("."))
        if real not in seen:
            found += [Path(where, name) for name in files if _is_image_name(name)]
        seen.add(real)
    return sorted(found, key=lambda path: path.relative_to(folder).parts)


def _is_image_name(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(IMAGE_SUFFIXES)


def _refuse_listing(error: OSError) -> None:
    raise DataError(f"{error.filename} cannot be listed: {error.strerror}; make it readable")


def _open(path: Path, max_pixels: int) -> Image.Image:
    if not path.is_file():
        state = "no such file"
        if path.exists():  # a pipe would be waited for, a device read without end
            state = "is a folder, not an image" if path.is_dir() else "is not a regular file"
        raise ImageReadError(f"{path}: {state}")
    if path.stat().st_size == 0:
        raise ImageReadError(f"{path}: the file is empty (0 bytes)")
    try:
        image = _identify(path, max_pixels)
    except Image.DecompressionBombError as error:
        raise ImageReadError(f"{path}: too many pixels to decode safely; reduce it") from error
    if image.width * image.height > max_pixels:
        size = f"{image.width}x{image.height}"
        image.close()
        raise ImageReadError(f"{path}: {size} is more than {max_pixels} pixels; reduce it")
    return image


def _identify(path: Path, max_pixels: int) -> Image.Image:
    Image.init()
    try:
        return Image.open(path, formats=[name for name in _FORMATS if name in Image.OPEN])
    except Image.UnidentifiedImageError as error:
        # Floating-point colour TIFFs, for one, are beyond Pillow but not beyond OpenCV.
        with path.open("rb") as file:
            start = file.read(4)
        safe = start in _TIFF_MAGIC and _tiff_pixels(path) <= max_pixels
        values = _decode_deep(path) if safe else None
        if values is None and start.startswith(_IMAGE_MAGIC):
            reason = "damaged or cut short (its header cannot be read)"
            raise ImageReadError(f"{path}: {reason}") from error
        if values is None:
            raise ImageReadError(f"{path}: not an image, or of a kind unknown here") from error
        return array_to_rgb(values)


def _tiff_pixels(path: Path) -> int:
    """Pixels that a TIFF declares: OpenCV would make room for any number of them."""
    with path.open("rb") as file:
        directory = TiffImagePlugin.ImageFileDirectory_v2(file.read(8))
        file.seek(directory.next)
        directory.load(file)
    return int(directory[ExifTags.Base.ImageWidth]) * int(directory[ExifTags.Base.ImageLength])


def _decode(path: Path, image: Image.Image) -> Image.Image:
    # Pillow keeps only the upper byte of 16-bit colour, which blackens 12-bit pictures.
    deep = image.mode in ("RGB", "RGBA", "LA") and ";16" in str(getattr(image, "tile", ""))
    image.load()  # also for deep files: Pillow notices truncation where OpenCV does not
    values = _decode_deep(path) if deep else None
    rgb = flatten_to_rgb(image) if values is None else array_to_rgb(values)
    rgb = rgb.copy() if rgb is image else rgb
    rgb.info.clear()  # a kept EXIF tag would turn the picture once more wherever it is honoured
    return rgb


def _decode_deep(path: Path) -> np.ndarray | None:
    """(H, W[, C]) in RGB order at full depth by OpenCV; None where it cannot."""
    import cv2

    data = path.read_bytes()
    if not data.startswith(_DEEP_MAGIC):
        return None
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.ndim == 2:
        return values
    order = [2, 1, 0, 3] if values.shape[2] == 4 else [2, 1, 0]
    return values[..., order] if values.shape[2] in (3, 4) else None


def _orientation(image: Image.Image) -> Image.Transpose | None:
    try:
        return _EXIF_TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a damaged EXIF block must not cost the picture
        return None


def _mask_values(image: Image.Image) -> np.ndarray:
    if image.format in ("JPEG", "MPO"):
        return np.asarray(image.convert("L")) > 127
    if image.mode.startswith("I") or image.mode in ("F", "L", "1"):
        return np.asarray(image) > 0
    rgba = np.asarray(image.convert("RGBA"))
    return (rgba[..., :3] > 0).any(axis=2) & (rgba[..., 3] > 0)


def _unreadable(path: Path, error: BaseException) -> ImageReadError:
    if isinstance(error, OSError) and error.strerror:  # of the system, not of a decoder
        return ImageReadError(f"{path}: cannot be read: {error.strerror}")
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return ImageReadError(f"{path}: damaged or cut short ({reason})")
