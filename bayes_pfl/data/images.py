"""Image files of any depth, mode and orientation -> RGB; and mask files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin

from bayes_pfl.data.pixels import array_to_rgb, flatten_to_rgb
from bayes_pfl.errors import DataError, ImageReadError
from bayes_pfl.support.error_text import error_reason

MAX_PIXELS = 178_956_970
"""Images with more pixels are refused: Pillow's own limit against decompression bombs."""

TURN = "turned by EXIF"
"""Key in the `info` of a picture that was turned; the value is a Pillow transposition."""

# Listed, because Pillow would otherwise give a PostScript file named .png to Ghostscript.
_FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")

_NUMBERED = 32
"""Values of a mask that are all below it number kinds; channels that differ by it are colours."""

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
    composited on white; the EXIF rotation is applied; an animation gives its first frame.

    Its `info` has one entry at most: TURN, the transposition by which EXIF made it upright.

    Raises:
        ImageReadError: the file is missing, empty, truncated, too large, or no image.
    """
    path = Path(path)
    with _reading(path), _open(path, max_pixels) as image:
        rgb = _decode(path, image)
        turn = _EXIF_TURNS.get(_orientation(image) or 1)
    if turn is not None:
        rgb = rgb.transpose(turn)
        rgb.info[TURN] = turn
    return rgb


@dataclass(frozen=True)
class MaskFile:
    """What a mask file holds.

    Attributes:
        marked: bool (H, W), true where the picture is anomalous; turned as its own EXIF says.
        highest: its highest value if it holds grey values, of which those above half of that
            count; None if each value above 0 counts.
        oriented: whether its EXIF says how it lies.
    """

    marked: np.ndarray
    highest: float | None
    oriented: bool


def read_mask(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read a mask: bool (H, W), true where the picture is anomalous; see :func:`read_mask_file`.

    Raises:
        ImageReadError: as `read_image`.
    """
    return read_mask_file(path, max_pixels=max_pixels).marked


def read_mask_file(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> MaskFile:
    """Read a mask by these rules.

    Any value above 0 counts (in any channel; fully transparent pixels do not) if there is one such
    value (0 and 255, 0 and 1), if all are from 1 to 31 (numbers of kinds of defects), and in
    colour. Of other grey values, which come from noise or soft edges, those above half of the
    highest count; of a JPEG mask, which is blurred by its compression, those above 127. A palette
    whose entries all look alike is not used: the numbers of the entries are the values.

    Raises:
        ImageReadError: as `read_image`.
    """
    path = Path(path)
    with _reading(path), _open(path, max_pixels) as image:
        marked, highest = _mask_values(image)
        orientation = _orientation(image)
    return MaskFile(turned(marked, _EXIF_TURNS.get(orientation or 1)), highest, bool(orientation))


def turned(mask: np.ndarray, turn: Image.Transpose | None) -> np.ndarray:
    """A mask, bool (H, W), turned as its picture was; ``turn`` None leaves it."""
    return mask if turn is None else np.asarray(Image.fromarray(mask).transpose(turn))


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Within, whatever is raised becomes an ImageReadError that names the file."""
    try:
        yield
    except ImageReadError:
        raise
    except DataError as error:
        raise ImageReadError(f"{path}: {error}") from error
    except Exception as error:  # decoders of damaged files raise almost anything
        reason = error_reason(error)
        if isinstance(error, OSError) and error.strerror:  # from the system, not from a decoder
            raise ImageReadError(f"{path}: cannot be read: {reason}") from error
        raise ImageReadError(f"{path}: damaged or cut short ({reason})") from error


def _open(path: Path, max_pixels: int) -> Image.Image:
    if not path.is_file():
        state = "no such file"
        if path.exists():  # reading a pipe waits, a device never ends
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
        # OpenCV reads some files that Pillow does not, such as colour TIFFs of floats.
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
    """How many pixels a TIFF declares: OpenCV would allocate memory for any number."""
    with path.open("rb") as file:
        directory = TiffImagePlugin.ImageFileDirectory_v2(file.read(8))
        file.seek(directory.next)
        directory.load(file)
    return int(directory[ExifTags.Base.ImageWidth]) * int(directory[ExifTags.Base.ImageLength])


def _decode(path: Path, image: Image.Image) -> Image.Image:
    # Pillow keeps only the upper byte of 16-bit colour, which makes 12-bit pictures black.
    deep = image.mode in ("RGB", "RGBA", "LA") and ";16" in str(getattr(image, "tile", ""))
    image.load()  # also for deep files: Pillow notices truncation where OpenCV does not
    values = _decode_deep(path) if deep else None
    rgb = flatten_to_rgb(image) if values is None else array_to_rgb(values)
    rgb = rgb.copy() if rgb is image else rgb
    rgb.info.clear()  # with its EXIF tag kept, other programs would rotate it again
    return rgb


def _decode_deep(path: Path) -> np.ndarray | None:
    """(H, W[, C]) in RGB order at full depth, read by OpenCV; None if it cannot read the file."""
    import cv2

    data = path.read_bytes()
    if not data.startswith(_DEEP_MAGIC):
        return None
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.ndim == 2:
        return values
    order = [2, 1, 0, 3] if values.shape[2] == 4 else [2, 1, 0]
    return values[..., order] if values.shape[2] in (3, 4) else None


def _orientation(image: Image.Image) -> int | None:
    """The orientation in EXIF, 1 to 8; None without one."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # a damaged EXIF block does not make the picture unreadable
        return None


def _mask_values(image: Image.Image) -> tuple[np.ndarray, float | None]:
    """The `marked` and `highest` of a MaskFile, not turned."""
    if image.format in ("JPEG", "MPO"):
        return np.asarray(image.convert("L")) > 127, None
    if image.mode.startswith("I") or image.mode in ("F", "L", "1"):
        values = np.asarray(image)
    else:
        rgba = np.asarray(image.convert("RGBA"))
        values = rgba[..., :3].max(axis=2) * (rgba[..., 3] > 0)
        if image.mode == "P" and np.ptp(values) == 0:
            entries = np.asarray(image)
            values = entries if np.ptp(entries) else values
        elif (np.ptp(rgba[..., :3], axis=2) >= _NUMBERED).any():
            return values > 0, None
    marked = values > 0
    above = values[marked]
    if above.size == 0 or (low := above.min()) == (high := above.max()):
        return marked, None
    if low >= 1 and high < _NUMBERED:
        return marked, None
    return values > high / 2, float(high)
