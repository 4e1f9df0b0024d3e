"""Overlays: what a reader sees must be what the map says."""

import sys

import numpy as np
import pytest
from PIL import Image

from bayes_pfl.detect.overlays import blend, mark_regions, overlay
from bayes_pfl.errors import DataError


@pytest.fixture
def image():
    return Image.new("RGB", (300, 260), (120, 120, 120))


def spot(height=64, width=64):
    rows, columns = np.mgrid[:height, :width]
    return (((rows - 16) ** 2 + (columns - 16) ** 2) < 100).astype(np.float32)


def test_low_values_leave_the_picture_and_high_ones_its_texture():
    grain = np.repeat(np.array([[40, 140]], np.uint8)[..., None], 3, axis=2)  # two neighbours
    low, high = (blend(grain, np.full((1, 2), value, np.float32)).astype(int) for value in (0, 1))
    np.testing.assert_array_equal(low, grain)
    assert (high[0, 1] - high[0, 0] >= 0.59 * 100).all()  # of their contrast


def test_no_two_tenths_of_the_range_look_alike():
    ramp = np.linspace(0.2, 1, 9, dtype=np.float32)[None]
    for grey in (0, 60, 128, 200, 255):
        shown = blend(np.full((1, 9, 3), grey, np.uint8), ramp)[0].astype(int)
        apart = np.abs(shown[:, None] - shown[None]).max(2) + 99 * np.eye(9)
        assert apart.min() >= 6


def test_limits_choose_the_values_at_the_ends_of_the_colours():
    picture = np.full((1, 3, 3), 128, np.uint8)
    narrow = blend(picture, np.array([[0.0, 0.1, 0.9]], np.float32), (0.0, 0.1))
    whole = blend(picture, np.array([[0.0, 1.0, 1.0]], np.float32))
    assert np.array_equal(narrow, whole)


def test_picture_and_heat_stand_side_by_side(image):
    plain = np.asarray(overlay(image, np.zeros((8, 8))))
    hot = np.asarray(overlay(image, spot()))
    assert plain.shape == hot.shape and plain.shape[1] > 2 * 300
    changed = np.argwhere((plain != hot).any(axis=2))
    assert changed[:, 1].min() > 300  # the picture itself is never painted over
    assert (plain == 120).all(axis=2).sum() >= 300 * 260


def test_an_arrow_shows_a_threshold_beyond_the_colour_bar(image):
    limits = (0.2, 0.6)
    plain = overlay(image, spot(), limits=limits)
    heights = []
    for threshold in (0.1, 0.4, 0.7):
        marked = np.asarray(overlay(image, spot(), limits=limits, threshold=threshold))
        column = slice(plain.width - 110, plain.width)  # of the bar
        rows, _, _ = np.nonzero(marked[: plain.height, column] != np.asarray(plain)[:, column])
        heights.append(np.median(rows))
    assert heights[0] > heights[1] + 20 > heights[2] + 40


def test_mask_and_threshold_are_drawn_where_they_belong(image):
    mask = spot(260, 300) > 0
    plain = np.asarray(overlay(image, spot()))
    marked = np.asarray(overlay(image, spot(), mask=mask, threshold=0.5))
    height = plain.shape[0] - 20
    left = (plain[:height, :300] != marked[:height, :300]).any(axis=2)
    right = (plain[:height, 320:600] != marked[:height, 320:600]).any(axis=2)
    assert left.any() and right.any()
    rows, columns = np.nonzero(left)
    assert rows.max() < 50 and columns.max() < 50


def test_regions_of_a_few_pixels_of_a_large_photograph_get_a_ring():
    area = np.zeros((3000, 4000), np.uint8)
    area[700, 900] = 1  # a quarter of a pixel of the picture
    area[1500:1800, 2000:2400] = 1
    picture = np.full((750, 1000, 3), 120, np.uint8)
    assert mark_regions(picture, area) == 1
    changed = (picture != 120).any(2)
    rows, columns = np.nonzero(changed[:300, :400])
    assert 0.5 * (rows.min() + rows.max()) == pytest.approx(175, abs=1)
    assert 0.5 * (columns.min() + columns.max()) == pytest.approx(225, abs=1)
    assert 20 < np.ptp(rows) < 40 and not changed[170:181, 220:231].any()  # it is not painted over
    assert changed[375, 500:600].mean() > 0.9 and not changed[400:420, 520:580].any()
    assert mark_regions(picture, 0 * area) == 0


def test_what_is_left_out_of_the_area_is_not_outlined(image):
    plain = overlay(image, spot(), threshold=0.9, area=np.zeros((260, 300), bool))
    marked = overlay(image, spot(), threshold=0.9)
    assert plain.size == marked.size and plain.tobytes() != marked.tobytes()
    bare = np.asarray(overlay(image, spot()))[:250, :600]
    np.testing.assert_array_equal(np.asarray(plain)[:250, :600], bare)


def test_sizes_are_brought_to_what_a_reader_can_use():
    big = overlay(Image.new("RGB", (4000, 3000)), spot())
    assert 2 * 1024 < big.width < 2 * 1024 + 200 and big.height < 900
    assert overlay(Image.new("RGB", (9, 7)), spot()).width > 2 * 256
    for size in ((3000, 20), (20, 3000), (1, 1)):
        assert overlay(Image.new("RGB", size), spot(), title="x.png", note="0.1").width < 2300
    wide = overlay(Image.new("RGB", (1000, 100)), spot())
    assert wide.width < 1200  # one above the other


def test_any_file_name_can_be_the_title(image):
    shown = overlay(image, spot())
    for title in ("a\nb.png", "\udcff.png", "部品.png", "long " * 300, ""):
        assert overlay(image, spot(), title=title, note="score 0.5").width == shown.width


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.zeros((2, 3, 4)), "shape"),
        (np.zeros((0, 4)), "shape"),
        (np.full((4, 4), 1.2), r"lies in \[0, 1\]"),
        (np.full((4, 4), np.nan), r"lies in \[0, 1\]"),
    ],
)
def test_maps_that_are_none_are_refused(image, values, reason):
    with pytest.raises(DataError, match=reason):
        overlay(image, values)
    with pytest.raises(DataError, match="rising order"):
        overlay(image, np.zeros((4, 4)), limits=(0.5, 0.5))


def test_inputs_are_left_as_they_were_and_no_figure_is_opened(image):
    values, mask = spot(), spot(260, 300) > 0
    before = values.copy(), mask.copy(), image.tobytes()
    first = overlay(image, values, mask=mask, threshold=0.5, title="a")
    again = overlay(image, values, mask=mask, threshold=0.5, title="a")
    assert first.tobytes() == again.tobytes()
    assert np.array_equal(values, before[0]) and np.array_equal(mask, before[1])
    assert image.tobytes() == before[2]
    assert (
        "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
    )
