"""One picture of a file: the file itself, or a page of a TIFF or a frame of a DICOM file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from bayes_pfl.data import dicom
from bayes_pfl.data.image_files import Files, list_files, no_images, remark
from bayes_pfl.data.images import read_image
from bayes_pfl.data.large_tiff import LargeTiff
from bayes_pfl.data.opening import MAX_PIXELS, opened, several_in
from bayes_pfl.data.tiff import MAX_PAGES, TIFF_SUFFIXES, is_tiff, tiff_pages
from bayes_pfl.support.run_names import page_title

_ANIMATED_SUFFIXES = (".gif", ".webp", ".avif")


@dataclass(frozen=True)
class Picture:
    """Where a picture comes from, and how it is read.

    Attributes:
        page: its number in the file, from 1; None for a file of one picture.
        window: (centre, width) of DICOM values; None for the file's own.
    """

    path: Path
    page: int | None = None
    window: dicom.Window | None = None

    def __str__(self) -> str:
        return page_title(str(self.path), self.page)

    def read(self, max_pixels: int = MAX_PIXELS) -> Image.Image:
        """The picture, mode RGB; see :func:`bayes_pfl.data.images.read_image`."""
        return read_image(self.path, page=self.page, window=self.window, max_pixels=max_pixels)


def large_page(picture: Picture) -> LargeTiff | None:
    """The page of a TIFF file that has more pixels than are decoded at once; None for others.

    The content says what a file is: one that was fetched from a store has another name here.
    """
    if not is_tiff(picture.path):
        return None
    large = LargeTiff(picture.path, picture.page)
    return large if large.pixels() > MAX_PIXELS else None


def read_pages(
    path: str | os.PathLike[str], *, window: dicom.Window | None = None
) -> Iterator[Image.Image]:
    """The pages of a file one after the other, as `read_image` gives them; one without pages once.

    Raises:
        ImageReadError: at the page that cannot be read.
    """
    for picture in pictures_of(Path(path), window):
        yield picture.read()


def page_numbers(path: Path) -> list[int]:
    """Numbers of the pages of a TIFF or frames of a DICOM file, from 1; empty for one picture.

    Headers alone are read, of files whose name says that they may have pages. Smaller copies of a
    page and masks in a TIFF are no pages. Where pages are out of reach, or more than MAX_PAGES, the
    last number is that of the first such page. Empty too for a file that cannot be read.
    """
    try:
        if not path.is_file():  # reading a pipe waits
            return []
        if path.suffix.lower() in TIFF_SUFFIXES:
            found = tiff_pages(path)
            return found.numbers if found else []
        if dicom.can_read_dicom() and _maybe_dicom(path) and dicom.is_dicom(path):
            count = min(dicom.frame_count(path), MAX_PAGES + 1)
            return list(range(1, count + 1)) if count > 1 else []
    except Exception:  # reading it will say what is wrong
        return []
    return []


def _maybe_dicom(path: Path) -> bool:
    return path.suffix.lower() in dicom.SUFFIXES or dicom.is_named_by_number(path)


def first_of_several(path: Path) -> bool:
    """Whether a file named as an animation is one, of which the first frame is read."""
    if path.suffix.lower() not in _ANIMATED_SUFFIXES or not path.is_file():
        return False
    try:
        with opened(path, None, MAX_PIXELS) as image:
            return bool(several_in(path, image))
    except Exception:  # reading it will say what is wrong
        return False


def pictures_of(path: Path, window: dicom.Window | None = None) -> list[Picture]:
    """The pictures of a file: one for each page; by headers alone.

    Where pages are out of reach, the first such page is the last of the list: reading it says why.
    """
    return [Picture(path, page, window) for page in page_numbers(path) or (None,)]


@dataclass(frozen=True)
class Pictures:
    """The pictures below a folder, sorted by path and page, and what is passed over, in lines."""

    pictures: list[Picture]
    remarks: list[str]


def pictures_in(files: Files, folder: Path, window: dicom.Window | None = None) -> Pictures:
    """The pictures of the images among the files of a folder."""
    pictures = [picture for path in files.images for picture in pictures_of(path, window)]
    moving = [path for path in files.images if first_of_several(path)]
    paged = [picture.path for picture in pictures if picture.page is not None]
    several = f"files of several pages or frames, each an image of its own ({len(paged):,} in all)"
    lines = remark(several, list(dict.fromkeys(paged)), folder)
    lines += remark("animations, of which the first frame is read", moving, folder)
    return Pictures(pictures, [*files.remarks(folder), *lines])


def find_pictures(folder: str | os.PathLike[str], window: dicom.Window | None = None) -> Pictures:
    """The pictures of every image below a folder.

    Raises:
        DataError: as `image_files.list_files`; no images.
    """
    files = list_files(folder)
    if not files.images:
        raise no_images(folder, files.remarks(Path(folder)))
    return pictures_in(files, Path(folder), window)
