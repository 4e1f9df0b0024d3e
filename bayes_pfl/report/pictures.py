"""The small pictures of a report: an image, its overlay, map and uncertainty in one file.

The panels stand side by side, so that a page loads one file per image and shows any part of it.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from bayes_pfl.detect.overlays import _DOUBT_SPAN, COLOUR_MAP, DOUBT_COLOUR_MAP, blend
from bayes_pfl.errors import ConfigError
from bayes_pfl.support.files import (
    raising_not_written,
    reason_unless_disk_full,
    write_atomically,
    write_picture,
)

FOLDER = "report"
"""Below the run's folder; holds pictures/."""

PANELS = ("image", "overlay", "map", "uncertainty")
MASK_LINE, _EDGE = (0, 190, 255), (0, 0, 0)

FEW = 200
"""Up to this many images a report is one file, and its pictures are larger."""

_SIDE_OF_FEW, _SIDE_OF_MANY = 384, 256
_QUALITY, _EFFORT = 78, 2
_AROUND = 7
_SETTINGS = "settings.json"
_NAME = re.compile(r"[0-9a-f]{24}\.webp")


def spread_limits(limits: tuple[float, float]) -> tuple[float, float]:
    """Standard deviations at the two ends of the uncertainty's colours, as overlays have them."""
    return 0.0, (limits[1] - limits[0]) * _DOUBT_SPAN


def picture_name(path: str, dataset: str = "") -> str:
    """Name of an image's file: a hash, for names of images may hold anything.

    >>> picture_name("left/a.jpg")
    'a1f37b487bab1a419398fa71.webp'
    """
    text = f"{dataset}\0{path}".encode("utf-8", "surrogateescape")
    return f"{hashlib.sha256(text).hexdigest()[:24]}.webp"


def picture_limits(out: Path) -> tuple[float, float]:
    """Map values at the two ends of the colours, as the run's pictures were drawn; else (0, 1)."""
    try:
        text = (out / FOLDER / "pictures" / _SETTINGS).read_text(encoding="utf-8")
        low, high = json.loads(text)["limits"]
        return float(low), float(high)
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0, 1.0


@dataclass(frozen=True)
class ReportPictures:
    """Writes the pictures of a run; safe from several threads, nothing is kept in memory.

    Attributes:
        out: the run's folder.
        limits: map values at the two ends of the colours.
        count: images of the run: of many, the pictures are smaller.
    """

    out: Path
    limits: tuple[float, float]
    count: int

    @property
    def folder(self) -> Path:
        """Where they lie."""
        return self.out / FOLDER / "pictures"

    @property
    def side(self) -> int:
        """Longer side of a panel, in pixels."""
        return _SIDE_OF_FEW if self.count <= FEW else _SIDE_OF_MANY

    def prepare(self, key: str = "") -> None:
        """Make the folder; pictures of an earlier run go, unless it had the same ``key``.

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
    ) -> str:
        """Write one image's file; returns why that failed, or an empty string.

        Args:
            name: as :func:`picture_name` gives it.
            picture: uint8 (h, w, 3), no smaller than the panels if the image is not.
            anomaly_map: float (S, S) in [0, 1].
            spread: float (S, S) in [0, 0.5].
            mask: bool (h, w), the true anomalous area.
        """
        try:
            data = strip(picture, anomaly_map, spread, self.limits, self.side, mask)
            write_picture(self.folder / name, data)
        except Exception as error:  # a picture must not cost the scores of thousands of others
            return f"picture of the report not written: {reason_unless_disk_full(error)}"
        return ""


def strip(
    picture: np.ndarray,
    anomaly_map: np.ndarray,
    spread: np.ndarray,
    limits: tuple[float, float],
    side: int,
    mask: np.ndarray | None = None,
) -> bytes:
    """The four panels of :data:`PANELS` as one WebP file.

    Args:
        picture: uint8 (h, w, 3).
        anomaly_map: float (S, S) in [0, 1], stretched over the picture.
        spread: float (S, S) in [0, 0.5], likewise.
        limits: map values at the two ends of the colours.
        side: of the longer side of a panel, at most.
        mask: bool (h, w), a line is drawn around it on the overlay.
    """
    height, width = picture.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(np.ascontiguousarray(picture), size, interpolation=cv2.INTER_AREA)
    heat = _stretched(anomaly_map, size)
    panels = [
        small,
        _outlined(blend(small, heat, limits), mask),
        _coloured(heat, limits),
        blend(small, _stretched(spread, size), spread_limits(limits), DOUBT_COLOUR_MAP),
    ]
    buffer = io.BytesIO()
    whole = Image.fromarray(np.concatenate(panels, axis=1))
    whole.save(buffer, "WEBP", quality=_QUALITY, method=_EFFORT)
    return buffer.getvalue()


def _outlined(picture: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """A line around the mask, not on its border: it would hide a thin crack altogether."""
    if mask is not None and mask.any():
        height, width = picture.shape[:2]
        area = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
        wider = cv2.dilate((area > 0).astype(np.uint8), np.ones((_AROUND, _AROUND), np.uint8))
        lines, _ = cv2.findContours(wider, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        for colour, thick in ((_EDGE, 4), (MASK_LINE, 2)):  # thinner ones lose their colour in WebP
            cv2.drawContours(picture, lines, -1, colour, thick)
    return picture


def _stretched(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return cv2.resize(np.asarray(values, np.float32), size, interpolation=cv2.INTER_LINEAR)


def _coloured(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    low, high = limits
    level = np.clip((values - low) * (255 / max(high - low, 1e-6)), 0, 255).astype(np.uint8)
    return colours(COLOUR_MAP)[level]


@lru_cache(maxsize=4)
def colours(name: str) -> np.ndarray:
    """uint8 (256, 3): a colour map of matplotlib, from low to high."""
    from matplotlib import colormaps

    return np.rint(colormaps[name](np.arange(256))[:, :3] * 255).astype(np.uint8)
