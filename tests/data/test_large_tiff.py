"""TIFF pages that are read a part at a time show what decoding them at once would."""

import logging

import numpy as np
import pytest
import tifffile
from PIL import Image

from bayes_pfl.data import pages
from bayes_pfl.data.decoding import decode
from bayes_pfl.data.pages import Picture
from bayes_pfl.data.roi import Roi
from bayes_pfl.data.tiles import TileSettings
from bayes_pfl.errors import ImageReadError
from tests.helpers.turned import write_turned_tiff

SIZE = (300, 221)


def values(dtype, colours=3):
    highest = np.iinfo(dtype).max
    small = np.random.default_rng(0).integers(0, highest, (12, 16, colours)).astype(np.float64)
    grown = [
        np.kron(small[..., at], np.ones((20, 20)))[: SIZE[1], : SIZE[0]] for at in range(colours)
    ]
    return np.stack(grown, -1).astype(dtype)


def decoded(path, monkeypatch, by_parts, page=None, roi=None):
    limit = 1 if by_parts else 10**9
    monkeypatch.setattr(pages, "MAX_PIXELS", limit)
    ((item,),) = decode(
        [Picture(path, page)], 32, preview_side=100, tiles=TileSettings(96, 0.25, 32), roi=roi
    )
    assert not item.error, item.error
    return item, dict(item.tiles)


@pytest.mark.parametrize(
    "options",
    [
        {"tile": (64, 32)},
        {"tile": (64, 32), "compression": "zlib", "bigtiff": True},
        {"tile": (64, 32), "compression": "lzw"},
        {"rowsperstrip": 7},
        {"tile": (64, 32), "byteorder": ">"},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_parts_are_those_of_the_whole(tmp_path, monkeypatch, options, dtype):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values(dtype), photometric="rgb", **options)
    whole, wanted = decoded(path, monkeypatch, by_parts=False)
    parts, found = decoded(path, monkeypatch, by_parts=True)
    assert parts.size == whole.size == SIZE and list(found) == list(wanted)
    for tile, pixels in wanted.items():
        np.testing.assert_array_equal(found[tile], pixels)
    difference = np.abs(parts.pixels.astype(int) - whole.pixels)
    assert difference.mean() < 2  # the view of the whole is made of averages
    assert parts.preview.shape == whole.preview.shape


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_region_of_interest_is_read_from_the_file(tmp_path, monkeypatch, dtype):
    path, mask = tmp_path / "a.tif", np.zeros((221, 300), bool)
    mask[30:60, 40:260] = mask[60:180, 40:70] = True  # no tile in the corner opposite
    tifffile.imwrite(path, values(dtype), photometric="rgb", tile=(64, 32))
    whole, wanted = decoded(path, monkeypatch, by_parts=False, roi=Roi(mask))
    parts, found = decoded(path, monkeypatch, by_parts=True, roi=Roi(mask))
    assert parts.size == whole.size == SIZE and parts.roi == whole.roi
    assert list(found) == list(wanted) and len(wanted) < len(parts.tiling.tiles((220, 150)))
    for tile, pixels in wanted.items():
        np.testing.assert_array_equal(found[tile], pixels)
    assert np.abs(parts.pixels.astype(int) - whole.pixels).mean() < 2
    assert np.abs(parts.preview.astype(int) - whole.preview).mean() < 2


def test_grey_and_further_pages(tmp_path, monkeypatch):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(values(np.uint8), photometric="rgb")
        file.write(values(np.uint16, 1)[..., 0], photometric="minisblack", tile=(32, 32))
    _, wanted = decoded(path, monkeypatch, by_parts=False, page=2)
    _, found = decoded(path, monkeypatch, by_parts=True, page=2)
    for tile, pixels in wanted.items():
        np.testing.assert_array_equal(found[tile], pixels)


def test_a_page_that_is_stored_on_its_side_is_refused(tmp_path, monkeypatch):
    write_turned_tiff(tmp_path / "a.tif", values(np.uint8), orientation=6)
    monkeypatch.setattr(pages, "MAX_PIXELS", 1)
    ((item,),) = decode([Picture(tmp_path / "a.tif")], 32, tiles=TileSettings(96, 0.25, 32))
    assert item.pixels is None and "its tag Orientation (6): pages as large" in item.error


def test_other_files_are_read_as_ever(tmp_path, monkeypatch):
    Image.fromarray(values(np.uint8)).save(tmp_path / "a.png")
    item, _ = decoded(tmp_path / "a.png", monkeypatch, by_parts=True)
    assert item.size == SIZE


def test_a_segment_that_is_missing_is_an_error(tmp_path, monkeypatch):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values(np.uint8), photometric="rgb", tile=(64, 32))
    path.write_bytes(path.read_bytes()[:-5000])
    monkeypatch.setattr(pages, "MAX_PIXELS", 1)
    with pytest.raises(ImageReadError, match="damaged or cut short"):
        pages.large_page(Picture(path)).overview()


def test_a_page_that_cannot_be_read_is_closed_again_and_its_fault_is_said_once(
    tmp_path, monkeypatch, caplog
):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values(np.int8, 1)[..., 0], photometric="minisblack", rowsperstrip=1)
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags["ImageLength"].overwrite(5000)  # its lists of strips are too short
    caplog.clear()
    monkeypatch.setattr(pages, "MAX_PIXELS", 1)
    before = len(logging.getLogger("tifffile").filters)
    with pytest.raises(ImageReadError, match=r"a.tif: 300x5000: .* of int8; convert it"):
        pages.large_page(Picture(path)).overview()
    assert not caplog.records and len(logging.getLogger("tifffile").filters) == before
