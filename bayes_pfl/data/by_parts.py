"""A page that is too large to be decoded at once, as the model and a person see it.

Symbols: S model's image side.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from bayes_pfl.data.large_tiff import LargePage
from bayes_pfl.data.pages import Picture, large_page
from bayes_pfl.data.roi import PictureRoi
from bayes_pfl.data.roi_files import AnyRoi, roi_of
from bayes_pfl.data.tiles import Cutting, TileSettings, Tiling
from bayes_pfl.data.transforms import resize_image


@dataclass(frozen=True)
class ByParts:
    """A large page.

    Attributes:
        shown: all of it, mode RGB, its longer side about 2048 pixels.
        pixels: of all of it, or of the rectangle of its region of interest, uint8 (S, S, 3).
        tiling, tiles: of the same; None and nothing where no tile is asked for, or one covers all.
    """

    page: LargePage
    shown: Image.Image
    pixels: np.ndarray
    tiling: Tiling | None
    tiles: Iterable[Cutting]
    roi: PictureRoi | None


def read_by_parts(
    picture: Picture, image_size: int, settings: TileSettings | None, roi: AnyRoi | None
) -> ByParts | None:
    """A page of a TIFF file that has more pixels than are decoded at once; None for others.

    Args:
        image_size: S.
        settings: how it is cut; None for no tiles.

    Raises:
        DataError: it cannot be read a part at a time, is damaged, or has no region of interest.
    """
    large = large_page(picture)
    if large is None:
        return None
    page, shown = large.overview()
    spot = roi_of(roi, picture.path, page.size)
    seen = page.small(spot.box) if spot else shown
    size = spot.crop_size if spot else page.size
    tiling = settings.tiling(size) if settings else None
    if tiling is not None and not tiling.tiles(size):
        tiling = None
    tiles = page.tiles(tiling, image_size, spot) if tiling else ()
    return ByParts(page, shown, resize_image(seen, image_size), tiling, tiles, spot)
