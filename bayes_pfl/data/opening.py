"""Image files opened: refused at once where they cannot be read, and every fault as one line."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin

from bayes_pfl.data.memory_file import MemoryFile, Source
from bayes_pfl.data.pixels import array_to_rgb
from bayes_pfl.data.tiff import MAX_PAGES, TiffFrom, tiff_pages
from bayes_pfl.errors import DataError, ImageReadError
from bayes_pfl.support.error_text import error_reason
from bayes_pfl.support.run_names import page_title

MAX_PIXELS = 178_956_970
"""Images with more pixels are refused: Pillow's own limit against decompression bombs."""

# Listed, because Pillow would otherwise give a PostScript file named .png to Ghostscript.
_FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")

_MEND = "reduce it; fit and predict read a TIFF in parts, with --tile"

_DEEPEST = 65535
_TIFF_MAGIC = (b"II*\x00", b"MM\x00*")
_JPEG2000_MAGIC = (b"\x00\x00\x00\x0cjP", b"\xff\x4f\xff\x51")
_DEEP_MAGIC = (b"\x89PNG", *_TIFF_MAGIC, b"II+\x00", b"MM\x00+", *_JPEG2000_MAGIC, b"P3", b"P6")
_IMAGE_MAGIC = (b"\xff\xd8\xff", b"GIF8", b"RIFF", *_DEEP_MAGIC)


@contextlib.contextmanager
def reading(path: Source, page: int | None = None) -> Iterator[None]:
    """Within, whatever is raised becomes an ImageReadError that names the file and its page."""
    name = page_title(str(path), page)
    try:
        yield
    except ImageReadError:
        raise
    except DataError as error:
        raise ImageReadError(f"{name}: {error}") from error
    except Exception as error:  # decoders of damaged files raise almost anything
        reason = error_reason(error)
        if isinstance(error, OSError) and error.strerror:  # from the system, not from a decoder
            raise ImageReadError(f"{name}: cannot be read: {reason}") from error
        raise ImageReadError(f"{name}: damaged or cut short ({reason})") from error


def check_file(path: Path, page: int | None = None) -> None:
    """Raise DataError unless this is a regular file that is not empty, and a page within limits."""
    if page is not None and page > MAX_PAGES:
        raise DataError(f"only {MAX_PAGES} pages of a file are read; split it")
    if not path.is_file():
        state = "no such file"
        if path.exists():  # reading a pipe waits, a device never ends
            state = "is a folder, not an image" if path.is_dir() else "is not a regular file"
        raise DataError(state)
    if path.stat().st_size == 0:
        raise DataError("the file is empty (0 bytes)")


@contextlib.contextmanager
def _source(path: Source, page: int | None) -> Iterator[BinaryIO | TiffFrom]:
    """What a reader of first pictures opens to read this page.

    No path: Pillow maps some files into memory, and a TIFF that is stored on its side wrongly so.
    """
    if isinstance(path, MemoryFile):
        yield path.open()
        return
    pages = None if page is None else tiff_pages(path)
    if page is None or (pages is None and page == 1):
        with path.open("rb") as file:
            yield file
        return
    if pages is None or page not in pages.offsets:
        cut = pages is not None and pages.missing is not None and page >= pages.missing
        raise DataError("damaged or cut short before this page" if cut else "no such page")
    with TiffFrom(path, pages.offsets[page]) as source:
        yield source


def several_in(path: Source, image: Image.Image) -> str:
    """What an opened file holds several of: "pages", "frames" or nothing."""
    if image.format == "TIFF":
        pages = tiff_pages(path)
        return "pages" if pages and len(pages.offsets) > 1 else ""
    # The further pictures of an MPO are other views of the first, made by the camera.
    animated = getattr(image, "is_animated", False) and image.format != "MPO"
    return "frames" if animated else ""


@contextlib.contextmanager
def opened(path: Source, page: int | None, max_pixels: int) -> Iterator[Image.Image]:
    """A picture of a file, not decoded yet.

    Args:
        page: of a TIFF, from 1; None for the first picture, the only one that is read of a file in
            memory.

    Raises:
        DataError: no image, too many pixels, no such page.
    """
    with _source(path, page) as source:
        try:
            image = _identify(path, source, max_pixels, page or 1)
        except Image.DecompressionBombError as error:
            raise DataError(f"too many pixels to decode safely; {_MEND}") from error
        with image:
            if image.width * image.height > max_pixels:
                size = f"{image.width}x{image.height}"
                raise DataError(f"{size} is more than {max_pixels} pixels; {_MEND}")
            yield image


def _identify(path: Source, source: BinaryIO | TiffFrom, max_pixels: int, page: int) -> Image.Image:
    Image.init()
    try:
        return Image.open(source, formats=[name for name in _FORMATS if name in Image.OPEN])
    except Image.UnidentifiedImageError as error:
        # OpenCV reads some files that Pillow does not, such as colour TIFFs of floats.
        with path.open("rb") as file:
            start = file.read(4)
        if start in _TIFF_MAGIC:
            return _read_by_opencv(path, source, max_pixels, page)
        if start.startswith(_IMAGE_MAGIC):
            raise DataError("damaged or cut short (its header cannot be read)") from error
        raise DataError("not an image, or of a kind unknown here") from error


def _read_by_opencv(
    path: Source, source: BinaryIO | TiffFrom, max_pixels: int, page: int
) -> Image.Image:
    """A TIFF, mode RGB, as OpenCV has turned it upright; its EXIF says how it was stored.

    Raises:
        DataError: OpenCV cannot read it, or it has too many pixels.
    """
    source.seek(0)
    tags = TiffImagePlugin.ImageFileDirectory_v2(source.read(8))
    source.seek(tags.next)
    tags.load(source)
    width, height = int(tags[ExifTags.Base.ImageWidth]), int(tags[ExifTags.Base.ImageLength])
    if width * height > max_pixels:  # OpenCV would allocate memory for any number
        raise DataError(f"{width}x{height} is more than {max_pixels} pixels; {_MEND}")
    values = decode_deep(path, page)
    if values is None:
        raise DataError(
            "a TIFF that is damaged or of a kind that is not read; save it with whole numbers of 8 "
            "or 16 bits, or floats of 32"
        )
    image = array_to_rgb(values)
    if values.ndim == 2 and tags.get(ExifTags.Base.PhotometricInterpretation) == 0:  # zero is white
        image = ImageOps.invert(image)
    image.getexif()[ExifTags.Base.Orientation] = tags.get(ExifTags.Base.Orientation, 1)
    return image


def is_deep(path: Source, image: Image.Image) -> bool:
    """Whether a picture that is not loaded yet has colours of more than 8 bits.

    Pillow keeps their upper byte, so that 12-bit pictures would be black; of JPEG 2000 it makes
    white black.
    """
    if image.mode not in ("RGB", "RGBA", "LA"):
        return False
    if image.format == "JPEG2000":
        return _jpeg2000_bits(path) > 8
    tiles = getattr(image, "tile", [])  # of a PPM the last argument is the highest value
    if image.format == "PPM":
        return any(tile[3][-1] == _DEEPEST for tile in tiles)
    return ";16" in str(tiles)


def _jpeg2000_bits(path: Source) -> int:
    with path.open("rb") as file:
        start = file.read(4096)
    header, stream = start.find(b"ihdr"), start.find(_JPEG2000_MAGIC[1])
    bits = start[header + 14 : header + 15] if header >= 0 else start[stream + 42 : stream + 43]
    return 1 + (bits[0] & 127) if bits else 0


def decode_deep(path: Source, page: int) -> np.ndarray | None:
    """(H, W[, C]) in RGB order at full depth, read by OpenCV; None if it cannot read the file.

    Args:
        page: of a TIFF, from 1.
    """
    import cv2

    with path.open("rb") as file:
        if not file.read(6).startswith(_DEEP_MAGIC):
            return None
    log = cv2.utils.logging
    level = log.setLogLevel(log.LOG_LEVEL_SILENT)  # what it cannot read is said by the caller
    try:
        if isinstance(path, MemoryFile) or page == 1:
            values = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
        else:  # the pages before are passed over by their headers
            found = cv2.imreadmulti(os.fspath(path), page - 1, 1, flags=cv2.IMREAD_UNCHANGED)[1]
            values = found[0] if found else None
    finally:
        log.setLogLevel(level)
    if values is None or values.ndim == 2:
        return values
    order = [2, 1, 0, 3] if values.shape[2] == 4 else [2, 1, 0]
    return values[..., order] if values.shape[2] in (3, 4) else None
