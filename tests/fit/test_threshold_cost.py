"""What fit says that a threshold will cost."""

from types import SimpleNamespace

import numpy as np
import pytest

from bayes_pfl.fit.conformal import score_threshold
from bayes_pfl.fit.threshold_cost import ThresholdCost


def profile_of(scores, fpr, *, of=None, missing=0):
    """``of``: the rate of its threshold, where it is not the one asked for."""
    pictures = [SimpleNamespace(name=f"{at}.png", score=score) for at, score in enumerate(scores)]
    known = SimpleNamespace(fpr=of or fpr) if len(scores) > 1 else None
    return SimpleNamespace(pictures=pictures, fpr=fpr, calibration=known, missing=missing)


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
    few = profile_of(scores, 0.05, of=0.25, missing=16)
    first, _, alarms, last = ThresholdCost.of(few).sentences(str.upper)
    assert first == "The threshold is set by 1.PNG, the highest of 3 normal scores (0.500)."
    assert "about 25 in 100" in alarms
    assert last.startswith("A rate of 0.05, as asked for, needs 16 more normal pictures")
    assert ThresholdCost.of(profile_of([None], 0.05)) is None
