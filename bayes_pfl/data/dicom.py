"""DICOM files -> 8-bit RGB, through pydicom (the extra ``medical``): window, inversion, colours."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bayes_pfl.data.memory_file import MemoryFile, Source
from bayes_pfl.data.pixels import array_to_rgb, to_uint8
from bayes_pfl.errors import DataError
from bayes_pfl.support.error_text import error_reason

SUFFIXES = (".dcm", ".dicom")
MEND = "pip install 'bayes-pfl[medical]'"
Window = tuple[float, float]
"""Centre and width of the values that are shown, from black to white."""

_MAGIC, _MAGIC_AT = b"DICM", 128
_META_GROUP = 2
_DEFLATED = "1.2.840.10008.1.2.1.99"
_LONG = 2**16  # bytes of a value that is read only if it is asked for
_ROWS_AT_ONCE = 256  # windows are computed in double precision
_BEYOND = 1e12  # any value: what a window makes of it is its white
_PER_FRAME = ("PixelValueTransformationSequence", "FrameVOILUTSequence")


@functools.cache
def can_read_dicom() -> bool:
    """Whether pydicom is installed."""
    return importlib.util.find_spec("pydicom") is not None


def is_named_by_number(path: Path) -> bool:
    """Whether a name has no suffix, or one of digits, as of UIDs: DICOM files are called so."""
    suffix = path.suffix
    return not suffix or suffix[1:].isdigit()


def is_dicom(path: Source) -> bool:
    """Whether a file begins as DICOM files do; false for one that cannot be opened."""
    if not path.is_file():  # reading a pipe waits
        return False
    try:
        with path.open("rb") as file:
            file.seek(_MAGIC_AT)
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def frame_count(path: Source) -> int:
    """Frames that the header declares; 1 if it says nothing.

    Raises:
        Exception: what pydicom raises for a damaged file.
    """
    header = _header(path, specific_tags=["NumberOfFrames"])
    return max(1, int(header.get("NumberOfFrames") or 1))


def read_frame(path: Source, frame: int, window: Window | None, max_pixels: int) -> Image.Image:
    """One frame as a picture of mode RGB; no other frame is decoded.

    Grey values go through the modality's table or slope, then through ``window`` or the first
    window or table that the file holds; without either, by the rules of `pixels.to_uint8`.
    MONOCHROME1 is inverted, palettes and YBR become RGB.

    Args:
        frame: its number, from 1.

    Raises:
        DataError: without pydicom, pixels, or the decoder of its compression; too many pixels; a
            window that cannot be used.
        Exception: what pydicom raises for a damaged file.
    """
    if not can_read_dicom():
        raise DataError(f"a DICOM file, which needs pydicom; {MEND}")
    from pydicom.pixels import apply_color_lut

    header = _header(path, defer_size=_LONG)
    _check(header, max_pixels)
    values = _pixels(path, header, frame)
    kind = header.get("PhotometricInterpretation", "MONOCHROME2")
    if kind == "PALETTE COLOR":
        return array_to_rgb(apply_color_lut(values, header))
    if not kind.startswith("MONOCHROME"):
        return array_to_rgb(values)
    _take_over_frame(header, frame)
    grey = _grey(values, header, window)
    return array_to_rgb(255 - grey if kind == "MONOCHROME1" else grey)


def _header(path: Source, **options: Any) -> Any:
    """What a file says before its pixels."""
    from pydicom import dcmread
    from pydicom.filereader import read_dataset

    with path.open("rb") as file:
        file.seek(_MAGIC_AT + len(_MAGIC))
        meta = read_dataset(file, False, True, stop_when=lambda tag, *_: tag.group != _META_GROUP)
    # pydicom unpacks such a file as a whole, whatever becomes of it.
    if meta.get("TransferSyntaxUID") == _DEFLATED:
        raise DataError("deflated DICOM files are not read; save it without deflation")
    if isinstance(path, MemoryFile):  # what is there already need not be left for later
        return dcmread(path.open(), stop_before_pixels=True, **options | {"defer_size": None})
    return dcmread(path, stop_before_pixels=True, **options)


def _check(header: Any, max_pixels: int) -> None:
    rows, columns = header.get("Rows"), header.get("Columns")
    if not rows or not columns:
        raise DataError("a DICOM file without pixels, such as a report; leave it out")
    if rows * columns > max_pixels:
        raise DataError(f"{columns}x{rows} is more than {max_pixels} pixels; reduce it")


def _pixels(path: Source, header: Any, frame: int) -> np.ndarray:
    """(H, W) or (H, W, 3) of one frame, as stored."""
    from pydicom.pixels import get_decoder, pixel_array

    syntax = header.file_meta.get("TransferSyntaxUID")
    if syntax is not None and syntax.is_compressed:
        try:
            known = get_decoder(syntax).is_available
        except NotImplementedError:
            known = False
        if not known:
            raise DataError(
                f"compressed as {syntax.name}, for which no decoder is installed; pip install "
                "python-gdcm, or save it uncompressed"
            )
    try:
        file = path.open() if isinstance(path, MemoryFile) else path
        values = pixel_array(file, index=frame - 1)
    except AttributeError as error:
        raise DataError(f"a DICOM file without pixels ({error_reason(error)})") from error
    return values.astype(bool) if header.get("BitsStored") == 1 else values


def _take_over_frame(header: Any, frame: int) -> None:
    """Put what the frame itself says of its values where pydicom looks for it."""
    shared = header.get("SharedFunctionalGroupsSequence") or []
    own = header.get("PerFrameFunctionalGroupsSequence") or []
    for group in (*shared[:1], *own[frame - 1 : frame]):
        for name in _PER_FRAME:
            for item in (group.get(name) or [])[:1]:
                header.update(item)


def _grey(values: np.ndarray, header: Any, window: Window | None) -> np.ndarray:
    """Values of a grey picture, (H, W) -> uint8 (H, W), before an inversion."""
    from pydicom.pixels import apply_modality_lut, apply_voi_lut, apply_windowing

    table = window is None and bool(header.get("VOILUTSequence"))
    if window is not None:
        header.WindowCenter, header.WindowWidth = window
        header.VOILUTFunction = "LINEAR_EXACT"
    if not table and (header.get("WindowCenter") is None or header.get("WindowWidth") is None):
        return to_uint8(apply_modality_lut(values, header))
    grey = np.empty(values.shape, np.uint8)
    try:
        with np.errstate(over="ignore"):  # of a sigmoid
            low, high = _ends(header, table)
        for start in range(0, len(values), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            part = apply_modality_lut(values[rows], header)
            part = np.rint(part).astype(np.int32) if table else part
            shown = apply_voi_lut(part, header) if table else apply_windowing(part, header)
            grey[rows] = np.rint((shown - low) * (255 / (high - low))).clip(0, 255)
    except (ValueError, TypeError, NotImplementedError, AttributeError, IndexError) as error:
        reason = error_reason(error)
        raise DataError(f"its window cannot be used ({reason}); give --window CENTRE,WIDTH") from (
            error
        )
    return grey


def _ends(header: Any, table: bool) -> tuple[float, float]:
    """The values that a table or window makes of black and white."""
    from pydicom.pixels import apply_windowing

    if table:
        return 0.0, 2.0 ** header.VOILUTSequence[0].LUTDescriptor[2] - 1
    low, high = sorted(apply_windowing(np.array([-_BEYOND, _BEYOND]), header).tolist())
    return low, high
