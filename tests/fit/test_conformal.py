"""Thresholds and p-values: the guarantees hold on simulated exchangeable scores."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayes_pfl.errors import ConfigError, DataError
from bayes_pfl.fit.conformal import (
    PixelRates,
    images_needed,
    p_values,
    score_threshold,
    smallest_rate,
    upward_z,
)

values = st.floats(0, 1, width=32)
score_lists = st.lists(values, min_size=1, max_size=60)


def skewed(rng, *shape):
    """Scores with a long upper tail, as normal images have them."""
    return rng.beta(2, 9, shape)


@pytest.mark.parametrize(("n", "rate"), [(20, 0.05), (20, 0.1), (99, 0.01), (150, 0.03)])
def test_coverage_over_many_calibrations(n, rate):
    rng = np.random.default_rng(n)
    runs, new = 3000, 20
    reached = 0
    for _ in range(runs):
        limit = score_threshold(skewed(rng, n), rate)
        reached += int((skewed(rng, new) >= limit).sum())
    allowed = math.floor((n + 1) * rate + 1e-9) / (n + 1)  # the exact rate of continuous scores
    # Scores of a run share their threshold: the spread of its coverage is that of a beta variable.
    between = allowed * (1 - allowed) / (n + 2)
    error = math.sqrt((between + allowed * (1 - allowed) / new) / runs)
    assert abs(reached / (runs * new) - allowed) < 4 * error
    assert allowed <= rate


def test_coverage_holds_for_tied_scores():
    rng = np.random.default_rng(0)
    reached = [
        (rng.integers(0, 5, 50) / 5 >= score_threshold(rng.integers(0, 5, 40) / 5, 0.1)).mean()
        for _ in range(2000)
    ]
    assert np.mean(reached) <= 0.1


@given(score_lists, st.integers(1, 20), values)
def test_reaching_the_threshold_is_a_p_value_within_the_rate(scores, percent, score):
    rate = percent / 20 - 0.025
    if len(scores) < images_needed(rate):
        with pytest.raises(DataError, match="cannot guarantee"):
            score_threshold(scores, rate)
        return
    limit = score_threshold(scores, rate)
    p = p_values(sorted(scores), np.array([score]))[0]
    assert (score >= limit) == (p <= rate + 1e-9)


@given(score_lists, values, values)
def test_p_values_lie_in_range_and_fall_with_the_score(scores, a, b):
    low, high = p_values(sorted(scores), np.array(sorted([a, b])))
    n = len(scores)
    assert 1 / (n + 1) <= high <= low <= 1


@given(score_lists, values, st.randoms())
def test_p_values_do_not_depend_on_the_order_and_are_valid(scores, score, random):
    shuffled = random.sample(scores, len(scores))
    p = p_values(sorted(shuffled), np.array([score]))[0]
    assert p == (1 + sum(s >= score for s in scores)) / (len(scores) + 1)
    # Of n + 1 exchangeable scores, at most a (n + 1) have a p-value of a or less among the others.
    everyone = [*scores, score]
    n = len(everyone)
    own = [sum(s >= one for s in everyone) / n for one in everyone]
    for level in np.arange(1, n + 1) / n:
        assert sum(q <= level for q in own) <= level * n + 1e-9


def test_numbers_of_images_and_rates_belong_together():
    for rate in (0.01, 0.02, 0.05, 0.07, 0.1, 0.3):
        n = images_needed(rate)
        score_threshold(np.linspace(0, 1, n), rate)
        with pytest.raises(DataError, match=f"give {n} images"):
            score_threshold(np.linspace(0, 1, n - 1), rate)
    for n in (19, 20, 50, 99, 400, 5000):
        assert images_needed(smallest_rate(n)) <= n
        assert smallest_rate(n) < 1.1 / (n + 1)
    with pytest.raises(DataError, match=r"20 normal images .* fpr = 0\.01: give 99.*0\.048 or"):
        score_threshold(np.zeros(20), 0.01)
    for wrong in (0, 1, -0.1, 2.0, math.nan, True, "0.1"):
        with pytest.raises(ConfigError, match="above 0 and below 1"):
            score_threshold(np.zeros(20), wrong)


def smooth_maps(rng, count, side=24):
    """Maps of exchangeable images: a level of each image's own, and now and then a bright spot."""
    level = rng.beta(2, 6, (count, 1, 1))
    maps = np.clip(level + rng.normal(0, 0.05, (count, side, side)), 0, 1)
    for one in maps[rng.random(count) < 0.2]:
        row, column = rng.integers(0, side - 6, 2)
        one[row : row + 6, column : column + 6] += 0.3
    return np.clip(maps, 0, 1).astype(np.float32)


@pytest.mark.parametrize(("n", "rate"), [(20, 0.06), (60, 0.03)])
def test_expected_share_of_pixels_is_controlled(n, rate):
    rng = np.random.default_rng(1)
    shares = []
    for _ in range(400):
        rates = PixelRates()
        for one in smooth_maps(rng, n):
            rates.add(one)
        limit = rates.threshold(rate)
        shares.append((smooth_maps(rng, 10) >= limit).mean())
    error = np.std(shares) / math.sqrt(len(shares))
    assert np.mean(shares) <= rate + 3 * error
    assert np.mean(shares) > rate / 20  # and is not bought by never outlining anything


def test_pixel_threshold_is_the_lowest_that_the_maps_allow():
    rng = np.random.default_rng(2)
    maps = smooth_maps(rng, 30)
    rates = PixelRates()
    for one in maps:
        rates.add(one)
    limit, n = rates.threshold(0.05), 30

    def bound(t):
        return (n * (maps >= t).mean() + 1) / (n + 1)

    assert bound(limit) <= 0.05 < bound(limit - 1 / 65536)


def test_pixel_threshold_at_its_ends():
    rates = PixelRates()
    for _ in range(24):
        rates.add(np.ones((4, 4), np.float32))
    assert rates.threshold(0.05) > 1  # nothing less would do
    rates = PixelRates()
    for _ in range(24):
        rates.add(np.zeros((4, 4), np.float32))
    assert 0 < rates.threshold(0.05) <= 2 / 65536
    with pytest.raises(DataError, match="cannot guarantee pixel_fpr"):
        rates.threshold(0.03)
    with pytest.raises(DataError, match="outside"):
        rates.add(np.full((4, 4), np.nan, np.float32))


def test_every_image_counts_the_same_whatever_its_size():
    rates = PixelRates()
    for side in (4, 400):
        for _ in range(10):
            rates.add(np.full((side, side), side / 1000, np.float32))
    assert rates.threshold(0.3) == pytest.approx(0.4, abs=1e-4)  # half of all images lie above
    assert 0.004 < rates.threshold(0.6) < 0.005


def test_outliers_stand_out_and_long_tails_do_not():
    rng = np.random.default_rng(3)
    plain = rng.normal(0.5, 0.02, 40)
    assert upward_z([*plain, 0.9])[-1] > 6
    assert upward_z([*plain, 0.9, 0.9, 0.9])[-1] > 6  # several do not hide each other
    worst = [upward_z(skewed(rng, 40)).max() for _ in range(500)]
    assert np.mean(np.array(worst) > 6) < 0.01
    assert upward_z(np.full(20, 0.5)).tolist() == [0] * 20
