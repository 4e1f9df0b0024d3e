"""TIFF files of every kind of numbers show the picture that they were made of."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from bayes_pfl.data.images import read_image, read_mask, read_received_image
from bayes_pfl.errors import ImageReadError
from bayes_pfl.export.standalone.pictures import pages_of
from tests.helpers.turned import write_turned_tiff

ROWS, COLUMNS = np.mgrid[:40, :64]
RGB = np.stack([ROWS * 6, COLUMNS * 4, 255 - ROWS * 6], 2).astype(np.uint8)
GREY = RGB[..., 1] + np.uint8(3)  # 3 to 255, so that what is stretched is known


def stretched(values):
    values = values.astype(float) - values.min()
    return np.rint(values * 255 / values.max()).astype(np.uint8)


def planar(values):
    layout = {"photometric": "rgb", "planarconfig": "separate"}
    return layout | {"data": np.ascontiguousarray(values.transpose(2, 0, 1))}


def grey(values, photometric="minisblack"):
    return {"data": values, "photometric": photometric}


DEEP, DEEP_RGB = GREY.astype(np.uint16) * 257, RGB.astype(np.uint16) * 257
KINDS = {
    "uint8": (grey(GREY), GREY),
    "uint8, white is zero": (grey(255 - GREY, "miniswhite"), GREY),
    "uint16": (grey(DEEP), GREY),
    "uint16, white is zero": (grey(65535 - DEEP, "miniswhite"), GREY),
    "12 of 16 bits, white is zero": (grey(4095 - (DEEP >> 4), "miniswhite"), GREY),
    "float32": (grey((GREY / 255).astype(np.float32)), GREY),
    "float32, white is zero": (grey((1 - GREY / 255).astype(np.float32), "miniswhite"), GREY),
    "float64": (grey(GREY / 255), GREY),
    "float64, white is zero": (grey(1 - GREY / 255, "miniswhite"), GREY),
    "int8": (grey((GREY.astype(int) - 128).astype(np.int8)), stretched(GREY)),
    "uint32": (grey(GREY.astype(np.uint32) * 16843009), stretched(GREY)),
    "bits": (grey(GREY > 127), np.where(GREY > 127, 255, 0)),
    "bits, white is zero": (grey(GREY <= 127, "miniswhite"), np.where(GREY > 127, 255, 0)),
    "uint8 colours one by one": (planar(RGB), RGB),
    "uint16 colours one by one": (planar(DEEP_RGB), RGB),
    "uint16 colours": ({"data": DEEP_RGB, "photometric": "rgb"}, RGB),
    "uint16 colours, tiled": ({"data": DEEP_RGB, "photometric": "rgb", "tile": (16, 32)}, RGB),
}
BY_PREDICT_ALONE = {
    *("uint16, white is zero", "12 of 16 bits, white is zero", "float32, white is zero"),
    *("float64", "float64, white is zero", "int8", "uint32"),
    *("uint16 colours one by one", "uint16 colours", "uint16 colours, tiled"),
}


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_read(tmp_path, kind, compression):
    options, wanted = KINDS[kind]
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, **options, compression=compression)
    found = np.asarray(read_image(path)).astype(int)
    assert np.abs(found - np.atleast_3d(wanted)).max() <= 1
    assert np.array_equal(found, np.asarray(read_received_image(path.read_bytes())))
    if kind in BY_PREDICT_ALONE:
        with pytest.raises((ValueError, OSError), match="bayes-pfl predict reads it|identify"):
            list(pages_of(path))
    else:
        ((_, picture),) = pages_of(path)
        assert np.array_equal(found, np.asarray(picture))


@pytest.mark.parametrize("orientation", [3, 6])
def test_colours_one_by_one_lie_as_their_tag_says(tmp_path, orientation):
    path = write_turned_tiff(
        tmp_path / "a.tif", DEEP_RGB, orientation=orientation, planarconfig="separate"
    )
    assert np.array_equal(np.asarray(read_image(path)), RGB)


def test_a_kind_that_is_not_read_says_what_is(tmp_path, capfd):
    tifffile.imwrite(tmp_path / "a.tif", (GREY / 255).astype(np.float16))
    with pytest.raises(ImageReadError, match="or of a kind that is not read; save it with whole"):
        read_image(tmp_path / "a.tif")
    assert not capfd.readouterr().err


def test_a_deep_mask_with_white_as_zero_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", DEEP, photometric="miniswhite")
    with pytest.raises(ImageReadError, match="white is zero .* more than 8 bits; save it with 8"):
        read_mask(tmp_path / "a.tif")
    Image.fromarray(GREY > 127).save(tmp_path / "b.tif")
    assert np.array_equal(read_mask(tmp_path / "b.tif"), GREY > 127)
