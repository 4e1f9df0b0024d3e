"""TIFF pictures whose numbers Pillow and OpenCV read otherwise than the file's tags say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from bayes_pfl.data.memory_file import Source
from bayes_pfl.errors import DataError

_SEPARATE = 2  # of PlanarConfiguration: one channel after the other
_UNSIGNED, _SIGNED = 1, 2  # of SampleFormat: whole numbers


def is_planar(image: Image.Image) -> bool:
    """Whether channels of more than 8 bits lie one after the other: see :func:`read_planar`."""
    tags = _tags(image)
    separate = tags.get(ExifTags.Base.PlanarConfiguration) == _SEPARATE
    return separate and len(image.getbands()) > 1 and _bits(tags) > 8


def white_is_zero(image: Image.Image) -> bool:
    """Whether the lowest value is white; Pillow turns such values round itself up to 8 bits."""
    tags = _tags(image)
    return _bits(tags) > 8 and tags.get(ExifTags.Base.PhotometricInterpretation) == 0


def retyped(image: Image.Image) -> np.ndarray | None:
    """The values of a loaded picture, (H, W), where Pillow took signed numbers of 8 bits for
    unsigned ones, or unsigned ones of 32 bits for signed ones; None for all others."""
    tags = _tags(image)
    form = tags.get(ExifTags.Base.SampleFormat, (_UNSIGNED,))[0]
    if image.mode == "L" and form == _SIGNED and _bits(tags) == 8:
        return np.asarray(image).view(np.int8)
    if image.mode == "I" and form == _UNSIGNED and _bits(tags) == 32:
        return np.asarray(image).view(np.uint32)
    return None


def read_planar(path: Source, page: int) -> np.ndarray:
    """A page whose channels lie one after the other, (H, W, C), as stored.

    Args:
        page: from 1.

    Raises:
        DataError: compressed in a way for which another package is needed.
    """
    from tifffile import TiffFile

    with path.open("rb") as file, TiffFile(file) as tiff:
        found: Any = tiff.pages[page - 1]
        with codecs_named(found):
            return np.moveaxis(found.asarray(), 0, -1)


@contextmanager
def codecs_named(page: Any) -> Iterator[None]:
    """Within, tifffile's complaint that a page's codec is missing becomes one that names the mend.

    Raises:
        DataError: the codec is missing.
    """
    try:
        yield
    except (ImportError, ValueError) as error:
        if "imagecodecs" not in str(error):
            raise
        raise DataError(
            f"compressed by {page.compression.name}, for which the extra large is needed: pip "
            'install "bayes-pfl[large]"'
        ) from error


def _tags(image: Image.Image) -> dict[int, Any]:
    return getattr(image, "tag_v2", None) or {}


def _bits(tags: dict[int, Any]) -> int:
    return max(tags.get(ExifTags.Base.BitsPerSample, (1,)))
