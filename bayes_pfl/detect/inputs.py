"""Images as users give them, ready for the model: paths, Pillow images, arrays, tensors.

Symbols: S the model's image side.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np
from PIL import Image
from torch import Tensor

from bayes_pfl.data.by_parts import read_by_parts
from bayes_pfl.data.dicom import Window
from bayes_pfl.data.images import SEVERAL, TURN, read_image
from bayes_pfl.data.large_tiff import LargePage
from bayes_pfl.data.pages import Picture, page_numbers
from bayes_pfl.data.pixels import as_rgb
from bayes_pfl.data.records import DatasetWarning
from bayes_pfl.data.roi import PictureRoi
from bayes_pfl.data.roi_files import AnyRoi, roi_of
from bayes_pfl.data.tiles import Cutting, TileSettings, Tiling, tiles_of
from bayes_pfl.data.transforms import resize_image
from bayes_pfl.errors import DataError

ImageLike: TypeAlias = "str | os.PathLike[str] | Image.Image | np.ndarray | Tensor"
Item = TypeVar("Item")


@dataclass(frozen=True)
class Loaded:
    """An image on its way: what the model needs, and what the result keeps.

    Attributes:
        pixels: uint8 (S, S, 3).
        size: (width, height) of the picture.
        path: of a file.
        image: the picture, mode RGB, if it came from memory.
        tiling, tiles: how a large picture is cut, and its tiles; else None, and none.
        roi: the region of interest; ``pixels`` and ``tiles`` are then those of its rectangle.
        large: a page of a TIFF file that is too large to be decoded at once.
    """

    pixels: np.ndarray
    size: tuple[int, int]
    path: str | None
    image: Image.Image | None
    tiling: Tiling | None = None
    tiles: Iterable[Cutting] = ()
    roi: PictureRoi | None = None
    large: LargePage | None = None

    @property
    def title(self) -> str:
        """The file, for people; empty for an image from memory."""
        return self.path or ""


def batched(items: Iterable[Item], count: int) -> Iterator[list[Item]]:
    """Lists of ``count`` items, the last one perhaps shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, count)):
        yield batch


def load_pixels(
    image: ImageLike,
    index: int,
    side: int,
    window: Window | None = None,
    tiles: TileSettings | None = None,
    roi: AnyRoi | None = None,
    by_parts: bool = False,
) -> Loaded:
    """Read an image and resize it to (S, S).

    Warns (`DatasetWarning`) of a file of several pages or frames, of which the first is read.

    Args:
        index: names an image from memory in messages.
        window: of DICOM values; None for the file's own.
        tiles: how large images are cut; None to score whole images only.
        roi: the region of interest, which the image is cropped to; None for the whole image.
        by_parts: as of :func:`bayes_pfl.data.decoding.decode`.

    Raises:
        DataError: it cannot be read.
    """
    if isinstance(image, str | os.PathLike):
        path, file = os.fspath(image), Path(image)
        if (by_parts or tiles) and (part := read_by_parts(Picture(file), side, tiles, roi)):
            _warn_of_first(path, "pages" if page_numbers(file) else "")
            cut = part.tiling, part.tiles
            return Loaded(part.pixels, part.page.size, path, None, *cut, part.roi, part.page)
        rgb = read_image(image, window=window)
        _warn_of_first(path, rgb.info.get(SEVERAL, ""))
        spot = roi_of(roi, file, rgb.size, rgb.info.get(TURN))
        return _loaded(rgb, side, path, tiles, spot)
    try:
        rgb = as_rgb(image)
        return _loaded(rgb, side, None, tiles, roi_of(roi, None, rgb.size))
    except DataError as error:
        raise DataError(f"image {index}: {error}") from error


def _warn_of_first(path: str, several: str) -> None:
    if several:
        warnings.warn(
            f"{path}: holds several {several}, of which the first is read; "
            "bayes_pfl.data.pages.read_pages gives all",
            DatasetWarning,
            stacklevel=3,
        )


def _loaded(
    rgb: Image.Image,
    side: int,
    path: str | None,
    tiles: TileSettings | None,
    spot: PictureRoi | None,
) -> Loaded:
    seen = spot.crop(rgb) if spot else rgb
    cut = tiles_of(seen, tiles, spot.touches) if spot else tiles_of(seen, tiles)
    image = rgb if path is None else None
    return Loaded(resize_image(seen, side), rgb.size, path, image, *cut, spot)
