"""AUPRO against a slow, obvious implementation."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import label

from bayes_pfl.errors import ConfigError
from bayes_pfl.metrics import PixelMetrics, pixel_metrics
from bayes_pfl.metrics.pro import aupro_authors, region_weights

MODES = ("exact", "binned")
quick = settings(max_examples=60, deadline=None)


def slow_aupro(maps, masks, limit):
    """Each threshold, each region, one after the other."""
    regions = []
    for index, mask in enumerate(masks):
        labels, count = label(mask, structure=np.ones((3, 3)))
        regions += [(index, labels == number) for number in range(1, count + 1)]
    points = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        found = maps >= threshold
        overlaps = [found[index][region].mean() for index, region in regions]
        points.append((found[~masks].mean(), np.mean(overlaps)))
    area = 0.0
    for (left, low), (right, high) in zip(points, points[1:], strict=False):
        if right > limit:  # the piece in which the limit lies
            high = low + (high - low) * (limit - left) / (right - left)
            return (area + (limit - left) * (low + high) / 2) / limit
        area += (right - left) * (low + high) / 2
    return area / limit


def slow_estimate(maps, masks):
    """AUPRO as the published code estimates it: 200 thresholds, rates stretched by their range."""
    regions = []
    for index, mask in enumerate(masks):
        labels, count = label(mask, structure=np.ones((3, 3)))
        regions += [(index, labels == number) for number in range(1, count + 1)]
    low, high = float(maps.min()), float(maps.max())
    rates, overlaps = [], []
    for step in range(200):
        found = maps > low + step * (high - low) / 200
        rates.append(found[~masks].mean())
        overlaps.append(np.mean([found[index][region].mean() for index, region in regions]))
    kept = [(x, y) for x, y in zip(rates, overlaps, strict=True) if x < 0.3][::-1]
    span = kept[-1][0] - kept[0][0] if kept else 0
    if not span:
        return float("nan")
    scaled = [((x - kept[0][0]) / span, y) for x, y in kept]
    pairs = zip(scaled, scaled[1:], strict=False)
    return sum((right - left) * (a + b) / 2 for (left, a), (right, b) in pairs)


@st.composite
def maps_and_masks(draw):
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 7)), draw(st.integers(1, 7)))
    levels = draw(st.sampled_from([3, 1000]))
    maps = draw(arrays(np.float32, shape, elements=st.integers(-levels, levels).map(float)))
    masks = draw(arrays(np.bool_, shape))
    assume(masks.any() and not masks.all())
    return maps, masks


@pytest.mark.parametrize("mode", MODES)
@quick
@given(data=maps_and_masks(), limit=st.sampled_from([0.05, 0.3, 0.5, 1.0]))
def test_aupro_is_that_of_the_obvious_implementation(mode, data, limit):
    ours = pixel_metrics(*data, mode=mode, fpr_limit=limit)["aupro"]
    assert ours == pytest.approx(slow_aupro(*data, limit), abs=1e-9)


@quick
@given(data=maps_and_masks())
def test_the_published_estimate_is_that_of_the_obvious_implementation(data):
    maps, masks = data[0] / 1024, data[1]  # thresholds between scores, whatever the rounding
    metrics = PixelMetrics("exact")
    metrics.update(maps + np.float32(1e-3) * (maps > 0.1), masks)
    ours = aupro_authors(metrics.levels())
    expected = slow_estimate(maps + np.float32(1e-3) * (maps > 0.1), masks)
    assert ours == pytest.approx(expected, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize(("peaked", "least", "most"), [(False, 1e-4, 0.03), (True, 0.3, 1.0)])
def test_the_published_estimate_from_the_histogram(peaked, least, most):
    """Near the obvious one; on peaked maps, tens of points from the exact figure."""
    rng = np.random.default_rng(0)
    maps = rng.random((4, 40, 40), dtype=np.float32)
    masks = np.zeros(maps.shape, np.bool_)
    masks[0, 3:9, 3:9] = masks[0, 20:21, 5:30] = masks[2, 0:15, 30:40] = True
    maps[masks] = 0.6 + 0.39 * rng.random(int(masks.sum()), dtype=np.float32)
    if peaked:
        maps = np.where(maps > 0.99, 100 * maps, maps)
    metrics = PixelMetrics()
    metrics.update(maps, masks)
    ours = aupro_authors(metrics.levels())
    assert ours == pytest.approx(slow_estimate(maps, masks), abs=2e-3)
    assert least < abs(ours - metrics.compute()["aupro"]) < most


def test_the_published_estimate_is_undefined_where_rates_are_equal():
    flat, masks = np.full((1, 4, 4), 0.5, np.float32), np.zeros((1, 4, 4), np.bool_)
    for mask in (masks, masks | (np.eye(4) > 0)):
        metrics = PixelMetrics()
        metrics.update(flat, mask)
        assert np.isnan(aupro_authors(metrics.levels()))
    assert np.isnan(aupro_authors(PixelMetrics().levels()))


def test_aupro_with_real_regions_and_any_limit_from_one_pass():
    rng = np.random.default_rng(0)
    maps = rng.random((4, 40, 40), dtype=np.float32)
    masks = np.zeros(maps.shape, np.bool_)
    masks[0, 3:9, 3:9] = masks[0, 20:21, 5:30] = masks[2, 0:15, 30:40] = True
    maps[masks] += 0.4
    metrics = PixelMetrics()
    metrics.update(maps, masks)
    assert metrics.regions == 3
    for limit in (0.01, 0.3, 0.77, 1.0):
        result = metrics.compute(fpr_limit=limit)
        error = abs(result["aupro"] - slow_aupro(maps, masks, limit))
        assert error <= result["bound"]["aupro"] + 1e-9
        assert result["bound"]["aupro"] < 1e-3


def test_touching_at_a_corner_is_one_region_and_images_are_apart():
    masks = np.zeros((2, 4, 4), np.bool_)
    masks[0, 0, 0] = masks[0, 1, 1] = masks[0, 3, 3] = True
    masks[1, 0, 0] = True
    weights, count = region_weights(masks[0])
    assert count == 2
    assert weights.tolist() == [0.5, 0.5, 1.0]
    metrics = PixelMetrics()
    metrics.update(np.zeros((2, 4, 4)), masks)
    assert metrics.regions == 3


def test_a_small_region_weighs_as_much_as_a_large_one():
    maps, masks = np.zeros((1, 20, 20)), np.zeros((1, 20, 20), np.bool_)
    masks[0, :10, :10] = masks[0, 15, 15] = True
    maps[0, :10, :10] = 1.0  # the large one is found at once, the single pixel with everything else
    pro_from_the_start, at_limit = 0.5, 0.5 + 0.5 * 0.3
    found = pixel_metrics(maps, masks)["aupro"]
    assert found == pytest.approx((pro_from_the_start + at_limit) / 2)


@pytest.mark.parametrize("mode", MODES)
def test_no_normal_pixels_leave_aupro_undefined(mode):
    result = pixel_metrics(np.random.default_rng(0).random((1, 3, 3)), np.ones((1, 3, 3)), mode)
    assert np.isnan(result["aupro"])
    assert "without normal pixels" in result["reason"]["aupro"]


@pytest.mark.parametrize("limit", [0.0, -0.1, 1.1, float("nan")])
def test_a_limit_out_of_range_is_refused(limit):
    with pytest.raises(ConfigError, match="fpr_limit"):
        PixelMetrics().compute(fpr_limit=limit)
