"""Verdicts to review: how many there are, and whether they are wrong more often than others."""

import numpy as np
import pytest

from bayes_pfl import BayesPFL
from bayes_pfl.fit.conformal import p_values, score_threshold
from bayes_pfl.fit.fit import FitOptions, fit_profile
from bayes_pfl.fit.review import needs_review
from bayes_pfl.rendering import TEST_CATEGORIES, VALIDATION_CATEGORIES, render

CATEGORIES = {
    "chosen": VALIDATION_CATEGORIES[::3],
    "others": VALIDATION_CATEGORIES[1::3] + TEST_CATEGORIES[::2],
}


@pytest.mark.parametrize(("count", "fpr"), [(20, 0.05), (199, 0.1)])
def test_what_is_near_the_threshold_is_as_frequent_among_normal_pictures_as_it_says(count, fpr):
    rng, review = np.random.default_rng(count), []
    for _ in range(400):
        known, new = np.sort(rng.random(count)), rng.random(100)
        labels = new >= score_threshold(known, fpr)
        pairs = zip(labels, p_values(known, new), strict=True)
        review += [needs_review(int(label), p) for label, p in pairs]
    allowed = np.floor((count + 1) * 0.25) / (count + 1) - fpr  # p-values are multiples of that
    assert np.mean(review) == pytest.approx(allowed, abs=0.015)


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
