"""Tiles of large pictures: they cover every pixel, and their maps blend without a seam."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bayes_pfl.data.tiles import (
    BlendedMap,
    Tile,
    TileSettings,
    Tiling,
    add_whole,
    auto_tiling,
    blur_disc,
    cut,
    raise_to,
    tiles_of,
)
from bayes_pfl.errors import ConfigError
from bayes_pfl.export.standalone.detector import raise_by_whole

lengths = st.integers(1, 900)
tilings = st.builds(Tiling, st.integers(32, 300), st.floats(0, 0.75))


@given(tilings, lengths, lengths)
def test_tiles_cover_every_pixel_and_their_weights_add_up_to_one(tiling, width, height):
    blended = BlendedMap(tiling, (width, height))
    tiles = tiling.tiles((width, height))
    for tile in tiles:
        blended.add(tile, np.ones((8, 8), np.float32))
    assert bool(tiles) == (max(width, height) > tiling.side)
    if tiles:
        np.testing.assert_allclose(blended.values, 1, atol=1e-6)
        assert len(set(tiles)) == len(tiles)
        assert all(tile.left >= 0 and tile.top >= 0 for tile in tiles)


def test_neighbours_overlap_by_the_share_at_least():
    starts = Tiling(100, 0.25).starts(477)
    assert starts == [0, 75, 150, 225, 300, 375, 377]


def test_a_ramp_is_blended_without_a_seam():
    tiling, size = Tiling(64), (300, 200)
    ramp = np.linspace(0, 1, size[0], dtype=np.float32)[None].repeat(size[1], 0)
    blended = BlendedMap(tiling, size)
    for tile in tiling.tiles(size):
        part = ramp[tile.top : tile.top + 64, tile.left : tile.left + 64]
        blended.add(tile, part)
    np.testing.assert_allclose(blended.values, ramp, atol=1e-6)


def test_what_lies_beyond_a_narrow_picture_is_its_mirror_image():
    stripes = np.zeros((20, 100, 3), np.uint8)
    stripes[:10] = 255
    seen = cut(stripes, Tile(0, 0, 64), 64)
    np.testing.assert_array_equal(seen[:20], stripes[:, :64])
    np.testing.assert_array_equal(seen[20:40], stripes[::-1, :64])


def test_a_picture_of_one_row_of_pixels_has_tiles():
    tiling, tiles = tiles_of(Image.new("RGB", (20_000, 1)), TileSettings(480, 0.25, 32))
    assert tiling == Tiling(480) and not tiling.sees_whole((20_000, 1))
    assert tiles[-1][0] == Tile(20_000 - 480, 0, 480)
    assert all(pixels.shape == (32, 32, 3) for _, pixels in tiles)


def test_a_picture_no_larger_than_a_tile_has_none():
    assert tiles_of(Image.new("RGB", (64, 60)), TileSettings(64, 0.25, 32)) == (None, [])


def test_auto_is_wider_where_there_would_be_too_many():
    usual, large = (auto_tiling(size, 320, 0.25) for size in ((4000, 3000), (12_000, 9000)))
    assert usual.side == 320 and len(usual.tiles((4000, 3000))) == 221
    assert 320 < large.side <= 960


@given(lengths, lengths)
def test_raising_a_map_is_stretching_and_taking_the_higher(width, height):
    rng = np.random.default_rng(width * 1000 + height)
    values = rng.random((height, width), np.float32)
    other = rng.random((16, 16), np.float32)
    wanted = np.maximum(values, cv2.resize(other, (width, height)))
    raise_to(values, other, rows_at_once=7)
    np.testing.assert_allclose(values, wanted, atol=1e-5)


def test_the_whole_adds_what_the_tiles_do_not_see():
    values = np.zeros((120, 160), np.float32)
    values[30, 40] = 0.8  # what the tiles see
    whole = np.zeros((40, 40), np.float32)
    whole[6:15, 6:15] = 0.5  # the same, blurred
    whole[25:35, 20:30] = 0.4  # and what they do not
    add_whole(values, whole, sigma=1.5)
    assert values[30, 40] == np.float32(0.8) and (values[:70] > 0).sum() == 1
    assert values[90, 100] == pytest.approx(0.4)


def test_a_halo_of_what_the_tiles_see_adds_nothing():
    values = np.zeros((160, 160), np.float32)
    values[20, 20] = 0.8  # what the tiles see
    whole = np.zeros((40, 40), np.float32)
    whole[3:8, 3:8] = 0.6  # the same, blurred,
    whole[5, 8:30] = 0.5  # with a streak far beyond the blur,
    whole[5, 30:34] = 0.3
    whole[5, 34:38] = 0.45  # at the end of which something else is seen, as a dip says
    add_whole(values, whole, sigma=1)
    assert (values[:, :130] > 0).sum() == 1 and values[20, 20] == np.float32(0.8)
    assert values[22, 144] == pytest.approx(0.45 * 7 / 8)


def test_exports_raise_a_map_in_the_same_way():
    rng = np.random.default_rng(0)
    for _ in range(5):
        whole = cv2.GaussianBlur(rng.random((48, 48), np.float32), (0, 0), 3)
        whole = (whole - whole.min()) / np.ptp(whole)
        tiles = cv2.GaussianBlur(rng.random((90, 130), np.float32), (0, 0), 2) / 2
        ours, theirs = tiles.copy(), tiles.copy()
        add_whole(ours, whole, 1.5)
        raise_by_whole(theirs, whole, [int(row.sum()) // 2 for row in blur_disc(1.5)])
        assert (ours > tiles).any() and (ours == tiles).any()
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("tile", [0, 31, 9000, 64.0, True, "480", None])
def test_a_side_that_cannot_be_used_is_refused(tile):
    with pytest.raises(ConfigError, match="auto, or a number of pixels from 32 to 8192"):
        TileSettings(tile, 0.25, 32)


@pytest.mark.parametrize("overlap", [-0.1, 0.8, float("nan"), True])
def test_an_overlap_that_cannot_be_used_is_refused(overlap):
    with pytest.raises(ConfigError, match="a share of the tile from 0 to 0.75"):
        TileSettings("auto", overlap, 32)
