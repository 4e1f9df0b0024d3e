"""AUPRO and AUPIMO against slow, obvious implementations."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import label

from bayes_pfl.errors import ConfigError
from bayes_pfl.metrics import PerImageMetrics, PixelMetrics, aupimo, aupro, pixel_metrics
from bayes_pfl.metrics.pro import region_weights

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


def slow_aupimo(maps, masks, low, high):
    """For many rates: the largest overlap of any threshold that keeps the rate."""
    normal = maps[~masks.any(axis=(1, 2))]
    thresholds = np.append(np.unique(maps), np.inf)
    rates = np.array([(normal >= threshold).mean() for threshold in thresholds])
    wanted = np.exp(np.linspace(np.log(low), np.log(high), 4001))
    wanted = np.sqrt(wanted[1:] * wanted[:-1])
    result = []
    for scores, mask in zip(maps, masks, strict=True):
        if mask.any():
            overlaps = np.array([(scores[mask] >= threshold).mean() for threshold in thresholds])
            result.append(np.mean([overlaps[rates <= rate].max() for rate in wanted]))
    return result


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
    assert aupro(maps, masks) == pytest.approx((pro_from_the_start + at_limit) / 2)


@pytest.mark.parametrize("mode", MODES)
def test_no_normal_pixels_leave_aupro_undefined(mode):
    result = pixel_metrics(np.random.default_rng(0).random((1, 3, 3)), np.ones((1, 3, 3)), mode)
    assert np.isnan(result["aupro"])
    assert "without normal pixels" in result["reason"]["aupro"]


@pytest.mark.parametrize("limit", [0.0, -0.1, 1.1, float("nan")])
def test_a_limit_out_of_range_is_refused(limit):
    with pytest.raises(ConfigError, match="fpr_limit"):
        PixelMetrics().compute(fpr_limit=limit)


@pytest.mark.parametrize("levels", [8, 300])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_aupimo_is_that_of_the_obvious_implementation(levels, seed):
    rng = np.random.default_rng(seed)
    maps = (rng.integers(0, levels, (5, 9, 11)) / 256).astype(np.float32)
    masks = rng.random(maps.shape) < 0.2
    masks[:2] = False
    ours = aupimo(maps, masks, fpr_range=(0.01, 0.2))
    slow = slow_aupimo(maps, masks, 0.01, 0.2)
    assert [value for _, value in ours["per_image"]] == pytest.approx(slow, abs=2e-3)
    assert ours["aupimo"] == pytest.approx(np.mean(slow), abs=2e-3)


def test_aupimo_is_exact_where_each_score_has_its_own_bin():
    """Scores of neighbouring bins, each 2**8 float32 numbers wide."""
    rng = np.random.default_rng(6)
    maps = (1 + rng.integers(0, 60, (4, 20, 20)) / 2**15).astype(np.float32)
    maps[0, :, :7] = (0.25 + np.arange(140).reshape(20, 7) % 128 / 2**9).astype(np.float32)
    masks = np.zeros(maps.shape, np.bool_)
    masks[2:, 3:9, 3:9] = True
    metrics = PerImageMetrics((0.01, 1.0), bins=2**16)
    metrics.update(maps, masks)
    slow = slow_aupimo(maps, masks, 0.01, 1.0)
    assert [value for _, value in metrics.compute()["per_image"]] == pytest.approx(slow, abs=1e-3)


def test_aupimo_merges_and_names_its_images():
    rng = np.random.default_rng(4)
    maps = rng.random((4, 30, 30), dtype=np.float32)
    masks = np.zeros(maps.shape, np.bool_)
    masks[1, 5:9, 5:9] = masks[3, 1:3, 1:3] = True
    names, whole, parts = ["a", "b", "c", "d"], PerImageMetrics((0.01, 0.1)), []
    whole.update(maps, masks, names)
    for half in (slice(0, 2), slice(2, 4)):
        part = PerImageMetrics((0.01, 0.1))
        part.update(maps[half], masks[half], names[half])
        parts.append(part)
    merged = parts[0].merge(parts[1]).compute()
    assert [name for name, _ in merged["per_image"]] == ["b", "d"]
    assert dict(merged["per_image"]) == pytest.approx(dict(whole.compute()["per_image"]), abs=1e-12)


def test_aupimo_keeps_a_bounded_number_of_scores_of_an_image():
    rng = np.random.default_rng(5)
    maps = rng.random((2, 100, 100), dtype=np.float32)
    masks = np.zeros(maps.shape, np.bool_)
    masks[1] = True
    maps[1] += 0.5
    results = []
    for kept in (500, 10_000):
        metrics = PerImageMetrics((0.001, 0.1), scores_kept=kept)
        metrics.update(maps, masks)
        results.append(metrics.compute()["aupimo"])
    assert results[0] == pytest.approx(results[1], abs=1 / 500)


def test_aupimo_without_enough_normal_pixels_tells_why():
    masks = np.zeros((2, 4, 4), np.bool_)
    masks[0, 0, 0] = True
    result = aupimo(np.random.default_rng(0).random((2, 4, 4)), masks)
    assert np.isnan(result["aupimo"])
    assert "16 pixels of normal images" in result["reason"]["aupimo"]
