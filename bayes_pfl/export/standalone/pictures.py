"""Pictures of files, whatever their mode, as upright pictures of mode RGB; by Pillow alone."""

# This file is copied into the folders of `bayes-pfl export`, so that it imports nothing of
# bayes_pfl; the tests compare both, row by row.

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".jpe", ".jfif", ".gif"),
    *(".jp2", ".ppm", ".pgm", ".pbm", ".pnm", ".avif"),
)
_FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
_MOST_PIXELS = 178_956_970
_SUBFILE, _COPY_OR_MASK = 254, 5  # tag of a TIFF, and its bits for what is no page
_UNSIGNED, _SIGNED = 1, 2  # whole numbers, by the tag SampleFormat
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By the number in EXIF."""


def pages_of(path: Path) -> Iterator[tuple[int | None, Image.Image]]:
    """The upright pictures of a file, mode RGB, with their page; None in a file of one picture.

    Raises:
        Exception: as Pillow's decoders do.
    """
    Image.init()  # fills the list of what Pillow reads
    formats = [name for name in _FORMATS if name in Image.OPEN]
    # No path: Pillow maps some files into memory, and a TIFF that is stored on its side wrongly so.
    with path.open("rb") as file, Image.open(file, formats=formats) as image:
        frames = range(getattr(image, "n_frames", 1) if image.format == "TIFF" else 1)
        kinds = [_seek(image, at).get(_SUBFILE, 0) if len(frames) > 1 else 0 for at in frames]
        pages = [at for at in frames if at == 0 or not kinds[at] & _COPY_OR_MASK]
        for at in pages:
            if len(frames) > 1:
                _seek(image, at)
            yield (at + 1 if len(pages) > 1 else None), _decoded(image)


def _seek(image: Any, at: int) -> Any:
    image.seek(at)
    return image.tag_v2


def _decoded(image: Image.Image) -> Image.Image:
    if image.width * image.height > _MOST_PIXELS:
        raise ValueError(
            f"{image.width}x{image.height} is more than {_MOST_PIXELS} pixels; reduce it"
        )
    if wrong := _misread(image):
        raise ValueError(f"{wrong}: bayes-pfl predict reads it; or save 8 bits")
    image.load()
    try:  # after loading, in which Pillow turns a TIFF upright
        turn = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a damaged EXIF block does not make the picture unreadable
        turn = 1
    rgb = to_rgb(image)
    return rgb.transpose(_TURNS[turn]) if turn in _TURNS else rgb


def _misread(image: Image.Image) -> str:
    """What Pillow reads wrongly of a picture that is not loaded yet; empty for nothing."""
    tags = getattr(image, "tag_v2", None) or {}
    bits = max(tags.get(ExifTags.Base.BitsPerSample, (8,)))
    form = tags.get(ExifTags.Base.SampleFormat, (_UNSIGNED,))[0]
    tiles = getattr(image, "tile", [])
    deep = bits > 8 or ";16" in str(tiles) or _jpeg2000_bits(image) > 8
    if image.format == "PPM":  # the last argument is the highest value
        deep = any(tile[3][-1] == 65535 for tile in tiles)
    if image.mode in ("RGB", "RGBA", "LA") and deep:
        return "16 bits a channel in colour"
    if bits > 8 and tags.get(ExifTags.Base.PhotometricInterpretation) == 0:
        return f"{bits} bits, with zero for white"
    if (bits, form) in ((8, _SIGNED), (32, _UNSIGNED)):
        return f"{'signed' if form == _SIGNED else 'unsigned'} numbers of {bits} bits"
    return ""


def _jpeg2000_bits(image: Image.Image) -> int:
    """Of a channel; 0 for a picture of another format."""
    file = getattr(image, "fp", None)
    if image.format != "JPEG2000" or file is None:
        return 0
    place = file.tell()
    file.seek(0)
    start = file.read(4096)
    file.seek(place)
    header, stream = start.find(b"ihdr"), start.find(b"\xff\x4f\xff\x51")
    found = start[header + 14 : header + 15] if header >= 0 else start[stream + 42 : stream + 43]
    return 1 + (found[0] & 127) if found else 0


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode -> mode RGB; transparency on white, deep pictures by their depth."""
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_eight_bits(np.asarray(image))).convert("RGB")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _eight_bits(values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all():
        raise ValueError("pixel values are NaN or infinite; replace them by finite numbers")
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if low < 0 or high > 65535:
        wide = values.astype(np.float64)
        low, high = wide.min(), wide.max()
        return np.rint((wide - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)
    if values.dtype.kind == "f" and high <= 1:
        return np.rint(values * 255).astype(np.uint8)
    whole = np.rint(values).astype(np.uint32)
    if high <= 255:
        return whole.astype(np.uint8)
    return (whole >> 4 if high <= 4095 else (whole + 128) // 257).astype(np.uint8)
