"""The normal pictures that a profile is made of, and how large ones are cut.

Symbols: W×H pixels of a picture, S model's image side.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image

from bayes_pfl.data.decoding import Decoded
from bayes_pfl.data.images import read_image
from bayes_pfl.data.large_tiff import LargePage
from bayes_pfl.data.pixels import as_rgb
from bayes_pfl.data.roi import PictureRoi
from bayes_pfl.data.tiles import Cutting, TileSettings, Tiling, auto_tiling, tiles_of
from bayes_pfl.detect.inputs import ImageLike, Loaded, load_pixels
from bayes_pfl.detect.references import picture_digest
from bayes_pfl.detect.settings import ScoringSettings
from bayes_pfl.errors import DataError

_SHOWN_SIDE = 2048  # of the copies of large pictures


@dataclass(frozen=True)
class NormalPicture:
    """A normal picture.

    Attributes:
        pixels: as the model sees the whole, uint8 (S, S, 3).
        size: (W, H).
        read: reads the picture, mode RGB; None for one of an earlier profile.
        roi: its region of interest; all of the above is then of the rectangle around it.
        large: the page, if it is too large for ``read``.
    """

    name: str
    pixels: np.ndarray
    size: tuple[int, int]
    read: Callable[[], Image.Image] | None
    roi: PictureRoi | None = None
    large: LargePage | None = None

    @classmethod
    def of(
        cls,
        name: str,
        item: Decoded | Loaded,
        read: Callable[[], Image.Image] | None,
    ) -> NormalPicture:
        """From a picture that was read; ``read`` reads all of it again."""
        assert item.pixels is not None and item.size is not None
        if (roi := item.roi) is None:
            return cls(name, item.pixels, item.size, read, None, item.large)
        part = None if read is None else partial(_rectangle, read, roi)
        return cls(name, item.pixels, roi.crop_size, part, roi, item.large)

    @property
    def inside(self) -> np.ndarray | None:
        """The pixels that count, bool (S, S); None for all."""
        return self.roi.inside((len(self.pixels),) * 2) if self.roi else None

    def cut(self, settings: TileSettings) -> tuple[Tiling | None, Iterable[Cutting]]:
        """The tiling and the tiles, as :func:`bayes_pfl.data.tiles.tiles_of` gives them."""
        tiling = settings.tiling(self.size)
        if self.read is None or not tiling.tiles(self.size):
            return None, []
        if self.large:
            return tiling, self.large.tiles(tiling, settings.image_side, self.roi)
        if self.roi:
            return tiles_of(self.read(), settings, self.roi.touches)
        return tiles_of(self.read(), settings)

    def tile(self, settings: TileSettings, number: int) -> Image.Image:
        """The tile of this number among all of the picture, at its own size, mode RGB."""
        assert self.read is not None
        left, top, side = settings.tiling(self.size).tiles(self.size)[number]
        right, lower = min(left + side, self.size[0]), min(top + side, self.size[1])
        if self.large:
            x, y = self.roi.box[:2] if self.roi else (0, 0)
            return self.large.part((x + left, y + top, x + right, y + lower))
        return self.read().crop((left, top, right, lower))

    def loaded(self, settings: TileSettings | None) -> Loaded:
        """The picture as an input of the model."""
        cut = self.cut(settings) if settings else (None, [])
        size = self.roi.size if self.roi else self.size
        return Loaded(self.pixels, size, self.name, None, *cut, self.roi, self.large)

    def copy(self) -> bytes:
        """The picture with its longer side of 2048 pixels at most, as the bytes of a WEBP file."""
        if self.large:
            image = self.large.small(self.roi.box if self.roi else None)
        else:
            image = self.read() if self.read else Image.fromarray(self.pixels)
        image.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE))
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=85)
        return buffer.getvalue()


def _rectangle(read: Callable[[], Image.Image], roi: PictureRoi) -> Image.Image:
    return roi.crop(read())


def normal_picture(
    image: ImageLike, index: int, side: int, settings: ScoringSettings
) -> NormalPicture:
    """A picture as users give it: a path, Pillow image, array or tensor.

    Raises:
        DataError: it cannot be read, or has no region of interest.
    """
    window = settings.window
    by_parts = settings.tile is not None
    item = load_pixels(image, index, side, window, roi=settings.interest, by_parts=by_parts)
    name = item.path or f"image {index}"
    if item.path is not None:
        return NormalPicture.of(name, item, partial(read_image, item.path, window=window))
    return NormalPicture.of(name, item, partial(as_rgb, item.image) if item.image else None)


def in_order(pictures: Sequence[NormalPicture], digests: Sequence[str]) -> list[NormalPicture]:
    """The picture of each digest, see :func:`bayes_pfl.detect.references.picture_digest`."""
    known = {picture_digest(picture.pixels): picture for picture in pictures}
    return [known[digest] for digest in digests]


def tile_of_profile(
    pictures: Sequence[NormalPicture], settings: ScoringSettings, side: int
) -> int | None:
    """The side of the tiles of a profile: that of the settings, or by the pictures' median size.

    Raises:
        DataError: tiles so large that no picture has any.
    """
    if settings.tile is None:
        return None
    largest = max(max(picture.size) for picture in pictures)
    if isinstance(settings.tile, int):
        if largest <= settings.tile:
            raise DataError(
                f"tile = {settings.tile}: no picture is larger than that, the largest side "
                f"is {largest} pixels; give a smaller tile, or leave it out"
            )
        return settings.tile
    sizes = sorted((picture.size for picture in pictures), key=lambda size: size[0] * size[1])
    found = auto_tiling(sizes[len(sizes) // 2], side, settings.overlap).side
    return found if largest > found else None
