"""Image files of any depth, mode and orientation -> RGB; and mask files."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from bayes_pfl.data import dicom
from bayes_pfl.data.memory_file import MemoryFile, Source
from bayes_pfl.data.opening import (
    MAX_PIXELS,
    check_file,
    decode_deep,
    is_deep,
    opened,
    reading,
    several_in,
)
from bayes_pfl.data.pixels import array_to_rgb, flatten_to_rgb
from bayes_pfl.data.tiff_values import is_planar, read_planar, retyped, white_is_zero
from bayes_pfl.errors import DataError

TURN = "turned by EXIF"
"""Key in the `info` of a picture that was turned; the value is a Pillow transposition."""

SEVERAL = "first of several"
"""Key in the `info` of a picture that is the first of several; the value is "pages" or "frames"."""

_NUMBERED = 32
"""Values of a mask that are all below it number kinds; channels that differ by it are colours."""

_EXIF_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(
    path: str | os.PathLike[str],
    *,
    page: int | None = None,
    window: dicom.Window | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Image.Image:
    """Read one picture of a file, whatever its mode, as an upright picture of mode RGB.

    Depths above 8 bits are scaled as `bayes_pfl.data.pixels.to_uint8` says; transparency is
    composited on white; the EXIF rotation is applied; an animation gives its first frame.

    Its `info` has two entries at most: TURN, the transposition by which EXIF made it upright, and
    SEVERAL, if it is the first of several pages or frames and no page was asked for.

    Args:
        page: number of a TIFF's page or a DICOM file's frame, from 1; None for the first one.
        window: (centre, width) of the values of a DICOM file; None for the file's own.

    Raises:
        ImageReadError: the file is missing, empty, truncated, too large, or no image; or it has no
            such page.
    """
    path = Path(path)
    with reading(path, page):
        check_file(path, page)
        return _read(path, page, window, max_pixels)


def read_received_image(
    data: bytes, *, window: dicom.Window | None = None, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """As :func:`read_image`, of a file that was received and lies on no disk: its first picture.

    Raises:
        ImageReadError: it is empty, truncated, too large, or no image.
    """
    file = MemoryFile(data)
    with reading(file):
        if not data:
            raise DataError("the file is empty (0 bytes)")
        return _read(file, None, window, max_pixels)


def _read(
    path: Source, page: int | None, window: dicom.Window | None, max_pixels: int
) -> Image.Image:
    if dicom.is_dicom(path):
        rgb = dicom.read_frame(path, page or 1, window, max_pixels)
        turn, several = None, "frames" if dicom.frame_count(path) > 1 else ""
    else:
        with opened(path, page, max_pixels) as image:
            deep = is_deep(path, image)  # before its EXIF is read, for which Pillow loads a PNG
            stored = _orientation(image)
            turn, several = _EXIF_TURNS.get(stored or 1), several_in(path, image)
            image.load()  # also for deep files: Pillow notices truncation where OpenCV does not
            if is_planar(image):
                rgb, upright = array_to_rgb(read_planar(path, page or 1)), False
            else:
                rgb = _decode(path, image, page or 1, deep)
                upright = _turned_in_loading(image, stored)
            if turn is not None and not upright:
                rgb = rgb.transpose(turn)
    if turn is not None:
        rgb.info[TURN] = turn
    if several and page is None:
        rgb.info[SEVERAL] = several
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

    def laid_on(
        self, turn: Image.Transpose | None, fits: Callable[[np.ndarray], bool]
    ) -> tuple[np.ndarray, bool]:
        """The mask as it lies on its upright picture, and whether that is in doubt.

        A mask without EXIF lies as the file of its picture is stored, and is turned like it, unless
        it fits the upright picture alone. Where it fits both ways, that is a doubt.

        Args:
            turn: by which EXIF made the picture upright; None for not at all.
            fits: says whether a mask, bool (h, w), has the shape of the upright picture.
        """
        if turn is None or self.oriented:
            return self.marked, False
        as_stored = turned(self.marked, turn)
        return (as_stored, fits(self.marked)) if fits(as_stored) else (self.marked, False)


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
    with reading(path):
        check_file(path)
        with opened(path, None, max_pixels) as image:
            stored = _orientation(image)
            marked, highest = _mask_values(image)
            if not _turned_in_loading(image, stored):
                marked = turned(marked, _EXIF_TURNS.get(stored or 1))
    return MaskFile(marked, highest, bool(stored))


def turned(mask: np.ndarray, turn: Image.Transpose | None) -> np.ndarray:
    """A mask, bool (H, W), turned as its picture was; ``turn`` None leaves it."""
    return mask if turn is None else np.asarray(Image.fromarray(mask).transpose(turn))


def _decode(path: Source, image: Image.Image, page: int, deep: bool) -> Image.Image:
    values = decode_deep(path, page) if deep else retyped(image)
    rgb = flatten_to_rgb(image) if values is None else array_to_rgb(values)
    rgb = rgb.copy() if rgb is image else rgb
    if white_is_zero(image):
        rgb = ImageOps.invert(rgb)
    rgb.info.clear()  # with its EXIF tag kept, other programs would rotate it again
    return rgb


def _orientation(image: Image.Image) -> int | None:
    """The orientation in EXIF, 1 to 8; None without one."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # a damaged EXIF block does not make the picture unreadable
        return None


def _turned_in_loading(image: Image.Image, stored: int | None) -> bool:
    """Whether a picture is upright as it is: Pillow turns a TIFF and forgets how it was stored, and
    OpenCV, whose pictures have no format, turns all that it reads."""
    return image.format is None or _orientation(image) != stored


def _mask_values(image: Image.Image) -> tuple[np.ndarray, float | None]:
    """The `marked` and `highest` of a MaskFile, not turned."""
    if image.format in ("JPEG", "MPO"):
        return np.asarray(image.convert("L")) > 127, None
    if white_is_zero(image):
        raise DataError("a mask whose white is zero and that has more than 8 bits; save it with 8")
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
