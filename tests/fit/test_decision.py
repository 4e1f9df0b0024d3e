"""Verdicts at the threshold itself: a score that equals it has reached it."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import torch

from bayes_pfl.evaluate.records import ImageRow
from bayes_pfl.evaluate.threshold import add_rates
from bayes_pfl.fit.decision import Decision, Verdict, reaches
from bayes_pfl.model.scoring import deploy_score

BELOW = float(np.nextafter(np.float32(0.5), np.float32(0)))


def test_a_score_at_the_threshold_is_anomalous():
    rule = Decision(threshold=0.5)
    assert rule.verdict(0.5).label == 1
    assert rule.verdict(BELOW).label == 0
    assert rule.verdict(0.5).needs_review is None  # no normal pictures say what is near


def test_prediction_and_evaluation_agree_at_a_tie():
    """A row keeps the two halves of the score, prediction their mean as float32."""
    rng = np.random.default_rng(0)
    for text, mapped in rng.random((200, 2), dtype=np.float32):
        predicted = deploy_score(torch.tensor(text), torch.tensor(mapped)).item()
        row = ImageRow("", "", 0, True, float(text), float(mapped), 0.0, 0.0, 0.0)
        for threshold in (predicted, math.nextafter(predicted, 1), math.nextafter(predicted, 0)):
            label = Decision(threshold).verdict(predicted).label
            assert reaches(row.deploy_score, threshold) == label == (predicted >= threshold)


def test_nothing_is_decided_without_a_threshold():
    assert Decision().verdict(0.5) == Verdict(None, None, None)


def test_rates_of_an_evaluation_count_a_score_at_the_threshold():
    scores = {"deploy": np.array([0.5, BELOW, 0.5, BELOW])}
    record = SimpleNamespace(
        image_scores=scores.__getitem__,
        labels=np.array([0, 0, 1, 1]),
        rows=scores["deploy"].tolist(),
    )
    settings = SimpleNamespace(class_name="metal nut")
    calibration = SimpleNamespace(threshold=0.5, fpr=0.1, settings=settings)
    sample = SimpleNamespace(category="metal_nut", class_name="metal nut")
    result = {"categories": {"metal_nut": {}}}
    data = SimpleNamespace(samples=[sample])
    add_rates(result, {"metal_nut": record}, data, calibration)
    found = result["categories"]["metal_nut"]["at_threshold"]
    assert (found["false_positives"], found["true_positives"]) == (1, 1)
    assert (found["fpr"], found["tpr"]) == (0.5, 0.5)
