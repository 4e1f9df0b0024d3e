"""Calibration on normal images: the file, what it refuses, and its use in prediction."""

import csv
import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from PIL import Image

from bayes_pfl import BayesPFL
from bayes_pfl.checkpoints.fingerprint import fingerprint
from bayes_pfl.detect.scorer import Scorer
from bayes_pfl.errors import ConfigError, DataError
from bayes_pfl.fit.calibrate import CalibrationOptions, calibrate, calibrate_folder
from bayes_pfl.fit.calibration import Calibration, load_calibration
from bayes_pfl.fit.conformal import score_threshold
from bayes_pfl.predict.folder import predict_folder
from tests.helpers.commands import command
from tests.helpers.folders import arguments, picture, rows_of, save

COUNT, NAME = 24, "metal nut"


@pytest.fixture(scope="module")
def normals():
    return [picture(index) for index in range(COUNT)]


@pytest.fixture(scope="module")
def calibration(tiny_model, normals):
    options = CalibrationOptions(fpr=0.1, keep_outliers=True)
    return calibrate(tiny_model, normals, NAME, options, checkpoint="tiny")


@pytest.fixture(scope="module")
def stored(calibration, tmp_path_factory):
    return calibration.save(tmp_path_factory.mktemp("calibration") / "new" / "c.json")


def test_thresholds_come_from_the_scores_and_maps_of_prediction(tiny_model, normals, calibration):
    results = tiny_model.predict(normals, NAME)
    scores = sorted(result.score for result in results)
    np.testing.assert_allclose(calibration.scores, scores, rtol=0, atol=1e-6)
    assert calibration.threshold == score_threshold(calibration.scores, 0.1)
    assert (calibration.n, calibration.fpr, calibration.pixel_fpr) == (COUNT, 0.1, 0.1)
    pixels = [np.asarray(image.resize((48, 48), Image.Resampling.BICUBIC)) for image in normals]
    maps = np.stack([one.map for one in Scorer(tiny_model)(pixels, [NAME] * COUNT)])
    at_least = (maps >= calibration.pixel_threshold).mean()
    below = (maps >= calibration.pixel_threshold - 2 / 65536).mean()
    assert (COUNT * at_least + 1) / (COUNT + 1) <= 0.1 + 1e-6 < (COUNT * below + 1) / (COUNT + 1)


def test_a_folder_gives_the_same_and_names_what_it_skips(tiny_model, calibration, tmp_path):
    folder = save(tmp_path / "in", [f"{index:02d}.png" for index in range(COUNT)])
    (folder / "broken.png").write_text("no image")
    options = CalibrationOptions(fpr=0.1, keep_outliers=True, batch_size=5)
    found, skipped = calibrate_folder(tiny_model, folder, NAME, options)
    np.testing.assert_allclose(found.scores, calibration.scores, rtol=0, atol=1e-6)
    assert abs(found.pixel_threshold - calibration.pixel_threshold) < 1e-4
    ((path, reason),) = skipped
    assert path.endswith("broken.png") and "not an image" in reason


def test_the_file_says_it_all_and_comes_back_equal(calibration, stored):
    data = json.loads(stored.read_text())
    assert (data["format"], data["version"]) == ("bayes-pfl calibration", 1)
    assert data["checkpoint"]["name"] == "tiny" and len(data["checkpoint"]["sha256"]) == 64
    assert data["settings"] == {
        "class_name": NAME,
        "samples": 3,
        "precision": "float32",
        "smoothing": True,
        "image_size": 48,
        "seed": 0,
        "window": None,
        "tile": None,
        "overlap": 0.25,
        "roi": None,
    }
    assert load_calibration(stored) == calibration


def test_prediction_takes_thresholds_and_p_values_from_it(tiny_model, normals, calibration, stored):
    new = [picture(index) for index in range(100, 112)]
    for given in (calibration, stored, str(stored)):
        results = tiny_model.predict(new, NAME, calibration=given)
        for result in results:
            assert result.label == int(result.score >= calibration.threshold)
            assert result.label == int(result.p_value <= 0.1)
            reached = sum(score >= result.score for score in calibration.scores)
            assert result.p_value == (1 + reached) / (COUNT + 1)
            assert result.map_threshold == calibration.pixel_threshold
            assert len(result.contours()) <= len(result.contours(calibration.pixel_threshold))
    assert sum(r.label for r in tiny_model.predict(normals, NAME, calibration=calibration)) <= 2


def test_folders_are_labelled_by_it(tiny_model, calibration, stored, tmp_path):
    folder = save(tmp_path / "in", [f"{index}.png" for index in range(4)])
    options = {"class_name": NAME, "maps": "none", "overlays": False, "report": False}
    summary = predict_folder(
        tiny_model, folder, tmp_path / "o", calibration=stored, **arguments(**options)
    )
    rows = rows_of(tmp_path / "o")
    for row in rows:
        assert int(row["label"]) == int(float(row["p_value"]) <= 0.1)
        near = row["label"] == "0" and float(row["p_value"]) <= 0.25
        assert int(row["needs_review"]) == int(near)
    assert summary.anomalous == sum(int(row["label"]) for row in rows)
    assert summary.review == sum(int(row["needs_review"]) for row in rows)
    kept = json.loads((tmp_path / "o/summary.json").read_text())
    assert kept["calibration"]["threshold"] == kept["settings"]["threshold"]
    assert kept["settings"]["map_threshold"] == calibration.pixel_threshold
    listed = rows_of(tmp_path / "o", "regions.csv")
    assert sum(int(row["regions"]) for row in rows) == len(listed)
    assert all(float(row["p_value"]) <= 0.25 for row in listed)
    limit = calibration.pixel_threshold
    again = predict_folder(
        tiny_model,
        folder,
        tmp_path / "all",
        calibration=stored,
        **arguments(map_threshold=limit, **options),
    )
    assert again.anomalous == summary.anomalous
    everything = rows_of(tmp_path / "all", "regions.csv")
    assert any(float(row["p_value"]) > 0.25 for row in everything)
    assert [row for row in everything if float(row["p_value"]) <= 0.25] == listed
    assert "scores" not in kept["calibration"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"samples": 2}, "samples = 2, but it was made with 3"),
        ({"seed": 5}, "seed = 5, but it was made with 0"),
        ({"precision": "bf16"}, "precision = 'bfloat16', but"),
        ({"smoothing": False}, "smoothing = False, but"),
        ({"threshold": 0.5}, "threshold = 0.5 with a calibration"),
    ],
)
def test_other_settings_are_refused(tiny_model, normals, calibration, options, told):
    with pytest.raises(ConfigError, match=told):
        tiny_model.predict(normals[0], NAME, calibration=calibration, **options)


def test_another_class_or_checkpoint_is_refused(tiny_model, tiny_config, normals, calibration):
    with pytest.raises(ConfigError, match="class_name = 'cable', but it was made with 'metal nut'"):
        tiny_model.predict(normals[0], "cable", calibration=calibration)
    with pytest.raises(ConfigError, match="one class name"):
        tiny_model.predict(normals[:2], [NAME, NAME], calibration=calibration)
    other = BayesPFL(tiny_config, tiny_model.backbone).eval()
    with pytest.raises(ConfigError, match="other weights.*tiny.*calibrate again"):
        other.predict(normals[0], NAME, calibration=calibration)
    # Long and short names of a precision are the same setting.
    tiny_model.predict(normals[0], NAME, calibration=calibration, precision="fp32")


def test_the_fingerprint_follows_the_weights(tiny_model, tiny_config):
    import torch

    model = BayesPFL(tiny_config, tiny_model.backbone).eval()
    before = fingerprint(model)
    assert fingerprint(model) == before
    with torch.no_grad():
        model.prompts.context.add_(1)
    assert fingerprint(model) != before


def test_too_few_images_say_how_many_it_takes(tiny_model, normals):
    with pytest.raises(DataError, match="19 normal images are too few.*20 at least"):
        calibrate(tiny_model, normals[:19], NAME)
    with pytest.raises(DataError, match=r"24 normal .* fpr = 0\.01: give 99 images.*0\.04 or more"):
        calibrate(tiny_model, normals, NAME, CalibrationOptions(fpr=0.01))
    with pytest.raises(DataError, match=r"pixel_fpr = 0\.001: give 999"):
        calibrate(tiny_model, normals, NAME, CalibrationOptions(pixel_fpr=0.001))
    with pytest.raises(ConfigError, match="fpr = 1.5"):
        CalibrationOptions(fpr=1.5)


def test_images_that_look_abnormal_are_named(tiny_model, tmp_path):
    base = picture(0, (48, 48))
    rng = np.random.default_rng(0)
    folder = tmp_path / "in"
    folder.mkdir()
    scores = {}
    for index in range(22):
        noisy = np.asarray(base).astype(int) + rng.integers(-2, 3, (48, 48, 3))
        image = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
        image.save(folder / f"{index:02d}.png")
        scores[index] = tiny_model.predict(image, NAME, uncertainty=False).score
    for index in range(40):  # of other pictures, one with a much higher score
        other = picture(1000 + index, (48, 48))
        if tiny_model.predict(other, NAME, uncertainty=False).score > max(scores.values()) + 0.02:
            other.save(folder / "odd one.png")
            break
    with pytest.raises(DataError, match="1 of 23 images look abnormal.*odd one.png.*keep-outliers"):
        calibrate_folder(tiny_model, folder, NAME)
    kept, _ = calibrate_folder(tiny_model, folder, NAME, CalibrationOptions(keep_outliers=True))
    assert kept.n == 23


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"threshold": 0.2}, "threshold = 0.2: scores and fpr give"),
        ({"fpr": 0.5}, "scores and fpr give"),
        ({"fpr": 3.0}, "outside"),
        ({"n": 23}, "n = 23 with 24 scores"),
        ({"pixel_threshold": -1.0}, "pixel_threshold = -1"),
        ({"peaks": [0.5]}, "1 peaks: must be n = 24, or none"),
        ({"peaks": [0.5] * 23 + [0.4]}, "peaks: must rise"),
        ({"scores": [0.5], "n": 1}, "2 or more"),
        ({"scores": "many"}, "expected a list"),
        ({"scores": [10**400] * 24}, "too large|make"),
        ({"version": 9}, "format 9.*upgrade"),
        ({"format": "other"}, "not a calibration file"),
        ({"surprise": 1}, "unknown entry 'surprise'"),
        ({"settings": None}, "expected an object"),
    ],
)
def test_changed_files_are_refused(stored, tmp_path, change, told):
    path = tmp_path / "c.json"
    path.write_text(json.dumps(json.loads(stored.read_text()) | change))
    with pytest.raises(ConfigError, match=told) as caught:
        load_calibration(path)
    assert "c.json" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[" * 100_000, b"[]", b"{", b"null"])
def test_files_of_another_kind_are_refused(tmp_path, content):
    path = tmp_path / "c.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="calibration file|make it"):
        load_calibration(path)
    with pytest.raises(ConfigError, match="not readable"):
        load_calibration(tmp_path / "gone.json")


def test_values_that_do_not_belong_together_are_refused(calibration):
    scores = tuple(reversed(calibration.scores))
    with pytest.raises(ConfigError, match="must rise"):
        replace(calibration, scores=scores)
    assert Calibration(**{name: getattr(calibration, name) for name in asdict(calibration)})


def test_the_commands_from_normals_to_labels(checkpoint_dir, tmp_path, capsys):
    normals = save(tmp_path / "normals", [f"{index:02d}.png" for index in range(21)])
    new = save(tmp_path / "new", ["a.png", "b.png"])
    common = ("--class-name", NAME, "--checkpoint", checkpoint_dir)
    file = tmp_path / "c.json"
    options = ("--out", file, "--keep-outliers")
    assert command("calibrate", normals, *common, *options, "--fpr", 0.01) == 2
    assert "give 99 images" in capsys.readouterr().err and not file.exists()
    assert command("calibrate", normals, *common, *options) == 0
    assert "21 normal images: threshold" in capsys.readouterr().out
    out = ("--out", tmp_path / "out", "--calibration", file, "--overlay-uncertainty")
    assert command("predict", new, *common, *out) == 0
    assert "labelled anomalous" in capsys.readouterr().out
    assert all(row["p_value"] for row in rows_of(tmp_path / "out"))
    assert command("predict", new, *common, *out, "--samples", 1) == 2
    assert "samples = 1, but it was made with 3" in capsys.readouterr().err
    (normals / "cut.png").write_bytes(b"\x89PNG")
    assert command("calibrate", normals, *common, *options) == 1
    assert "1 files skipped" in capsys.readouterr().out


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Two categories; metal_nut has 5 normal and 3 anomalous pictures."""
    root = tmp_path_factory.mktemp("tree") / "tree"
    for category in ("metal_nut", "cable"):
        save(root / category / "test" / "good", [f"{index}.png" for index in range(5)])
        for index in range(3):
            save(root / category / "test" / "bent", [f"{index}.png"])
            mask = np.zeros((30, 40), np.uint8)
            mask[5:9, 5:9] = 255
            path = root / category / "ground_truth" / "bent" / f"{index}_mask.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(path)
    return root


def test_evaluation_tries_the_threshold(
    stored, calibration, checkpoint_dir, tree, tmp_path, capsys
):
    out = tmp_path / "results"
    common = ("evaluate", "--data", tree, "--checkpoint", checkpoint_dir, "--calibration", stored)
    assert command(*common, "--out", out, "--protocol", "both") == 0
    report = json.loads((out / "metrics.json").read_text())
    categories = report["datasets"]["tree"]["categories"]
    rates = categories["metal_nut"]["at_threshold"]
    with (out / "images.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["category"] == "metal_nut"]
    for label, name, count in (("0", "fpr", 5), ("1", "tpr", 3)):
        mine = [row for row in rows if row["label"] == label]
        halves = [(float(row["text_score"]) + float(row["map_score"])) / 2 for row in mine]
        assert len(mine) == count
        assert rates[name] == sum(score >= calibration.threshold for score in halves) / count
    assert rates["threshold"] == calibration.threshold and rates["calibrated_fpr"] == 0.1
    assert "at_threshold" not in categories["cable"]
    assert "at_threshold" not in (out / "metrics_authors.json").read_text()
    assert "metal_nut: at the calibrated threshold" in capsys.readouterr().out


def test_evaluation_refuses_a_calibration_that_does_not_fit(
    stored, checkpoint_dir, tree, tmp_path, capsys
):
    common = ("evaluate", "--checkpoint", checkpoint_dir, "--calibration", stored)
    common += ("--out", tmp_path / "out", "--data", tree)
    assert command(*common, "--seeds", "0,1") == 2
    assert "seed = 1, but it was made with 0" in capsys.readouterr().err
    assert command(*common, "--categories", "cable") == 2
    assert "for 'metal nut', which no category here" in capsys.readouterr().err
