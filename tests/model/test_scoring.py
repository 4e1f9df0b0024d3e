"""Smoothing against SciPy, the image scores of both protocols."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from bayes_pfl.errors import ConfigError, DataError
from bayes_pfl.model.scoring import (
    BatchScores,
    authors_scores,
    deploy_scores,
    gaussian_smooth,
    min_max,
    top_k_for,
    top_mean,
)
from tests.helpers.paths import PARITY


def maps(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def scipy_smooth(values, sigma):
    return np.stack([gaussian_filter(one, sigma) for one in values.numpy()])


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    sigma=st.floats(0.0, 12.0),
    seed=st.integers(0, 99),
)
def test_smoothing_is_scipys_also_where_the_kernel_is_larger_than_the_map(
    height, width, sigma, seed
):
    values = maps(2, height, width, seed=seed)
    ours = gaussian_smooth(values, sigma)
    assert np.abs(ours.numpy() - scipy_smooth(values, sigma)).max() <= 1e-5


@pytest.mark.parametrize("sigma", [4, 8])
def test_smoothing_is_scipys_at_full_size(sigma):
    values = maps(1, 518, 518)
    assert (
        np.abs(gaussian_smooth(values, sigma).numpy() - scipy_smooth(values, sigma)).max() <= 1e-5
    )


def test_smoothing_keeps_the_mean_the_shape_and_the_input():
    values = maps(3, 20, 31)
    before = values.clone()
    smooth = gaussian_smooth(values, 5)
    assert smooth.shape == values.shape
    torch.testing.assert_close(smooth.mean(dim=(1, 2)), values.mean(dim=(1, 2)), atol=1e-5, rtol=0)
    assert torch.equal(values, before)
    torch.testing.assert_close(gaussian_smooth(values[1], 5), smooth[1])


@pytest.mark.parametrize("sigma", [0, 0.1])
def test_a_very_small_sigma_changes_nothing(sigma):
    values = maps(2, 5, 6)
    assert torch.equal(gaussian_smooth(values, sigma), values)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_smoothing_keeps_the_dtype_and_sums_in_float32_at_least(dtype):
    values = maps(1, 30, 30).to(dtype)
    smooth = gaussian_smooth(values, 3)
    assert smooth.dtype == dtype
    exact = gaussian_smooth(values.double(), 3).to(dtype)
    torch.testing.assert_close(smooth, exact)


def test_smoothing_under_autocast_stays_exact():
    values = maps(2, 30, 30)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        smooth = gaussian_smooth(values, 4)
    assert torch.equal(smooth, gaussian_smooth(values, 4))


def test_gradients_pass_the_smoothing():
    values = maps(2, 6, 7).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: gaussian_smooth(x, 1.5), values)


@pytest.mark.parametrize("sigma", [-1.0, float("nan"), float("inf")])
def test_a_sigma_that_is_no_width_is_refused(sigma):
    with pytest.raises(ConfigError, match="sigma="):
        gaussian_smooth(maps(1, 4, 4), sigma)


def test_smoothing_wants_maps():
    with pytest.raises(DataError, match=r"\(4,\): must be \(B, H, W\) or \(H, W\)"):
        gaussian_smooth(maps(4), 1)
    assert gaussian_smooth(maps(0, 4, 4), 1).shape == (0, 4, 4)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 200), st.integers(0, 99))
def test_top_mean_is_the_mean_of_the_highest(height, width, k, seed):
    values = maps(3, height, width, seed=seed)
    highest = values.flatten(1).sort(dim=1, descending=True).values[:, :k]
    torch.testing.assert_close(top_mean(values, k=k), highest.mean(dim=1))


@pytest.mark.parametrize(("fraction", "k"), [(0.0075, 2012), (1e-9, 1), (1.0, 518 * 518)])
def test_a_fraction_is_a_number_of_pixels_one_at_least(fraction, k):
    values = maps(1, 518, 518)
    torch.testing.assert_close(top_mean(values, fraction=fraction), top_mean(values, k=k))


@pytest.mark.parametrize(
    "wanted",
    [{}, {"k": 3, "fraction": 0.1}, {"k": 0}, {"k": 2.5}, {"k": True}, {"fraction": 0.0},
     {"fraction": 1.5}],
)  # fmt: skip
def test_top_mean_refuses_what_is_no_number_of_pixels(wanted):
    with pytest.raises(ConfigError, match="k=|fraction="):
        top_mean(maps(1, 4, 4), **wanted)


def test_deploy_score_is_half_text_half_map_and_needs_no_other_image():
    text, values = torch.tensor([0.2, 0.9, 0.5]), maps(3, 40, 40)
    still, pairs = torch.zeros_like(values), torch.rand(3, 4)
    scores = deploy_scores(BatchScores(text, text * 0, values, still, pairs)).score
    torch.testing.assert_close(scores, 0.5 * text + 0.5 * top_mean(values, k=12))
    one = slice(1, 2)
    alone = BatchScores(text[one], text[one] * 0, values[one], still[one], pairs[one])
    torch.testing.assert_close(deploy_scores(alone).score, scores[one])


def test_authors_scores_are_the_published_ones():
    arrays = np.load(PARITY / "metrics.npz")
    recorded = json.loads((PARITY / "metrics.json").read_text())["fused_scores"]
    means = top_mean(torch.from_numpy(arrays["maps"]), k=200)
    assert authors_scores(arrays["text_scores"], means.numpy()) == pytest.approx(recorded, abs=1e-6)
    tensors = authors_scores(torch.from_numpy(arrays["text_scores"]), means)
    assert tensors.tolist() == pytest.approx(recorded, abs=1e-6)


def test_authors_scores_of_equal_values_are_zeros_not_nan():
    constant = np.full(3, 0.7)
    assert min_max(constant).tolist() == [0, 0, 0]
    assert authors_scores(constant, np.array([1.0, 2.0, 3.0])).tolist() == [0, 0.25, 0.5]
    assert min_max(np.empty(0)).shape == (0,)
    with pytest.raises(DataError, match=r"both must be \(n,\)"):
        authors_scores(constant, constant[:2])


def test_the_published_number_of_pixels_depends_on_the_category():
    assert [top_k_for(name) for name in ("screw", "macaroni2", "bottle")] == [20, 20, 2000]
