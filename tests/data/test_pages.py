"""Pages of TIFF files: each by its number, found by headers, whatever is wrong with the others."""

import os
import struct
import time

import cv2
import numpy as np
import pytest
from PIL import Image

from bayes_pfl.data import tiff
from bayes_pfl.data.image_files import list_files
from bayes_pfl.data.images import SEVERAL, read_image
from bayes_pfl.data.pages import Picture, find_pictures, pictures_of, read_pages
from bayes_pfl.data.tiff import MAX_PAGES, tiff_pages
from bayes_pfl.errors import ImageReadError
from tests.helpers.stacks import by_hand, cut, damage

COUNT = 5


def pages(mode="L", count=COUNT, side=(40, 30)):
    """Pictures that differ, of soft colours, so that lossy compression keeps them apart."""
    ramp = np.linspace(0, 90, side[0] * side[1]).reshape(side[::-1])
    return [Image.fromarray((ramp + 30 * at).astype(np.uint8)).convert(mode) for at in range(count)]


def stack(path, mode="L", count=COUNT, **options):
    first, *others = pages(mode, count)
    first.save(path, "TIFF", save_all=True, append_images=others, **options)
    return path


def values(image):
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
@pytest.mark.parametrize(
    "options",
    [{}, {"compression": "tiff_lzw"}, {"compression": "tiff_deflate"}, {"big_tiff": True}],
    ids=str,
)
def test_each_page_is_read_by_its_number(tmp_path, mode, options):
    path = stack(tmp_path / "a.tif", mode, **options)
    assert pictures_of(path) == [Picture(path, page) for page in range(1, COUNT + 1)]
    for picture, wanted in zip(pictures_of(path), pages(mode), strict=True):
        assert np.array_equal(values(picture.read()), values(wanted.convert("RGB")))
    assert [image.size for image in read_pages(path)] == [(40, 30)] * COUNT
    assert read_image(path).info == {SEVERAL: "pages"}
    assert read_image(path, page=2).info == {}


def test_pages_of_jpeg(tmp_path):
    path = stack(tmp_path / "a.tif", "RGB", compression="jpeg", quality=95)
    for image, wanted in zip(read_pages(path), pages("RGB"), strict=True):
        assert np.abs(values(image) - values(wanted)).max() <= 8


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["uint16", "float32"])
def test_deep_pages_equal_their_8_bit_picture(tmp_path, channels, kind):
    wanted = [np.repeat(values(page)[..., None], channels, axis=2) for page in pages()]
    for page in wanted:
        page[0, 0] = 255  # the brightest pixel tells the depth
    scale = 257 if kind == "uint16" else 1 / 255
    assert cv2.imwritemulti(str(tmp_path / "a.tif"), [(p * scale).astype(kind) for p in wanted])
    for image, page in zip(read_pages(tmp_path / "a.tif"), wanted, strict=True):
        assert np.array_equal(values(image), np.broadcast_to(page, (30, 40, 3)))


@pytest.mark.parametrize("order", "<>")
def test_smaller_copies_and_masks_are_no_pages(tmp_path, order):
    path = by_hand(tmp_path / "a.tif", order, [0, 1, 2, 4, 0])
    pictures = pictures_of(path)
    assert [picture.page for picture in pictures] == [1, 3, 5]
    assert [picture.read().getpixel((0, 0))[0] for picture in pictures] == [10, 12, 14]
    with pytest.raises(ImageReadError, match="page 2: no such page"):
        Picture(path, 2).read()
    with_thumbnail = by_hand(tmp_path / "b.tif", order, [0, 1])
    assert pictures_of(with_thumbnail) == [Picture(with_thumbnail)]
    assert read_image(with_thumbnail).info == {}


def test_a_page_is_read_without_decoding_those_before(tmp_path):
    path = stack(tmp_path / "a.tif", compression="tiff_deflate")
    for page in range(1, COUNT):
        damage(path, page)
    assert np.array_equal(values(Picture(path, COUNT).read())[..., 0], values(pages()[-1]))
    with pytest.raises(ImageReadError, match="page 4: damaged or cut short"):
        Picture(path, 4).read()


def test_a_stack_cut_short_has_a_row_for_what_is_missing(tmp_path):
    path = cut(stack(tmp_path / "a.tif"), 4)
    assert [picture.page for picture in pictures_of(path)] == [1, 2, 3, 4]
    assert Picture(path, 3).read().size == (40, 30)
    with pytest.raises(ImageReadError, match=r"a.tif, page 4: damaged or cut short"):
        Picture(path, 4).read()


def test_pages_that_go_in_a_circle_end(tmp_path):
    path = stack(tmp_path / "a.tif", count=3)
    data, offsets = bytearray(path.read_bytes()), tiff_pages(path).offsets
    count = struct.unpack_from("<H", data, offsets[3])[0]
    struct.pack_into("<I", data, offsets[3] + 2 + 12 * count, offsets[1])
    path.write_bytes(data)
    os.utime(path, ns=(0, time.time_ns()))
    assert [picture.page for picture in pictures_of(path)] == [1, 2, 3, 4]


def test_pages_past_the_limit_are_one_row_that_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(tiff, "MAX_PAGES", 3)
    path = stack(tmp_path / "a.tif")
    assert [picture.page for picture in pictures_of(path)] == [1, 2, 3, 4]
    with pytest.raises(ImageReadError, match=f"only {MAX_PAGES} pages of a file are read"):
        Picture(path, MAX_PAGES + 1).read()


@pytest.mark.parametrize("content", [b"", b"II*\0", b"II*\0\0\0\0\0", b"II*\0\xff\xff\xff\xff"])
def test_a_file_without_pages_is_one_picture_that_cannot_be_read(tmp_path, content):
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    assert pictures_of(path) == [Picture(path)]
    with pytest.raises(ImageReadError, match="a.tif: "):
        Picture(path).read()


def test_page_one_of_a_file_of_another_kind_is_the_picture(tmp_path):
    pages()[0].save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", page=1).size == (40, 30)
    with pytest.raises(ImageReadError, match="no such page"):
        read_image(tmp_path / "a.png", page=2)


def test_a_folder_names_the_animations_of_which_one_frame_is_read(tmp_path):
    stack(tmp_path / "a.tif")
    first, *others = pages()
    for name in ("moving.gif", "moving.webp"):
        first.save(tmp_path / name, save_all=True, append_images=others)
    first.save(tmp_path / "still.gif")
    found = find_pictures(tmp_path)
    assert len(found.pictures) == COUNT + 3 and len(list_files(tmp_path).images) == 4
    assert found.remarks == [
        f"{tmp_path}: files of several pages or frames, each an image of its own ({COUNT} in all): "
        "1, first a.tif",
        f"{tmp_path}: animations, of which the first frame is read: 2, first moving.gif",
    ]
