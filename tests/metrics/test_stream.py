"""Streaming: order, splitting, merging, memory, the bins, and what is refused."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bayes_pfl.errors import ConfigError, DataError
from bayes_pfl.metrics import ImageMetrics, PixelMetrics
from bayes_pfl.metrics.stores import BinnedStore, from_keys, to_keys
from benchmarks.metrics import benchmark_metrics

MODES = ("exact", "binned")
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
KEYS = ("auroc", "ap", "f1_max", "f1_max_threshold", "iou", "aupro")


def sample(seed=0, count=6, size=24):
    """Maps over many magnitudes, with regions."""
    rng = np.random.default_rng(seed)
    maps = rng.normal(size=(count, size, size)) * 10.0 ** rng.integers(-6, 6, (count, 1, 1))
    masks = rng.random((count, size, size)) < 0.05
    return maps.astype(np.float32), masks


def values(metrics):
    result = metrics.compute()
    return [result[key] for key in KEYS]


def counted(maps, masks, mode="binned", bins=2**16):
    metrics = PixelMetrics(mode, bins)
    metrics.update(maps, masks)
    return metrics


@settings(max_examples=60, deadline=None)
@given(arrays(np.float32, st.integers(1, 50), elements=FINITE))
def test_keys_sort_as_the_scores_do_and_return_them(scores):
    keys = to_keys(scores)
    assert (from_keys(keys) == scores).all()
    order = np.argsort(scores, kind="stable")
    assert (order == np.argsort(keys, kind="stable")).all()


@pytest.mark.parametrize("mode", MODES)
def test_neither_order_nor_batches_matter(mode):
    maps, masks = sample()
    whole, single = counted(maps, masks, mode), PixelMetrics(mode, 2**16)
    for index in np.random.default_rng(1).permutation(len(maps)):
        single.update(maps[index], masks[index])
    assert values(single) == pytest.approx(values(whole), abs=1e-12)
    assert single.images == whole.images == 6


@pytest.mark.parametrize("mode", MODES)
def test_parts_sent_as_plain_arrays_merge_to_the_whole(mode):
    maps, masks = sample()
    parts = [counted(maps[i::3], masks[i::3], mode) for i in range(3)]
    merged = PixelMetrics(mode, 2**16)
    for part in parts:
        file = io.BytesIO()
        np.savez(file, **part.state())
        file.seek(0)
        merged.merge(PixelMetrics.from_state(dict(np.load(file, allow_pickle=False))))
    whole = counted(maps, masks, mode)
    assert values(merged) == pytest.approx(values(whole), abs=1e-12)
    assert (merged.images, merged.regions) == (whole.images, whole.regions)
    assert merged.compute()["bound"] == pytest.approx(whole.compute()["bound"], abs=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_image_metrics_merge(mode):
    rng = np.random.default_rng(2)
    scores, labels = rng.normal(size=50), rng.integers(0, 2, 50)
    whole, first, second = (ImageMetrics(mode) for _ in range(3))
    whole.update(scores, labels)
    first.update(scores[:20], labels[:20])
    for score, one in zip(scores[20:], labels[20:], strict=True):
        second.update(score, one)
    merged = ImageMetrics.from_state(first.state()).merge(second)
    assert merged.compute() == whole.compute()
    assert merged.images == 50


def test_metrics_of_other_settings_do_not_merge():
    with pytest.raises(ConfigError, match="same settings"):
        PixelMetrics(bins=2**16).merge(PixelMetrics(bins=2**17))
    with pytest.raises(ConfigError, match="same settings"):
        PixelMetrics(fpr_limit=0.3).merge(PixelMetrics(fpr_limit=0.1))
    with pytest.raises(ConfigError, match="same settings"):
        ImageMetrics("exact").merge(ImageMetrics("binned"))


def test_the_bound_holds_where_bins_are_coarse():
    """A dense cluster, and outliers of every magnitude that take the bins from it."""
    rng = np.random.default_rng(3)
    maps = (1 + 1e-3 * rng.normal(size=(2, 100, 100))).astype(np.float32)
    masks = rng.random(maps.shape) < 0.2
    maps[masks] += 5e-4
    wide = rng.random(maps.shape) < 0.1
    maps[wide] = rng.normal(size=wide.sum()) * 10.0 ** rng.integers(-30, 30, wide.sum())
    exact, binned = counted(maps, masks, "exact").compute(), counted(maps, masks).compute()
    for key, bound in binned["bound"].items():
        assert abs(exact[key] - binned[key]) <= bound + 1e-12, key
    assert 1e-5 < binned["bound"]["auroc"] < 0.05
    assert set(binned["bound"]) == set(KEYS) - {"f1_max_threshold"}


@pytest.mark.parametrize("sign", [1, -1])
def test_the_bound_holds_where_a_bin_hides_the_order_of_one_class(sign):
    """Positives of one bin only: precision rises along them, or falls where negatives share it."""
    spread = (1 + np.arange(40) * 2.0**-20).astype(np.float32)
    outliers = (10.0 ** np.linspace(-38, 38, 3000)).astype(np.float32)
    scores = np.concatenate([spread, [1.5, 2.5], -outliers])
    labels = np.concatenate([np.ones(40), np.zeros(3002)])
    labels[:20] = sign > 0
    results = []
    for mode in MODES:
        metrics = ImageMetrics(mode, 2**16)
        metrics.update(scores, labels)
        results.append(metrics.compute())
    exact, binned = results
    assert abs(exact["ap"] - binned["ap"]) > 0.01
    for key, bound in binned["bound"].items():
        assert abs(exact[key] - binned[key]) <= bound + 1e-12, key


def test_default_bins_resolve_any_range_to_one_part_in_two_thousand():
    """Every page of finite float32 numbers in use: the worst that can come."""
    finite = np.arange(0x0080, 0xFF80, dtype=np.uint32) << np.uint32(16)
    store = BinnedStore(2**20, weighted=False)
    for part in np.array_split(np.random.default_rng(0).permutation(finite), 7):
        store.add(from_keys(part), np.zeros(len(part), bool), None)
    assert store.shift == 12  # of the 23 bits of a mantissa: bins of 2**-11
    levels = store.levels(0)
    assert levels.negatives.sum() == len(finite) == len(levels.thresholds)
    assert (np.diff(levels.thresholds) < 0).all()


def test_a_narrow_interval_far_from_zero_loses_nothing():
    rng = np.random.default_rng(4)
    maps = (1000 + 0.1 * rng.random((2, 50, 50))).astype(np.float32)
    masks = rng.random(maps.shape) < 0.1
    exact = counted(maps, masks, "exact", 2**20)
    assert values(counted(maps, masks, bins=2**20)) == pytest.approx(values(exact), abs=1e-12)


def test_memory_does_not_grow_with_the_number_of_images():
    sizes = []
    metrics = PixelMetrics(bins=2**16)
    for seed in range(30):
        metrics.update(*sample(seed))
        sizes.append(sum(array.nbytes for array in metrics.state().values()))
    assert max(sizes) <= 2**16 * 24 + 2**16 * 8
    assert len(metrics.levels().thresholds) <= 2**16


def test_images_of_different_sizes_go_together():
    maps, masks = sample()
    metrics, whole = PixelMetrics(), counted(maps, masks, bins=2**20)
    metrics.update(maps[:, :10], masks[:, :10])
    metrics.update(maps[:, 10:], masks[:, 10:])
    for key in ("auroc", "ap", "f1_max"):
        assert metrics.compute()[key] == pytest.approx(whole.compute()[key], abs=1e-12)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_maps_are_refused_by_name_and_nothing_is_counted(mode, bad):
    maps, masks = sample()
    metrics = counted(maps, masks, mode)
    before = values(metrics)
    maps[4, 3, 2] = bad
    with pytest.raises(DataError, match=r"^part 5\.png: anomaly map with . NaN and . infinite"):
        metrics.update(maps, masks, [f"part {i}.png" for i in range(1, 7)])
    with pytest.raises(DataError, match=r"^image 10 \(counted from 0\)"):
        metrics.update(maps, masks)
    assert values(metrics) == before
    assert metrics.images == 6


def test_non_finite_scores_are_refused_by_name():
    with pytest.raises(DataError, match=r"^b\.png: score with 1 NaN"):
        ImageMetrics().update([0.1, np.nan], [0, 1], ["a.png", "b.png"])
    with pytest.raises(DataError, match="image 1 "):
        ImageMetrics().update(torch.tensor([0.1, torch.inf]), torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("scores", "labels", "names", "message"),
    [
        ([0.1, 0.2], [0, 2], None, "label value 2; allowed are 0 and 1"),
        ([0.1, 0.2], [0.0, 0.5], None, "label value 0.5"),
        ([0.1, 0.2], [0.0, np.nan], None, "label value nan"),
        ([0.1, 0.2], [0], None, r"shape \(2,\) with labels of shape \(1,\)"),
        ([[0.1], [0.2]], [[0], [1]], None, "both must be"),
        (["a", "b"], [0, 1], None, "real numbers are needed"),
        ([0.1, 0.2], ["a", "b"], None, "the numbers 0 and 1"),
        ([0.1, 0.2], [0, 1], ["a"], "1 names for 2 images"),
    ],
)
def test_wrong_scores_and_labels_are_refused(scores, labels, names, message):
    with pytest.raises(DataError, match=message):
        ImageMetrics().update(scores, labels, names)


def test_wrong_masks_are_refused():
    maps = np.zeros((2, 4, 5), np.float32)
    with pytest.raises(DataError, match="a.png: mask value 255; allowed are 0 and 1"):
        PixelMetrics().update(maps[0], np.full((4, 5), 255, np.uint8), "a.png")
    with pytest.raises(DataError, match=r"\(2, 4, 5\) with masks of shape \(2, 5, 4\)"):
        PixelMetrics().update(maps, np.zeros((2, 5, 4)))
    with pytest.raises(DataError, match="of one size"):
        PixelMetrics().update(maps[None], maps[None] > 0)


def test_an_empty_batch_counts_nothing():
    metrics = PixelMetrics()
    metrics.update(np.zeros((0, 4, 5)), np.zeros((0, 4, 5)))
    ImageMetrics().update([], [])
    assert metrics.images == 0


def test_the_benchmark_reports_time_memory_and_agreement():
    report = benchmark_metrics(maps=3, size=40, scaling=(2, 4))
    assert report["ratio"] > 0
    assert report["largest_difference"] < 1e-3
    assert [row["maps"] for row in report["scaling"]] == [2, 4]
    assert report["result"]["reason"] == {}
