"""Verdicts to review: which scores are near a threshold, and whether such verdicts are wrong."""

import numpy as np
import pytest

from bayes_pfl import BayesPFL
from bayes_pfl.fit.fit import FitOptions, fit_profile
from bayes_pfl.fit.review import review_band
from bayes_pfl.rendering import TEST_CATEGORIES, VALIDATION_CATEGORIES, render

CATEGORIES = {
    "chosen": VALIDATION_CATEGORIES[::3],
    "tried": TEST_CATEGORIES[::4],
    "confirmed": VALIDATION_CATEGORIES[1::3] + TEST_CATEGORIES[2::4],
}


@pytest.mark.parametrize("threshold", [0.62, 0.9])
def test_a_fifth_of_normal_pictures_is_near_a_threshold_that_few_reach(threshold):
    scores = np.random.default_rng(0).beta(3, 7, 500)
    low, high = review_band(scores, threshold)
    assert abs((scores >= low).mean() - 0.2) < 0.003
    assert high - threshold == pytest.approx(threshold - low)


def test_nothing_is_near_a_threshold_among_the_normal_scores():
    low, high = review_band(np.linspace(0, 1, 100), 0.5)  # half of them reach it
    assert low > high


def verdicts(model, categories, **options):
    """(n, 3) of new pictures: is the verdict wrong, is it to review, is there a fault."""
    rows = []
    for name in categories:
        normals = [render(name, 5, index, size=256) for index in range(20)]
        word = normals[0].class_name
        profile = fit_profile(
            model, [one.image for one in normals], word, FitOptions(keep_outliers=True, **options)
        )
        new = [
            render(name, 6, index, size=256, defect="random" if index % 2 else None)
            for index in range(40)
        ]
        results = model.predict_stream([one.image for one in new], word, profile=profile)
        for one, result in zip(new, results, strict=True):
            faulty = bool(one.mask.any())
            rows.append((result.label != int(faulty), result.needs_review, faulty))
    return np.array(rows, bool)


@pytest.mark.slow
@pytest.mark.parametrize("words_only", [False, True])
@pytest.mark.parametrize("group", CATEGORIES)
def test_verdicts_to_review_are_twice_as_often_wrong(group, words_only, capsys):
    model = BayesPFL.from_pretrained("bayes-pfl-tiny", device="cpu")
    wrong, review, faulty = verdicts(model, CATEGORIES[group], words_only=words_only).T
    there, rest = wrong[review].mean(), wrong[~review].mean()
    with capsys.disabled():
        print(f"\n{group}, {'words' if words_only else 'profile'}: {review.mean():.2f} to review, ")
        print(
            f"wrong {there:.3f} of them and {rest:.3f} of the others, {faulty.sum()} with a fault"
        )
    assert there > 2 * rest and review.mean() < 1 / 3
