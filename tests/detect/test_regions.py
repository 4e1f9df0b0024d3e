"""Regions of a map, compared with SciPy's labels and statistics."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from bayes_pfl.detect import regions
from bayes_pfl.detect.regions import Box, RegionRule, find_regions
from bayes_pfl.errors import ConfigError
from bayes_pfl.fit.calibrate import CalibrationOptions, calibrate
from bayes_pfl.fit.conformal import p_values
from tests.detect.test_results import of_map, two_regions
from tests.helpers.folders import picture

LEVELS = st.sampled_from([np.float32(k) / 8 for k in range(9)])


def by_scipy(values, threshold, min_area):
    """Area, box, peak, place and mean of each region, the highest peak first."""
    labels, count = ndimage.label(values >= threshold, np.ones((3, 3)))
    found = []
    for k, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        pixels = values[labels == k]
        if pixels.size >= min_area:
            y, x = np.argwhere((labels == k) & (values == pixels.max()))[0]
            box = Box(columns.start, rows.start, columns.stop, rows.stop)
            found.append((pixels.size, box, pixels.max(), x, y, pixels.mean()))
    assert len(found) <= count
    return sorted(found, key=lambda one: (-one[2], one[1]))


@given(
    arrays(np.float32, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=LEVELS),
    st.integers(1, 4),
    st.sampled_from([1, 7, 2**20]),
)
def test_every_figure_is_scipys_however_the_map_is_cut(values, min_area, at_once):
    before, regions._PIXELS_AT_ONCE = regions._PIXELS_AT_ONCE, at_once
    try:
        found = find_regions(values, RegionRule(0.5, min_area))
    finally:
        regions._PIXELS_AT_ONCE = before
    expected = by_scipy(values, 0.5, min_area)
    assert len(found.regions) == len(expected)
    mask = np.zeros(values.shape, np.uint8)
    for number, (one, other) in enumerate(zip(found.regions, expected, strict=True)):
        assert (one.area, one.box, one.peak, one.peak_x, one.peak_y) == other[:5]
        assert one.mean == pytest.approx(other[5], rel=1e-6) and one.p_value is None
        left, top, right, bottom = one.box
        mask[top:bottom, left:right] += found.part(number)
    np.testing.assert_array_equal(found.mask(), mask)


def test_a_result_has_regions_where_a_threshold_of_the_map_is_known():
    result = of_map(two_regions())
    assert result.regions is None
    known = replace(result, map_threshold=0.5)
    assert [(one.area, one.peak) for one in known.regions] == [
        (12, np.float32(0.9)),
        (200, np.float32(0.6)),
    ]
    assert known.regions is known.regions  # found once
    assert [one.area for one in replace(known, min_area=13).regions] == [200]
    assert replace(known, map_threshold=0.95).regions == ()


def test_regions_whose_peak_is_too_low_are_left_out_unless_a_threshold_is_given():
    known = replace(of_map(two_regions()), map_threshold=0.5, region_threshold=0.7)
    assert [one.area for one in known.regions] == [12]
    assert known.mask().sum() == 12 and len(known.boxes()) == len(known.contours()) == 1
    assert known.mask(0.5).sum() == 212 and len(known.boxes(0.5)) == len(known.contours(0.5)) == 2
    assert replace(known, region_threshold=float(np.float32(0.9))).regions == known.regions


def test_few_new_normal_pictures_have_regions(tiny_model):
    normals = [picture(seed, (64, 40)) for seed in range(20)]
    known = calibrate(tiny_model, normals, "nut", CalibrationOptions(keep_outliers=True))
    assert known.region_threshold == np.nextafter(known.peaks[-5], 2)  # 5/21 is at most a quarter
    assert known.summary_dict()["region_threshold"] == known.region_threshold
    results = tiny_model.predict(normals, "nut", calibration=known)
    for result in results:
        everything = find_regions(
            result.anomaly_map, RegionRule(result.map_threshold, p_values=known.peak_p_values)
        ).regions
        assert result.regions == tuple(one for one in everything if one.p_value <= 0.25)
    assert 0 < sum(bool(result.regions) for result in results) <= 4
    older = replace(known, peaks=())
    assert older.region_threshold is None


def test_p_values_count_the_normal_pictures_whose_peak_is_as_high(tiny_model):
    normals = [picture(seed, (64, 40)) for seed in range(20)]
    known = calibrate(tiny_model, normals, "nut", CalibrationOptions(keep_outliers=True))
    results = tiny_model.predict(normals, "nut", calibration=known)
    small = tiny_model.predict(normals, "nut", calibration=known, min_area=10**6)
    assert all(result.regions == () for result in small)
    found = [one for result in results for one in result.regions]
    assert found and len(known.peaks) == known.n == 20
    for one in found:
        assert one.p_value == (1 + sum(peak >= one.peak for peak in known.peaks)) / 21
    older = replace(known, peaks=())
    first = tiny_model.predict(normals[0], "nut", calibration=older).regions
    assert {one.p_value for one in first} == {None}
    with pytest.raises(ConfigError, match="min_area = 0"):
        tiny_model.predict(normals[0], "nut", min_area=0)


def test_the_smallest_p_value_of_a_normal_picture_is_rarely_small():
    """Validity over all regions of a picture together: each peak is at most the map's highest."""
    rng = np.random.default_rng(0)
    smallest = []
    for _ in range(400):
        maps = ndimage.gaussian_filter(rng.random((21, 24, 24)), (0, 2, 2)).astype(np.float32)
        peaks = np.sort(maps[:20].max((1, 2)))
        rule = RegionRule(float(np.median(maps)), p_values=lambda x, y=peaks: p_values(y, x))
        smallest.append(min(one.p_value for one in find_regions(maps[20], rule).regions))
    for level in (0.1, 0.2, 0.5):
        share = np.mean(np.array(smallest) <= level)
        assert share <= level + 3 * np.sqrt(level * (1 - level) / 400)
