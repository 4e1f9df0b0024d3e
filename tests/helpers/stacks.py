"""TIFF files of several pages."""

from __future__ import annotations

import struct
from collections.abc import Sequence
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


def by_hand(path: Path, order: str, kinds: Sequence[int], pixels: bytes = b"") -> Path:
    """A TIFF of pages of one pixel, each of a subfile type of its own.

    Args:
        pixels: a byte for each page; by default 10, 11, ...
    """
    size = 2 + 12 * 10 + 4
    end = 8 + size * len(kinds)
    body, pixels = b"", pixels or bytes(range(10, 10 + len(kinds)))
    for number, kind in enumerate(kinds):
        tags = {254: kind, 256: 1, 257: 1, 258: 8, 259: 1, 262: 1, 273: end + number}
        tags |= {277: 1, 278: 1, 279: 1}
        body += struct.pack(order + "H", len(tags))
        for tag, value in tags.items():
            body += struct.pack(order + "HHII", tag, 4, 1, value)
        following = 8 + size * (number + 1)
        body += struct.pack(order + "I", following if following < end else 0)
    head = {"<": b"II*\0", ">": b"MM\0*"}[order]
    path.write_bytes(head + struct.pack(order + "I", 8) + body + pixels)
    return path
