"""The scikit-learn detector: its conventions, and that it says what the model says."""

import pickle

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from bayes_pfl import AnomalyDetector, BayesPFL
from bayes_pfl.errors import BayesPFLError, DataError
from tests.helpers.folders import picture


@pytest.fixture(scope="module")
def normals():
    return np.stack([np.asarray(picture(index)) for index in range(30)])


@pytest.fixture(scope="module")
def fitted(checkpoint_dir, normals):
    detector = AnomalyDetector(
        str(checkpoint_dir), "metal nut", fpr=0.1, device="cpu", keep_outliers=True
    )
    return detector.fit(normals)


def test_signs_follow_the_convention_for_outliers(fitted, normals):
    new = np.stack([np.asarray(picture(index)) for index in range(50, 150)])
    scores = [result.score for result in fitted.model_.predict(new, profile=fitted.profile_)]
    np.testing.assert_allclose(fitted.score_samples(new), -np.array(scores), atol=1e-7)
    decision = fitted.decision_function(new)
    np.testing.assert_allclose(decision, fitted.score_samples(new) - fitted.offset_)
    labels = fitted.predict(new)
    assert set(labels) == {-1, 1}
    np.testing.assert_array_equal(labels == 1, decision >= 0)
    np.testing.assert_array_equal(labels == -1, np.array(scores) >= fitted.calibration_.threshold)
    # 31 * 0.1 = 3.1: the third highest of the 30 normal ones is the last that is let pass.
    left_out = np.array([picture.score for picture in fitted.profile_.pictures])
    assert (left_out >= fitted.calibration_.threshold).sum() == 2


def test_explanations_are_whole_results(fitted, normals):
    results = fitted.explain(normals[:2])
    assert [r.label for r in results] == [int(v == -1) for v in fitted.predict(normals[:2])]
    assert all(0 < r.p_value <= 1 and r.uncertainty_map is not None for r in results)


def test_lists_arrays_and_paths_are_the_same(fitted, normals, tmp_path):
    wanted = fitted.score_samples(normals[:3])
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for image, path in zip(normals, paths, strict=False):
        Image.fromarray(image).save(path)
    kinds = (list(normals[:3]), paths, np.array([str(path) for path in paths]), iter(paths))
    for given in kinds:
        np.testing.assert_allclose(fitted.score_samples(given), wanted, atol=1e-6)


def test_before_fit_it_says_so(normals):
    for ask in ("predict", "decision_function", "score_samples", "explain"):
        with pytest.raises(NotFittedError, match="fit"):
            getattr(AnomalyDetector(), ask)(normals)


def test_parameters_are_stored_and_no_more(fitted):
    odd = AnomalyDetector("nowhere", "nut", samples=-3, fpr=7)
    assert odd.get_params()["fpr"] == 7 and odd.get_params()["checkpoint"] == "nowhere"
    assert clone(odd).get_params() == odd.get_params()
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params() and not hasattr(copy, "calibration_")
    assert odd.set_params(fpr=0.2).fpr == 0.2
    assert "samples=-3" in repr(odd)


def test_it_works_in_a_pipeline(checkpoint_dir, normals):
    crop = FunctionTransformer(lambda images: images[:, 5:-5, 5:-5])
    detector = AnomalyDetector(checkpoint_dir, "nut", device="cpu", keep_outliers=True)
    labels = make_pipeline(crop, detector).fit(normals).predict(normals[:4])
    assert labels.shape == (4,) and set(labels) <= {-1, 1}
    assert clone(detector).fit_predict(normals).shape == (30,)


def test_a_model_in_memory_is_used_as_it_is(tiny_model, normals):
    detector = AnomalyDetector(tiny_model, "nut", keep_outliers=True).fit(normals)
    assert detector.model_ is tiny_model and detector.calibration_.checkpoint.name is None


def test_a_fitted_one_survives_pickling(fitted, normals):
    copy = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_allclose(copy.predict(normals[:2]), fitted.predict(normals[:2]))


def test_refusals(checkpoint_dir, normals, tiny_model):
    detector = AnomalyDetector(tiny_model, "nut", words_only=True)
    with pytest.raises(DataError, match="19 normal images are too few"):
        detector.fit(normals[:19])
    one = AnomalyDetector(tiny_model, "nut", keep_outliers=True).fit(normals[:1])
    assert one.score_samples(normals[20:22]).shape == (2,)
    with pytest.raises(DataError, match="it needs a second normal image"):
        one.predict(normals)
    with pytest.raises(DataError, match="also for a single one"):
        detector.fit("a.png")
    with pytest.raises(DataError, match=r"X of shape \(30, 40, 3\)"):
        detector.fit(normals[0])
    with pytest.raises(DataError, match="X is int"):
        detector.fit(3)
    with pytest.raises(BayesPFLError, match="fpr = 7"):
        AnomalyDetector(tiny_model, fpr=7).fit(normals)
    with pytest.raises(BayesPFLError, match="'nowhere' not found"):
        AnomalyDetector("nowhere").fit(normals)
    with pytest.raises(BayesPFLError, match="samples = 1, but"):
        fit = AnomalyDetector(tiny_model, "nut", keep_outliers=True).fit(normals)
        fit.set_params(samples=1).predict(normals)


def test_the_public_name_is_lazy():
    import bayes_pfl

    assert "AnomalyDetector" in bayes_pfl.__all__ and bayes_pfl.BayesPFL is BayesPFL


def test_a_pickle_leaves_the_model_out_and_loads_it_again(fitted, normals):
    data = pickle.dumps(fitted)
    assert len(data) < 2_000_000 and not hasattr(pickle.loads(data), "model_")
    again = pickle.loads(data)
    np.testing.assert_allclose(again.score_samples(normals[:2]), fitted.score_samples(normals[:2]))


def test_cross_validation_takes_small_folds(tiny_model, normals):
    detector = AnomalyDetector(tiny_model, "metal nut", keep_outliers=True, samples=0)
    scores = cross_val_score(detector, normals[:6], cv=3)
    assert len(scores) == 3 and all(0 < score < 1 for score in scores)


def test_its_score_is_the_area_under_the_curve_where_both_kinds_are_there(fitted, normals):
    samples = fitted.score_samples(normals[:4])
    truth = np.where(samples >= np.median(samples), 1, -1)
    assert fitted.score(normals[:4], truth) == 1
    assert fitted.score(normals[:4], -truth) == 0
    assert fitted.score(normals[:4]) == pytest.approx(1 + samples.mean())


def test_a_region_of_interest_is_kept_from_profile_to_the_next_fit(checkpoint_dir, tmp_path):
    mask = np.zeros((48, 48), np.uint8)
    mask[8:40, 8:40] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    images = [picture(index) for index in range(3)]
    how = {"keep_outliers": True, "samples": 0, "device": "cpu"}
    first = AnomalyDetector(str(checkpoint_dir), roi=tmp_path / "mask.png", **how).fit(images)
    again = AnomalyDetector.from_profile(first.profile_, device="cpu")
    np.testing.assert_allclose(again.score_samples(images), first.score_samples(images), atol=1e-6)
    assert again.set_params(keep_outliers=True).fit(images).profile_.roi == first.profile_.roi
    assert clone(again).roi == first.profile_.roi
