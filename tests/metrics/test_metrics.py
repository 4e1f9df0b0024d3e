"""Ranking metrics against scikit-learn: ties, constant scores, one class, tiny data, imbalance."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    jaccard_score,
    precision_recall_curve,
    roc_auc_score,
)

from bayes_pfl.errors import BayesPFLError, ConfigError
from bayes_pfl.metrics import ImageMetrics, PixelMetrics, image_metrics, pixel_metrics

MODES = ("exact", "binned")
RANKING = ("auroc", "ap", "f1_max", "f1_max_threshold")
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
TIED = st.integers(-3, 3).map(float)
quick = settings(max_examples=60, deadline=None)


@st.composite
def scored(draw, elements, most=60):
    """Scores float32 (n,) and labels bool (n,) with both classes."""
    count = draw(st.integers(2, most))
    scores = draw(arrays(np.float32, count, elements=elements))
    labels = draw(arrays(np.bool_, count))
    assume(labels.any() and not labels.all())
    return scores, labels


def reference(scores, labels):
    """scikit-learn's figures; float64, for it subtracts neighbouring scores."""
    scores = scores.astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        precision, recall, thresholds = precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    return {
        "auroc": roc_auc_score(labels, scores),
        "ap": average_precision_score(labels, scores),
        "f1_max": f1.max(),
        "thresholds": thresholds[f1[:-1] >= f1.max() - 1e-12],
    }


def assert_equal(ours, theirs):
    for key in ("auroc", "ap", "f1_max"):
        assert ours[key] == pytest.approx(theirs[key], abs=1e-9), key
    # Of several best thresholds the lowest, as argmax over scikit-learn's ascending ones gives.
    assert ours["f1_max_threshold"] == theirs["thresholds"][0]


@quick
@given(scored(FINITE))
def test_exact_image_metrics_are_scikit_learns_for_any_finite_scores(data):
    assert_equal(image_metrics(*data), reference(*data))


@quick
@given(scored(TIED))
def test_ties_count_as_in_scikit_learn(data):
    assert_equal(image_metrics(*data), reference(*data))


@quick
@given(scored(TIED))
def test_binned_mode_is_exact_while_no_bin_holds_two_scores(data):
    assert_equal(image_metrics(*data, mode="binned"), reference(*data))


@quick
@given(scored(FINITE, most=200))
def test_binned_mode_stays_within_its_own_bound_for_any_finite_scores(data):
    exact, binned = image_metrics(*data), image_metrics(*data, mode="binned")
    for key in ("auroc", "ap", "f1_max"):
        assert abs(exact[key] - binned[key]) <= binned["bound"][key] + 1e-12, key


@quick
@given(st.integers(1, 6), st.integers(1, 6), st.data())
def test_pixel_metrics_are_scikit_learns_on_tiny_maps(height, width, data):
    maps = data.draw(arrays(np.float32, (2, height, width), elements=FINITE))
    masks = data.draw(arrays(np.bool_, (2, height, width)))
    assume(masks.any() and not masks.all())
    ours, theirs = pixel_metrics(maps, masks), reference(maps.ravel(), masks.ravel())
    assert_equal(ours, theirs)
    # Published convention: the IoU is that of the pixels above the threshold, F1 of those from it.
    found = maps > np.float32(ours["f1_max_threshold"])
    iou = jaccard_score(masks.ravel(), found.ravel(), zero_division=0.0)
    assert ours["iou"] == pytest.approx(iou, abs=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_the_threshold_gives_the_f1(mode):
    rng = np.random.default_rng(0)
    scores = rng.normal(size=5000).astype(np.float32)
    labels = rng.random(5000) < 1 / (1 + np.exp(-3 * scores))
    result = image_metrics(scores, labels, mode)
    assert f1_score(labels, scores >= result["f1_max_threshold"]) == pytest.approx(result["f1_max"])


@pytest.mark.parametrize("mode", MODES)
def test_constant_scores_tell_nothing(mode):
    labels = np.array([1, 0, 0, 0])
    result = image_metrics(np.full(4, 7.5), labels, mode)
    assert result["auroc"] == 0.5
    assert result["ap"] == 0.25
    assert result["f1_max"] == pytest.approx(0.4)
    assert result["f1_max_threshold"] == 7.5


@pytest.mark.parametrize("mode", MODES)
def test_one_anomalous_pixel_in_a_million(mode):
    rng = np.random.default_rng(1)
    maps = rng.random((1, 1000, 1000), dtype=np.float32)
    masks = np.zeros(maps.shape, np.bool_)
    masks[0, 400, 500] = True
    maps[masks] = np.float32(0.9995)
    theirs = reference(maps.ravel(), masks.ravel())
    result = pixel_metrics(maps, masks, mode)
    for key in ("auroc", "ap", "f1_max"):
        tolerance = result["bound"][key] + 1e-9
        assert result[key] == pytest.approx(theirs[key], abs=tolerance), key
        assert tolerance < 1e-3


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("labels", "word"),
    [([0, 0, 0], "no anomalous images among 3"), ([1, 1, 1], "no normal images")],
)
def test_one_class_is_nan_with_a_reason(mode, labels, word):
    result = image_metrics([0.1, 0.2, 0.3], labels, mode)
    for key in RANKING:
        assert np.isnan(result[key])
        assert word in result["reason"][key]
    assert result["bound"] == {}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("metrics", [PixelMetrics, ImageMetrics])
def test_no_data_is_nan_with_a_reason(metrics, mode):
    result = metrics(mode).compute()
    assert np.isnan(result["auroc"])
    assert "no data" in result["reason"]["auroc"] or "without data" in result["reason"]["auroc"]


@pytest.mark.parametrize("mode", MODES)
def test_all_masks_empty_leaves_every_pixel_metric_undefined(mode):
    result = pixel_metrics(np.random.default_rng(0).random((2, 4, 4)), np.zeros((2, 4, 4)), mode)
    assert {"auroc", "ap", "f1_max", "f1_max_threshold", "iou", "aupro"} == set(result["reason"])
    assert all(np.isnan(result[key]) for key in result["reason"])
    assert "every mask is empty" in result["reason"]["aupro"]


@pytest.mark.parametrize("mode", MODES)
def test_minus_zero_ties_with_zero(mode):
    assert image_metrics([-0.0, 0.0], [1, 0], mode)["auroc"] == 0.5


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shift", [-1e4, 0.0, 1e4])
def test_the_range_of_the_scores_does_not_matter(mode, shift):
    rng = np.random.default_rng(2)
    scores = (rng.integers(0, 400, 1000) / 256 + shift).astype(np.float32)
    labels = rng.random(1000) < 0.3
    ours, theirs = image_metrics(scores, labels, mode), reference(scores, labels)
    assert_equal(ours, theirs)


def test_scores_beyond_float32_are_kept_in_order():
    scores = np.array([-1e300, -1.0, 1.0, 1e300])
    for mode in MODES:
        assert image_metrics(scores, [0, 0, 1, 1], mode)["auroc"] == 1.0


def test_exact_mode_tells_float64_scores_apart():
    scores = np.array([1.0, 1.0 + 1e-12])
    assert image_metrics(scores, [0, 1])["auroc"] == 1.0
    assert image_metrics(scores, [0, 1], "binned")["bound"]["auroc"] >= 0.5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors_give_what_arrays_give(dtype):
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(3, 8, 9, generator=generator).to(dtype)
    masks = torch.rand(3, 8, 9, generator=generator) < 0.3
    ours = pixel_metrics(maps.requires_grad_(), masks)
    arrays_given = pixel_metrics(maps.detach().double().numpy(), masks.numpy().astype(np.uint8))
    for key in (*RANKING, "iou", "aupro"):
        assert ours[key] == pytest.approx(arrays_given[key], abs=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_curves_end_where_everything_is_found(mode):
    rng = np.random.default_rng(3)
    metrics = PixelMetrics(mode)
    metrics.update(rng.random((2, 32, 32)), rng.random((2, 32, 32)) < 0.2)
    curves = metrics.curves(points=50)
    assert {"threshold", "fpr", "tpr", "precision", "recall", "pro"} == set(curves)
    for name in ("fpr", "tpr", "pro"):
        assert len(curves[name]) <= 51
        assert curves[name][-1] == pytest.approx(1.0)
        assert (np.diff(curves[name]) >= 0).all()
    assert (np.diff(curves["threshold"]) < 0).all()


def test_unknown_settings_are_refused_by_name():
    with pytest.raises(ConfigError, match="mode='fast'.*'binned'.*'exact'"):
        PixelMetrics("fast")
    with pytest.raises(ConfigError, match="bins=1000.*powers of two"):
        PixelMetrics(bins=1000)
    with pytest.raises(ConfigError, match="fpr_limit=0"):
        PixelMetrics(fpr_limit=0)
    assert issubclass(ConfigError, BayesPFLError)
