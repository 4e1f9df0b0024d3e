"""Answers are those of predict, whatever the kind of the file and however many ask at once."""

import base64
import io
import tempfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import ExifTags, Image

from bayes_pfl.detect.settings import ScoringSettings
from bayes_pfl.fit.fit import FitOptions, fit_profile
from bayes_pfl.predict.images import predict_stream
from bayes_pfl.serve.answers import Answer
from bayes_pfl.serve.detectors import ServedModel
from tests.fit.test_tiles import NAME, TILE, large, spotted
from tests.helpers.dicom import write_dicom
from tests.helpers.folders import picture
from tests.helpers.stacks import stack
from tests.serve.client import form, serving


@pytest.fixture(scope="module")
def profile(tiny_model):
    """With tiles, thresholds, sampled prompts."""
    options = FitOptions(fpr=0.3, tile=TILE, samples=2, seed=5)
    return fit_profile(tiny_model, [large(seed) for seed in range(20)], NAME, options)


@pytest.fixture(scope="module")
def served(tiny_model, profile):
    def load():
        scoring = profile.scoring()
        return ServedModel.of(tiny_model, profile.class_name, scoring, profile=profile)

    with serving(load, max_bytes=4 * 2**20, batch_wait=0.1) as running:
        yield running


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One file of each kind."""
    folder = tmp_path_factory.mktemp("kinds")
    deep = np.random.default_rng(1).integers(0, 4095, (40, 50), np.uint16)
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    spotted(91).save(folder / "large.png")
    large(60).save(folder / "normal.png")
    picture(2).save(folder / "turned.jpg", exif=turned)
    picture(3).convert("RGBA").save(folder / "alpha.png")
    picture(4).save(folder / "palette.gif")
    Image.fromarray(deep).save(folder / "deep.png")
    stack(folder / "pages.tif", 3)
    write_dicom(folder / "frames.dcm", np.stack([deep, deep // 2]))
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def expected(tiny_model, profile, files):
    """What predict says of each file's first picture."""
    found = predict_stream(tiny_model, files, None, profile.scoring(), profile=profile)
    return list(found)


@pytest.mark.filterwarnings("ignore::bayes_pfl.data.records.DatasetWarning")
def test_concurrent_answers_are_those_of_predict(served, files, expected):
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(served.post, path.read_bytes(), "?map=png") for path in files * 3]
        answers = [one.result() for one in asked]
    for path, result, answer in zip(files * 3, expected * 3, answers, strict=True):
        assert answer.status == 200, (path, answer.body)
        found, wanted = answer.json, result.to_dict()
        assert found.pop("region_count") == wanted.pop("regions"), path
        for name, value in wanted.items():
            if name != "path":
                assert found[name] == (
                    pytest.approx(value, abs=1e-5) if isinstance(value, float) else value
                ), (path, name)
        for region, one in zip(found["regions"], result.regions, strict=True):
            assert region["box"] == list(one.box) and region["area"] == one.area
            assert region["p_value"] == one.p_value
            assert region["peak"] == pytest.approx(one.peak, abs=1e-5)
        near = found["nearest_normal"]
        assert near["name"] == result.nearest_normal.name
        assert near["box"] == list(result.nearest_normal.box)
        png = Image.open(io.BytesIO(base64.b64decode(found["map_png"])))
        values = np.asarray(png, np.float32) / 65535
        np.testing.assert_allclose(values, result.anomaly_map, atol=1e-4)
        assert found["threshold"] == profile_threshold(result, found)
        assert set(found) | {"region_count"} == set(Answer.model_fields)


def profile_threshold(result, found):
    """The threshold that explains the label."""
    assert result.label == int(np.float32(result.score) >= found["threshold"])
    return found["threshold"]


def test_a_file_of_several_pictures_says_so(served, files):
    known = {path.name: served.post(path.read_bytes()).json["first_of"] for path in files}
    assert known["pages.tif"] == "pages" and known["frames.dcm"] == "frames"
    assert known["large.png"] is None


def test_a_form_is_read_in_memory_alone(served, monkeypatch):
    def rollover(file):
        raise AssertionError("an upload was written to the disk")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", rollover)
    noise = np.random.default_rng(0).integers(0, 255, (700, 700, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "BMP")  # more than Starlette keeps in memory by itself
    body, headers = form(buffer.getvalue())
    by_form, plain = served.post(body, **headers), served.post(buffer.getvalue())
    assert by_form.status == 200 and by_form.json["score"] == pytest.approx(plain.json["score"])


def test_a_checkpoint_by_words_with_thresholds_of_the_user(tiny_model):
    def load():
        settings = ScoringSettings(samples=0)
        return ServedModel.of(
            tiny_model, "nut", settings, threshold=0.0, map_threshold=0.0, min_area=5
        )

    buffer = io.BytesIO()
    picture(1).save(buffer, "PNG")
    with serving(load) as running:
        found = running.post(buffer.getvalue()).json
    size = picture(1).size
    assert (found["label"], found["p_value"], found["memory_score"]) == (1, None, None)
    (region,) = found["regions"]
    assert region["box"] == [0, 0, *size] and region["area"] == size[0] * size[1]
