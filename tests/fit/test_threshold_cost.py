"""What fit says that a threshold will cost."""

from types import SimpleNamespace

import numpy as np
import pytest

from bayes_pfl.fit.conformal import score_threshold
from bayes_pfl.fit.threshold_cost import ThresholdCost


def profile_of(scores, fpr, *, enough=True):
    pictures = [SimpleNamespace(name=f"{at}.png", score=score) for at, score in enumerate(scores)]
    known = SimpleNamespace(threshold=score_threshold(scores, fpr)) if enough else None
    return SimpleNamespace(pictures=pictures, fpr=fpr, calibration=known)


@pytest.mark.parametrize(("count", "fpr", "rank"), [(20, 0.05, 1), (39, 0.05, 2), (99, 0.1, 10)])
def test_the_share_of_false_alarms_lies_within_the_interval_as_often_as_it_says(count, fpr, rank):
    rng = np.random.default_rng(count)
    cost = ThresholdCost.of(profile_of(rng.random(count), fpr))
    inside, shares = 0, []
    for _ in range(2000):
        share = 1 - score_threshold(rng.random(count), fpr)  # of uniform scores
        inside += cost.interval[0] <= share <= cost.interval[1]
        shares.append(share)
    assert cost.rank == rank
    assert inside / 2000 == pytest.approx(0.95, abs=0.015)
    assert np.mean(shares) == pytest.approx(cost.expected, rel=0.07)


def test_it_names_the_picture_and_how_high_normal_pictures_score():
    scores = np.linspace(0.1, 0.48, 39)
    said = " ".join(ThresholdCost.of(profile_of(scores, 0.05)).sentences())
    assert "set by 37.png, number 2 from the top of 39 normal scores (0.470)." in said
    assert "lie between 0.100 and 0.480, half of them below 0.290." in said
    assert "about 5 in 100 new normal pictures; between 0.6 and 13 in 100 with 95%" in said


def test_too_few_pictures_leave_the_highest_normal_score():
    scores = [0.2, 0.5, 0.4]
    _, line = ThresholdCost.of(profile_of(scores, 0.05, enough=False)).sentences(str.upper)
    assert "highest normal score may serve as a threshold: 0.500, of 1.PNG. Above it" in line
    assert "about 25 in 100" in line
    assert ThresholdCost.of(profile_of([None], 0.05, enough=False)) is None
