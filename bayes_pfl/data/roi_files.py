"""Regions of interest in files: a mask picture, polygons, or a folder of these by name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from PIL import Image

from bayes_pfl.data.image_files import readable_suffixes
from bayes_pfl.data.images import read_mask_file
from bayes_pfl.data.meta import confined
from bayes_pfl.data.polygons import read_polygons
from bayes_pfl.data.roi import PictureRoi, Roi
from bayes_pfl.errors import DataError

FOLDER = "folder"
"""What stands for the region in settings where each picture has its own."""

_WANTED = "give a mask picture, a JSON file of polygons, or a folder of these"


class RoiFolder(NamedTuple):
    """Regions in files that are called as their pictures are, with any suffix.

    Attributes:
        folder: of the regions.
        root: of the pictures, whose paths below it are those of the regions; None to go by the
            names of files alone.
    """

    folder: Path
    root: Path | None = None

    @property
    def key(self) -> str:
        """:data:`FOLDER`."""
        return FOLDER

    @property
    def source(self) -> str:
        """The folder, for summaries."""
        return str(self.folder)

    @property
    def identity(self) -> str:
        """What a run that is resumed must share."""
        return os.path.realpath(self.folder)

    def of(
        self,
        path: Path,
        size: tuple[int, int] | None = None,
        turn: Image.Transpose | None = None,
    ) -> Roi:
        """The region of a picture's file: `a.jpg.png` or `a.png` for `a.jpg`.

        Args:
            size: (W, H) of the picture.
            turn: by which EXIF made it upright; None for not at all.

        Raises:
            DataError: there is none, or several; or it cannot be read.
        """
        inner = path.relative_to(self.root) if self.root else Path(path.name)
        endings = (*readable_suffixes(), ".json")
        for name in (inner.name, inner.stem):
            names = [f"{name}{end}" for low in endings for end in (low, low.upper())]
            found = [one for one in names if (self.folder / inner.parent / one).is_file()]
            if len(found) > 1:
                raise DataError(
                    f"{len(found)} regions of interest in {self.folder / inner.parent}: "
                    f"{', '.join(found)}; leave one"
                )
            if found:
                place = confined(self.folder, (inner.parent / found[0]).as_posix())
                return _read(place, size, turn)
        raise DataError(
            f"no region of interest {inner.with_suffix('.png').as_posix()} (or another suffix) in "
            f"{self.folder}; add one, or leave the picture out"
        )


AnyRoi: TypeAlias = "Roi | RoiFolder"
RoiLike: TypeAlias = "Roi | RoiFolder | str | os.PathLike[str]"


def read_roi(roi: RoiLike | None) -> AnyRoi | None:
    """The region in a mask picture or a JSON file of polygons, or the regions in a folder.

    Raises:
        DataError: there is none, or it cannot be read.
    """
    if roi is None or isinstance(roi, Roi | RoiFolder):
        return roi
    if not isinstance(roi, str | os.PathLike):
        raise DataError(f"roi is {type(roi).__name__}: {_WANTED}")
    path = Path(roi)
    if path.is_dir():
        return RoiFolder(path)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; {_WANTED}")
    return _read(path)


def _read(
    path: Path, size: tuple[int, int] | None = None, turn: Image.Transpose | None = None
) -> Roi:
    if path.suffix.lower() == ".json":
        return Roi(read_polygons(path), str(path))
    file = read_mask_file(path)
    mask, _ = file.laid_on(turn, lambda mask: size is not None and _is_shaped(mask, size))
    return Roi(mask, str(path))


def _is_shaped(mask: np.ndarray, size: tuple[int, int]) -> bool:
    """Whether a mask has the proportions of a picture of (W, H) pixels, within one percent."""
    ratio = mask.shape[1] * size[1] / (mask.shape[0] * size[0])
    return abs(ratio - 1) < 0.01


def roi_of(
    roi: AnyRoi | None,
    path: Path | None,
    size: tuple[int, int],
    turn: Image.Transpose | None = None,
) -> PictureRoi | None:
    """The region of a picture; None without one.

    A mask of a folder is turned like its picture, see
    :meth:`bayes_pfl.data.images.MaskFile.laid_on`; its proportions tell, as it may be of any size.

    Args:
        path: of its file; None for a picture from memory.
        size: (W, H).
        turn: by which EXIF made the picture upright; None for not at all.

    Raises:
        DataError: the picture has none in the folder of regions.
    """
    if roi is None:
        return None
    if isinstance(roi, RoiFolder):
        if path is None:
            raise DataError(
                f"a picture from memory has no region of interest in {roi.folder}; give a file"
            )
        roi = roi.of(path, size, turn)
    return PictureRoi.of(roi, size)


def below(roi: AnyRoi | None, root: Path) -> AnyRoi | None:
    """The same, a folder of regions with paths as those of pictures below a folder."""
    return roi._replace(root=root) if isinstance(roi, RoiFolder) else roi


def roi_summary(roi: AnyRoi | None) -> dict[str, str | None] | None:
    """What summaries say of it: where it was read from, and the hash of a mask."""
    if roi is None:
        return None
    return {"source": roi.source, "sha256": roi.key if isinstance(roi, Roi) else None}
