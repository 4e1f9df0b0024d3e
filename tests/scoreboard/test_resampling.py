"""Figures of the scoreboard resampled: those of the drawn images, and intervals that hold."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from bayes_pfl.metrics import PixelMetrics, pixel_metrics
from bayes_pfl.scoreboard import resampling
from bayes_pfl.scoreboard.resampling import (
    BootstrapSettings,
    PixelCounter,
    image_replicates,
    image_weights,
    interval,
    pixel_replicates,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def blobs(rng, images=40, side=24, strength=1.0):
    """Maps (I, side, side) with a brighter square in every second one, and their masks."""
    maps = rng.normal(size=(images, side, side)).astype(np.float32)
    masks = np.zeros(maps.shape, bool)
    for index in range(0, images, 2):
        top, left = rng.integers(0, side - 6, 2)
        masks[index, top : top + 5, left : left + 6] = True
        masks[index, 0, 0] = True  # a second region
    maps[masks] += strength
    return maps, masks


def test_replicates_of_images_are_those_of_the_drawn_images(rng):
    labels = (rng.random(30) < 0.4).astype(int)
    scores = rng.normal(size=30).round(1) + labels  # rounded: ties
    weights = image_weights(labels, BootstrapSettings(resamples=25))
    found = image_replicates(scores, labels, weights)
    for row, auroc, ap in zip(weights, found["auroc"], found["ap"], strict=True):
        drawn = np.repeat(np.arange(30), row)
        assert auroc == pytest.approx(roc_auc_score(labels[drawn], scores[drawn]), abs=1e-12)
        expected = average_precision_score(labels[drawn], scores[drawn])
        assert ap == pytest.approx(expected, abs=1e-12)


def test_replicates_of_pixels_are_those_of_the_drawn_maps(rng):
    maps, masks = blobs(rng)
    counter = PixelCounter(pilots=10)  # most maps come after the scale is laid
    for pair in zip(maps, masks, strict=True):
        counter.add(*pair)
    labels = masks.any((1, 2)).astype(int)
    weights = image_weights(labels, BootstrapSettings(resamples=8))
    found = pixel_replicates(counter.counts(), weights, 0.3)
    for place, row in enumerate(weights):
        drawn = np.repeat(np.arange(len(maps)), row)
        metrics = PixelMetrics("exact")
        metrics.update(maps[drawn], masks[drawn])
        exact = metrics.compute()
        for key, values in found.items():
            assert values[place] == pytest.approx(exact[key], abs=2e-3)


def test_aupro_of_rows_is_the_exact_one_at_every_limit(rng):
    maps, masks = blobs(rng, images=4)
    counter = PixelCounter(steps=10**6)  # a level for every pixel
    for pair in zip(maps, masks, strict=True):
        counter.add(*pair)
    _, *sums = (part.sum(0, keepdims=True) for part in counter.counts())
    for limit in (0.013, 0.3, 1.0):
        found = resampling.aupro(*sums, limit)
        exact = pixel_metrics(maps, masks, fpr_limit=limit)["aupro"]
        assert found[0] == pytest.approx(exact, abs=1e-6)


def test_labels_keep_their_numbers_and_streams_are_independent():
    labels = np.array([0, 1, 1, 0, 1])
    settings = BootstrapSettings(resamples=200)
    weights = image_weights(labels, settings, "screw")
    assert (weights[:, labels == 1].sum(1) == 3).all()
    assert (weights[:, labels == 0].sum(1) == 2).all()
    assert np.array_equal(weights, image_weights(labels, settings, "screw"))
    assert not np.array_equal(weights, image_weights(labels, settings, "nut"))


def test_intervals_hold_the_truth_as_often_as_they_say(rng):
    # AUROC of N(1, 1) against N(0, 1) is Phi(1 / sqrt(2)).
    truth, inside, trials = 0.760250, 0, 150
    labels = np.repeat([0, 1], 60)
    for trial in range(trials):
        scores = rng.normal(size=120) + labels
        weights = image_weights(labels, BootstrapSettings(resamples=300, seed=trial))
        low, high = interval(image_replicates(scores, labels, weights)["auroc"], 0.95)
        inside += low <= truth <= high
    assert 0.89 <= inside / trials <= 0.99


def test_an_undefined_figure_has_no_interval():
    replicates = resampling.auroc(np.array([[1, 2]]), np.array([[0, 0]]))
    assert np.isnan(replicates).all()
    assert interval(replicates, 0.95) is None
