"""TIFF files of several pages."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from bayes_pfl.data.tiff import tiff_pages
from tests.helpers.folders import picture


def stack(path: Path, count: int, first: int = 0) -> Path:
    """`picture(first)` and those after it, as the pages of a file."""
    pages: list[Image.Image] = [picture(first + at) for at in range(count)]
    path.parent.mkdir(parents=True, exist_ok=True)
    pages[0].save(path, "TIFF", save_all=True, append_images=pages[1:], compression="tiff_deflate")
    return path


def damage(path: Path, page: int) -> Path:
    """Make the pixels of one page undecodable."""
    data = bytearray(path.read_bytes())
    with Image.open(path) as image:
        image.seek(page - 1)
        (place,), (size,) = image.tag_v2[273], image.tag_v2[279]
    data[place : place + size] = b"\xff" * size
    path.write_bytes(data)
    return path


def cut(path: Path, page: int) -> Path:
    """Cut a file off before the directory of a page."""
    found = tiff_pages(path)
    assert found is not None
    path.write_bytes(path.read_bytes()[: found.offsets[page]])
    return path
