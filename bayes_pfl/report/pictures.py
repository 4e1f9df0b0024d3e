"""The small pictures of a report: an image, its overlay, map and uncertainty in one file.

The panels stand side by side, so that a page loads one file per image and shows any part of it.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

from bayes_pfl.detect.overlays import (
    COLOUR_MAP,
    MASK_LINE,
    ROI_LINE,
    UNCERTAINTY_COLOUR_MAP,
    blend,
    fitted,
    label_font,
    mark_regions,
    outline,
    plain_text,
    shorten,
    spread_limits,
    stretched,
    widened,
)
from bayes_pfl.detect.regions import Region
from bayes_pfl.detect.results import NearestNormal
from bayes_pfl.errors import ConfigError
from bayes_pfl.report.crops import Cut, crops_of
from bayes_pfl.support.files import (
    raising_not_written,
    reason_unless_disk_full,
    write_atomically,
    write_picture,
)

FOLDER = "report"
"""Below the run's folder; holds pictures/."""

PANELS = ("image", "overlay", "map", "uncertainty")
FEW = 200
"""A report of up to this many images is one file, and its pictures are larger."""

_SIDE_OF_FEW, _SIDE_OF_MANY = 384, 256
_QUALITY, _EFFORT = 78, 2
_AROUND, _LINE = 7, 2  # a thinner line loses its colour in WebP
_SETTINGS = "settings.json"
_NAME = re.compile(r"[0-9a-f]{24}(\.near|\.crops)?\.webp")
_NEAR_SIDE, _NEAR_GAP, _CAPTION = 200, 8, 34


def picture_name(path: str, dataset: str = "") -> str:
    """Name of the file for an image: a hash, because names of images may hold any character.

    >>> picture_name("left/a.jpg")
    'a1f37b487bab1a419398fa71.webp'
    """
    text = f"{dataset}\0{path}".encode("utf-8", "surrogateescape")
    return f"{hashlib.sha256(text).hexdigest()[:24]}.webp"


def nearest_name(name: str) -> str:
    """Name of the file that shows what of the references is nearest, for a picture's name."""
    return name.removesuffix(".webp") + ".near.webp"


def crops_name(name: str) -> str:
    """Name of the file that shows the strongest regions, for a picture's name."""
    return name.removesuffix(".webp") + ".crops.webp"


def picture_limits(out: Path) -> tuple[float, float]:
    """Map values at the two ends of the colours of a run's pictures; (0, 1) if not known."""
    try:
        text = (out / FOLDER / "pictures" / _SETTINGS).read_text(encoding="utf-8")
        low, high = json.loads(text)["limits"]
        return float(low), float(high)
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0, 1.0


@dataclass(frozen=True)
class ReportPictures:
    """Writes the pictures of a run; several threads may do so at once; none stays in memory.

    Attributes:
        out: the run's folder.
        limits: map values at the two ends of the colours.
        count: number of images of the run: of many, the pictures are smaller.
    """

    out: Path
    limits: tuple[float, float]
    count: int

    @property
    def folder(self) -> Path:
        """The folder of the files."""
        return self.out / FOLDER / "pictures"

    @property
    def side(self) -> int:
        """Longer side of a panel, in pixels."""
        return _SIDE_OF_FEW if self.count <= FEW else _SIDE_OF_MANY

    def prepare(self, key: str = "") -> None:
        """Make the folder; remove the pictures of an earlier run, unless it had the same ``key``.

        Raises:
            ConfigError: it cannot be made or written.
        """
        note = json.dumps({"key": key, "limits": list(self.limits)}) + "\n"
        mend = "choose another output folder, or leave the report out"
        with raising_not_written(self.folder, mend, ConfigError):
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / _SETTINGS
            if key and path.is_file() and path.read_text(encoding="utf-8") == note:
                return
            for old in self.folder.iterdir():
                if _NAME.fullmatch(old.name):
                    old.unlink()
            write_atomically(path, note)

    def write(
        self,
        name: str,
        picture: np.ndarray,
        anomaly_map: np.ndarray,
        spread: np.ndarray,
        mask: np.ndarray | None = None,
        area: np.ndarray | None = None,
        roi: np.ndarray | None = None,
    ) -> str | None:
        """Write one image's file.

        Args:
            name: as :func:`picture_name` gives it.
            picture: uint8 (h, w, 3), no smaller than the panels if the image is not.
            anomaly_map: float (S, S) in [0, 1].
            spread: float (S, S) in [0, 0.5].
            mask: bool (h, w), the true anomalous area.
            area: bool (h, w), the pixels of regions.
            roi: bool (h, w), the region of interest.

        Returns:
            Why the file was not written; None if it was.

        Raises:
            OSError: the disk is full.
        """
        try:
            data = strip(picture, anomaly_map, spread, self.limits, self.side, mask, area, roi)
            write_picture(self.folder / name, data)
        except Exception as error:  # one picture must not end a run over thousands of images
            return f"picture of the report not written: {reason_unless_disk_full(error)}"
        return None

    def write_nearest(
        self, name: str, picture: np.ndarray, size: tuple[int, int], near: NearestNormal
    ) -> str | None:
        """Write the most anomalous place of an image next to the most similar of the references.

        Args:
            name: as :func:`picture_name` gives it.
            picture: uint8 (h, w, 3), the whole image, perhaps made smaller.
            size: (width, height) of the image itself.

        Returns:
            Why the file was not written; None if it was.

        Raises:
            OSError: the disk is full.
        """
        try:
            page = side_by_side(Image.fromarray(picture), size, near)
            write_picture(self.folder / nearest_name(name), _webp(page))
        except Exception as error:  # as in write
            return f"nearest normal region not written: {reason_unless_disk_full(error)}"
        return None

    def write_crops(
        self, name: str, cut: Cut, size: tuple[int, int], regions: Sequence[Region]
    ) -> str | None:
        """Write the strongest regions of an image at full resolution.

        Args:
            name: as :func:`picture_name` gives it.
            cut: gives parts of the image, see :data:`bayes_pfl.report.crops.Cut`.
            size: (width, height) of the image.
            regions: the most anomalous first.

        Returns:
            Why the file was not written; None if it was.

        Raises:
            OSError: the disk is full.
        """
        try:
            write_picture(self.folder / crops_name(name), crops_of(cut, size, regions))
        except Exception as error:  # as in write
            return f"strongest regions not written: {reason_unless_disk_full(error)}"
        return None

    def add(self, pictures: Mapping[str, bytes]) -> None:
        """Write pictures that other processes have drawn, by file name.

        Raises:
            OSError: the folder cannot be written.
        """
        for name, content in pictures.items():
            write_picture(self.folder / name, content)


def side_by_side(picture: Image.Image, size: tuple[int, int], near: NearestNormal) -> Image.Image:
    """The two regions of :class:`NearestNormal`, with the distance below, 408×234.

    Args:
        picture: the whole image, perhaps made smaller.
        size: (width, height) of the image itself.
    """
    across, down = picture.width / size[0], picture.height / size[1]
    left, top, right, bottom = near.box
    box = (left * across, top * down, right * across, bottom * down)
    square = (_NEAR_SIDE, _NEAR_SIDE)
    regions = [
        picture.resize(square, Image.Resampling.BICUBIC, box),
        near.picture.resize(square, Image.Resampling.BICUBIC, near.reference_box),
    ]
    width = 2 * _NEAR_SIDE + _NEAR_GAP
    page = Image.new("RGB", (width, _NEAR_SIDE + _CAPTION), "white")
    for number, region in enumerate(regions):
        page.paste(region, (number * (_NEAR_SIDE + _NEAR_GAP), 0))
    draw, font = ImageDraw.Draw(page), label_font(12)
    middle = _NEAR_SIDE + _CAPTION / 2
    draw.text((4, middle), f"this image, distance {near.distance:.3f}", "black", font, anchor="lm")
    name = shorten(plain_text(near.name), font, _NEAR_SIDE - 4)
    draw.text((_NEAR_SIDE + _NEAR_GAP, middle), name, "black", font, anchor="lm")
    return page


def strip(
    picture: np.ndarray,
    anomaly_map: np.ndarray,
    spread: np.ndarray,
    limits: tuple[float, float],
    side: int,
    mask: np.ndarray | None = None,
    area: np.ndarray | None = None,
    roi: np.ndarray | None = None,
) -> bytes:
    """The four panels of :data:`PANELS` as one WebP file.

    Args:
        picture: uint8 (h, w, 3).
        anomaly_map: float (S, S) in [0, 1], stretched over the picture.
        spread: float (S, S) in [0, 0.5], likewise.
        limits: map values at the two ends of the colours.
        side: largest length of a panel's longer side, in pixels.
        mask: bool (h, w); a line is drawn around it on the overlay.
        area: bool (h, w); its parts are outlined, or ringed, on the overlay and the map.
        roi: bool (h, w); outlined on the overlay.
    """
    height, width = picture.shape[:2]
    size = fitted((width, height), min(side, max(height, width)))
    small = cv2.resize(np.ascontiguousarray(picture), size, interpolation=cv2.INTER_AREA)
    heat = stretched(anomaly_map, size)
    overlay, coloured = blend(small, heat, limits), _coloured(heat, limits)
    if roi is not None:
        outline(overlay, roi, ROI_LINE, 1)
    if area is not None:
        for panel in (overlay, coloured):
            mark_regions(panel, area, _LINE)
    if mask is not None and mask.any():
        outline(overlay, widened(mask, size, _AROUND), MASK_LINE, _LINE)
    panels = [
        small,
        overlay,
        coloured,
        blend(small, stretched(spread, size), spread_limits(limits), UNCERTAINTY_COLOUR_MAP),
    ]
    return _webp(Image.fromarray(np.concatenate(panels, axis=1)))


def _webp(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=_QUALITY, method=_EFFORT)
    return buffer.getvalue()


def _coloured(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    low, high = limits
    level = np.clip((values - low) * (255 / max(high - low, 1e-6)), 0, 255).astype(np.uint8)
    return colours(COLOUR_MAP)[level]


@lru_cache(maxsize=4)
def colours(name: str) -> np.ndarray:
    """uint8 (256, 3): a colour map of matplotlib, from low to high."""
    from matplotlib import colormaps

    return np.rint(colormaps[name](np.arange(256))[:, :3] * 255).astype(np.uint8)
