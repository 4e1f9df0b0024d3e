"""Files of pictures that are stored on their side, with a tag that says how."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile

STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright),
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}
"""What is stored of an upright picture (H, W[, 3]), by the number of its orientation."""


def write_turned_tiff(
    path: Path,
    *pages: np.ndarray,
    orientation: int,
    compression: str | None = None,
    planarconfig: str | None = None,
) -> Path:
    """A TIFF file of pages that are these when upright."""
    with tifffile.TiffWriter(path) as file:
        for upright in pages:
            stored = STORED[orientation](upright)
            stored = np.moveaxis(stored, -1, 0) if planarconfig == "separate" else stored
            file.write(
                np.ascontiguousarray(stored),
                planarconfig=planarconfig,
                photometric="rgb" if upright.ndim == 3 else "minisblack",
                compression=compression,
                extratags=[(274, "H", 1, orientation, True)],
                metadata=None,
            )
    return path
