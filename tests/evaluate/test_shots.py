"""`bayes-pfl evaluate --shots` and `--mutual`: which pictures are references; what is written."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from bayes_pfl.errors import ConfigError, DataError
from bayes_pfl.evaluate.datasets import EvaluationData, read_trees
from bayes_pfl.evaluate.files import method_names
from bayes_pfl.evaluate.reference_draw import MUTUAL, draw_references, reference_notes
from bayes_pfl.evaluate.request import EvaluationRequest
from bayes_pfl.evaluate.run import run_benchmark
from bayes_pfl.evaluate.scoring import EvaluationSettings
from bayes_pfl.fit.fit import FitOptions, fit_folder
from bayes_pfl.fit.profile_files import load_profile, save_profile
from tests.helpers.commands import command


def picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (48, 48, 3), np.uint8)
    Image.fromarray(noise).save(path)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A tree of two categories: nut has a train split of 6, cable 5 normal test pictures alone."""
    root = tmp_path_factory.mktemp("shots") / "parts"
    for at in range(6):
        picture(root / "nut" / "train" / "good" / f"{at}.png", at)
    for number, category in enumerate(("nut", "cable")):
        for at in range(5):
            picture(root / category / "test" / "good" / f"{at}.png", 100 + 50 * number + at)
            picture(root / category / "test" / "bad" / f"{at}.png", 120 + 50 * number + at)
            mask = np.zeros((48, 48), np.uint8)
            mask[8:20, 8:20] = 255
            path = root / category / "ground_truth" / "bad" / f"{at}_mask.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(path)
    return root


@pytest.fixture
def tree(original, tmp_path):
    return shutil.copytree(original, tmp_path / "parts")


def names(draw, category):
    return [s.path.name for s in draw.references[category].samples]


def run(tree, model, out, **asked):
    request = EvaluationRequest(
        checkpoints=("tiny",),
        data=tuple(read_trees([tree])),
        out=out,
        settings=EvaluationSettings(skip_unreadable=True),
        cache=out / "cache",
        **asked,
    )
    return run_benchmark(request, load=lambda _: model)


def read(path):
    return json.loads(path.read_text())


def lines(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_draw_is_nested_and_does_not_depend_on_the_order_of_files(tree):
    (data,) = read_trees([tree])
    turned = EvaluationData(data.name, data.samples[::-1], train=lambda: data.train()[::-1])
    four = draw_references(data, 4, 1)
    for category in ("nut", "cable"):
        assert names(draw_references(turned, 4, 1), category) == names(four, category)
        assert names(draw_references(data, 2, 1), category) == names(four, category)[:2]
    assert any(names(draw_references(data, 4, s), "nut") != names(four, "nut") for s in (2, 3))


def test_references_come_from_train_else_from_the_test_and_leave_it(tree):
    (data,) = read_trees([tree])
    draw = draw_references(data, 16, 0)
    assert len(names(draw, "nut")) == 6 and len(names(draw, "cable")) == 4
    tested = {sample.path for sample in draw.data.samples}
    for drawn in draw.references.values():
        assert not tested & {sample.path for sample in drawn.samples}
        assert all(sample.label == 0 for sample in drawn.samples)
    left = [s for s in draw.data.samples if s.category == "cable" and s.label == 0]
    assert len(left) == 1  # of five
    assert len(tested) == 16
    assert sorted(reference_notes(16, [draw])) == [
        "16-shot: 4 normal pictures for each category, of test/good and left out of the test: "
        "parts/cable.",
        "16-shot: 6 normal pictures for each category, of train/good: parts/nut.",
    ]


def test_mutual_references_stay_in_the_test(tree):
    (data,) = read_trees([tree])
    draw = draw_references(data, MUTUAL, 0)
    assert draw.data is data and len(names(draw, "nut")) == 10


def test_what_cannot_be_drawn_is_refused_before_any_scoring(tree, tiny_model, tmp_path):
    for at in range(1, 5):
        (tree / "cable" / "test" / "good" / f"{at}.png").unlink()
    with pytest.raises(
        DataError, match=r"parts/cable has no normal .* 1 normal test picture, .*--shots 0"
    ):
        run(tree, tiny_model, tmp_path / "out", shots=(0, 2))
    assert not (tmp_path / "out" / "cache").exists()
    with pytest.raises(DataError, match=r"parts/cable has 6 test pictures: too few .* 8 at least"):
        run(tree, tiny_model, tmp_path / "out", mutual=True)


def test_references_are_of_scores_that_are_not_those_of_words():
    def request(**asked):
        return EvaluationRequest(("tiny",), (), "out", **asked)

    with pytest.raises(ConfigError, match="--protocol deploy"):
        request(protocols=("deploy", "authors"), shots=(1,))
    with pytest.raises(ConfigError, match="--calibration"):
        request(calibration=object(), mutual=True)
    assert request(protocols=("authors",), shots=(0,)).methods == (0,)


def test_names_of_methods_differ():
    assert method_names(["a"], (0,)) == [["a"]]
    assert method_names(["a", "a-1-shot"], (0, 1, MUTUAL)) == [
        ["a", "a-1-shot-2", "a-mutual"],
        ["a-1-shot", "a-1-shot-1-shot", "a-1-shot-mutual"],
    ]


def test_each_method_has_its_files_and_words_are_as_before(tree, tiny_model, tmp_path):
    run(tree, tiny_model, tmp_path / "plain", seeds=(0, 1))
    out = tmp_path / "out"
    asked = {"seeds": (0, 1), "shots": (0, 1, 4), "mutual": True, "sheets": True, "report": True}
    outcome = run(tree, tiny_model, out, **asked)
    plain, words = read(tmp_path / "plain" / "metrics.json"), read(out / "tiny" / "metrics.json")
    assert words == plain
    known = {p.name for p in (tmp_path / "plain" / "cache").iterdir()}
    assert known < {p.name for p in (out / "cache").iterdir()}  # the same keys, and more
    assert not {"words_score", "memory_score"} & set(lines(tmp_path / "plain" / "images.csv")[0])
    assert all(row["memory_score"] == "" for row in lines(out / "tiny" / "images.csv"))

    four = lines(out / "tiny-4-shot" / "images.csv")
    assert list(four[0])[-2:] == ["words_score", "memory_score"]
    by_words = {(r["seed"], r["path"]): r for r in lines(out / "tiny" / "images.csv")}
    assert len(four) == 2 * 16
    for row in four:
        same = by_words[row["seed"], row["path"]]
        assert float(row["words_score"]) == pytest.approx(float(same["score_deploy"]), abs=1e-5)
        assert float(row["memory_score"]) > 0 and row["score_authors"] == ""
        assert row["score_deploy"] != row["words_score"]
    report = read(out / "tiny-4-shot" / "metrics.json")
    assert report["references"] == "4-shot" and len(report["notes"]) == 2
    assert (out / "tiny-mutual" / "sheets" / "parts" / "nut.png").exists()
    assert (out / "tiny-mutual" / "report.html").exists()

    text = (out / "shots.md").read_text()
    assert outcome.shots == text
    assert "| dataset | 0 | 1 | 4 | mutual |" in text and "**Pixel AUPRO, by shots**" in text
    table = lines(out / "shots.csv")
    assert len(table) == 7 * 4 and all(row["value"] and row["sd"] for row in table)
    assert [m for m in read(out / "table.json")["tables"][0]["rows"][0]["methods"]] == [
        *("tiny", "tiny-1-shot", "tiny-4-shot", "tiny-mutual"),
    ]


def test_a_run_again_takes_its_scores_from_the_cache(tree, tiny_model, tmp_path, monkeypatch):
    out = tmp_path / "out"
    run(tree, tiny_model, out, shots=(2,))
    before = read(out / "metrics.json"), lines(out / "images.csv")
    score = type(tiny_model).score_encoded
    monkeypatch.setattr(type(tiny_model), "score_encoded", lambda *_: pytest.fail("scored"))
    run(tree, tiny_model, out, shots=(2,), resume=True)
    assert (read(out / "metrics.json"), lines(out / "images.csv")) == before
    monkeypatch.setattr(type(tiny_model), "score_encoded", score)
    for at in range(6):  # other references: nothing of the first run is taken
        picture(tree / "nut" / "train" / "good" / f"{at}.png", 900 + at)
    run(tree, tiny_model, out, shots=(2,))
    assert lines(out / "images.csv") != before[1]


def test_a_train_split_that_cannot_be_read_is_a_remark(tree, tiny_model, tmp_path):
    def listed(train):
        items = [
            {"img_path": f"cable/test/{kind}/{at}.png", "cls_name": "cable", "anomaly": label}
            for label, kind in enumerate(("good", "bad"))
            for at in range(5)
        ]
        content = {"test": {"cable": items}} | ({} if train is None else {"train": train})
        (tree / "meta.json").write_text(json.dumps(content))
        run(tree / "meta.json", tiny_model, tmp_path / "out", shots=(1,))
        return read(tmp_path / "out" / "metrics.json")["notes"]

    source = "1-shot: 1 normal picture for each category, of test/good and left out of the test."
    assert listed(None) == listed({}) == [source]  # there is none: nothing is wrong
    remark, last = listed({"cable": [{"img_path": "../../secret.png", "anomaly": 0}]})
    assert last == source and remark.startswith("parts: its train split cannot be read and counts")
    assert "train/cable[0]: path '../../secret.png' leaves" in remark
    assert remark in (tmp_path / "out" / "table.md").read_text()


# A profile ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def profile(tiny_model, tmp_path_factory):
    """Of twenty pictures, so that it has a threshold."""
    folder = tmp_path_factory.mktemp("normal")
    for at in range(20):
        picture(folder / f"{at}.png", 300 + at)
    options = FitOptions(keep_outliers=True)
    fitted = fit_folder(tiny_model, folder, "nut", options, checkpoint="tiny").profile
    return load_profile(save_profile(fitted, tmp_path_factory.mktemp("profile") / "part"))


def test_a_profile_scores_the_categories_of_its_name_as_predict_does(
    tree, tiny_model, profile, tmp_path
):
    out = tmp_path / "out"
    run(tree, tiny_model, out, shots=(0,), profile=profile, sheets=True, report=True)
    words = {row["path"]: row for row in lines(out / "tiny" / "images.csv")}
    rows = lines(out / "tiny-profile" / "images.csv")
    assert len(rows) == 20
    for row in rows:
        if row["category"] == "cable":
            assert row["memory_score"] == ""
            assert row["score_deploy"] == words[row["path"]]["score_deploy"]
            continue
        wanted = tiny_model.predict(row["path"], profile=profile)
        assert float(row["score_deploy"]) == pytest.approx(wanted.score, abs=1e-4)
        assert float(row["memory_score"]) == pytest.approx(wanted.memory_score, abs=1e-4)
    report = read(out / "tiny-profile" / "metrics.json")
    assert report["references"] == "profile"
    source, rates = report["notes"]
    assert source == (
        f"profile: 20 normal pictures of the profile {profile.folder}: parts/nut; the other "
        "categories by words alone."
    )
    entries = report["datasets"]["parts"]["categories"]
    assert rates.startswith("parts/nut: at the calibrated threshold")
    assert entries["nut"]["at_threshold"]["threshold"] == profile.calibration.threshold
    assert "at_threshold" not in entries["cable"]
    plain = read(out / "tiny" / "metrics.json")["datasets"]["parts"]["categories"]
    assert "at_threshold" not in plain["nut"]
    assert "| dataset | 0 | profile |" in (out / "shots.md").read_text()
    config = read(out / "config.json")
    assert config["methods"] == [0, "profile"] and config["profile"]["pictures"] == 20


def test_a_profile_that_does_not_fit_is_refused(tree, tiny_model, profile, tmp_path):
    other = replace(profile, settings=replace(profile.settings, class_name="bolt"))
    with pytest.raises(ConfigError, match="profile is for 'bolt', .* there are 'cable', 'nut'$"):
        run(tree, tiny_model, tmp_path / "out", profile=other)
    with pytest.raises(ConfigError, match="seed = 1, but it was made with 0"):
        run(tree, tiny_model, tmp_path / "out", profile=profile, seeds=(0, 1))
    with pytest.raises(ConfigError, match="--protocol deploy"):
        run(tree, tiny_model, tmp_path / "out", profile=profile, protocols=("authors",))
    with pytest.raises(ConfigError, match="words alone, it keeps no pictures"):
        run(tree, tiny_model, tmp_path / "out", profile=replace(profile, references=None))
    run(tree, tiny_model, tmp_path / "out", profile=profile)
    changed = replace(profile, fpr=0.2, calibration=None)
    with pytest.raises(ConfigError, match="profile"):
        run(tree, tiny_model, tmp_path / "out", profile=changed, resume=True)


def test_the_command_takes_the_checkpoint_of_the_profile(
    tree, tiny_model, checkpoint_dir, tmp_path, capsys
):
    normal = tree / "nut" / "train" / "good"
    found = fit_folder(tiny_model, normal, "nut", FitOptions(), checkpoint=str(checkpoint_dir))
    place = save_profile(found.profile, tmp_path / "part")
    asked = ("evaluate", "--data", tree, "--profile", place, "--device", "cpu")
    assert command(*asked, "--out", tmp_path / "out") == 0
    assert "6 normal pictures of the profile" in capsys.readouterr().out
    assert read(tmp_path / "out" / "config.json")["checkpoints"] == [str(checkpoint_dir)]
