"""The scoreboard: its rows, means and intervals, and what the command leaves behind."""

from __future__ import annotations

import copy
import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from bayes_pfl.errors import ConfigError, DataError
from bayes_pfl.evaluate.datasets import read_sets
from bayes_pfl.fit.fit import FitOptions, fit_folder
from bayes_pfl.fit.profile_files import save_profile
from bayes_pfl.scoreboard.board import BoardSettings, score_sets
from bayes_pfl.scoreboard.resampling import BootstrapSettings, interval
from tests.helpers.commands import command

FEW = BootstrapSettings(resamples=20)


def write_category(root, rng, masks=True, broken=False):
    """Grey noise; anomalous pictures have a bright square."""
    for index in range(8):
        defect = "spot" if index % 2 else "good"
        pixels = rng.normal(100, 4, (60, 60, 3)).clip(0, 255).astype(np.uint8)
        mask = np.zeros((60, 60), np.uint8)
        if index % 2:
            row, column = rng.integers(5, 45, 2)
            mask[row : row + 9, column : column + 9] = 255
            pixels[mask > 0] = 240
        for path, content in (
            (root / "test" / defect / f"{index}.png", pixels),
            (root / "ground_truth" / defect / f"{index}_mask.png", mask),
        ):
            if "ground_truth" in path.parts and (defect == "good" or not masks):
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(path)
    if broken:
        (root / "test" / "good" / "broken.png").write_bytes(b"not a picture")


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Set "parts": "cog" with masks and a broken file, "nut" without masks."""
    root = tmp_path_factory.mktemp("sets") / "parts"
    rng = np.random.default_rng(3)
    write_category(root / "cog", rng, broken=True)
    write_category(root / "nut", rng, masks=False)
    return root


@pytest.fixture(scope="module")
def files(parts, checkpoint_dir, tmp_path_factory):
    """The results of the command on "parts", with R of 0 and 2."""
    out = tmp_path_factory.mktemp("board")
    arguments = ("scoreboard", parts, "--checkpoint", checkpoint_dir, "--out", out)
    assert command(*arguments, "--samples", 0, "--samples", 2) == 1  # the broken file
    return out


def test_rows_are_checkpoints_then_baselines(files, checkpoint_dir):
    report = json.loads((files / "scoreboard.json").read_text())
    name = checkpoint_dir.name
    expected = [f"{name}, R = 0", f"{name}, R = 2", "prompts by hand", "local contrast"]
    assert [m.partition(" (")[0] for m in report["methods"]] == expected
    assert report["settings"]["bootstrap"] == {"resamples": 1000, "confidence": 0.95, "seed": 0}
    assert set(report["environment"]) >= {"packages", "device", "commit"}


def test_a_broken_image_is_counted_and_the_others_are_scored(files):
    report = json.loads((files / "scoreboard.json").read_text())
    cog = report["sets"]["parts"]["categories"]["cog"]
    assert (cog["n_normal"], cog["n_anomalous"], cog["n_skipped"]) == (5, 4, 1)
    assert [item["path"].rpartition("/")[2] for item in report["skipped"]] == ["broken.png"]
    contrast = cog["methods"]["local contrast"]
    assert contrast["pixel"]["auroc"]["value"] > 0.99
    assert contrast["image"]["auroc"] == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_without_masks_pixel_figures_are_null_with_a_reason_and_stay_out_of_means(files):
    report = json.loads((files / "scoreboard.json").read_text())
    entry = report["sets"]["parts"]
    for method in report["methods"]:
        nut, cog = (entry["categories"][c]["methods"][method] for c in ("nut", "cog"))
        assert nut["pixel"]["ap"] == {
            "value": None, "low": None, "high": None,
            "reason": "4 anomalous images have no mask",
        }  # fmt: skip
        mean = entry["mean"]["methods"][method]
        assert mean["pixel"] == cog["pixel"]
        image = [part["image"]["auroc"]["value"] for part in (nut, cog)]
        assert mean["image"]["auroc"]["value"] == pytest.approx(np.mean(image))


def test_every_interval_is_in_order_and_tables_agree_with_the_json(files):
    report = json.loads((files / "scoreboard.json").read_text())
    with (files / "scoreboard.csv").open() as file:
        rows = list(csv.DictReader(file))
    categories = report["sets"]["parts"]["categories"]
    assert len(rows) == len(report["methods"]) * (len(categories) + 2)
    for row in (row for row in rows if row["category"] in categories):
        for level in ("pixel", "image"):
            for key, figure in categories[row["category"]]["methods"][row["method"]][level].items():
                cells = [row[f"{level}_{key}{end}"] for end in ("", "_low", "_high")]
                values = [figure["value"], figure["low"], figure["high"]]
                assert cells == ["" if value is None else repr(value) for value in values]
                assert figure["value"] is None or 0 <= figure["low"] <= figure["high"] <= 1
    text = (files / "scoreboard.md").read_text()
    assert "**parts: 2 categories, 17 images, 1 unreadable**" in text
    assert "**parts / nut: 4 normal, 4 anomalous**" in text
    assert "| local contrast | – | – | – | 100.0 [100.0, 100.0] |" in text


def test_figures_are_those_of_evaluate(files, parts, checkpoint_dir, run, tmp_path):
    code, *_ = run("evaluate", "--data", parts, "--checkpoint", checkpoint_dir,
                   "--samples", 2, "--out", tmp_path)  # fmt: skip
    assert code == 1
    expected = json.loads((tmp_path / "metrics.json").read_text())["datasets"]["parts"]["mean"]
    report = json.loads((files / "scoreboard.json").read_text())
    found = report["sets"]["parts"]["mean"]["methods"][f"{checkpoint_dir.name}, R = 2"]
    for level, figures in found.items():
        for key, figure in figures.items():
            assert figure["value"] == pytest.approx(expected[level][key], abs=1e-4)


@pytest.mark.parametrize("kind", ["2-shot", "profile"])
def test_rows_with_normal_pictures_are_those_of_evaluate(
    kind, parts, checkpoint_dir, tiny_model, tmp_path
):
    data = shutil.copytree(parts, tmp_path / "parts")
    (data / "cog" / "test" / "good" / "broken.png").unlink()
    normal = data / "nut" / "test" / "good"
    options = FitOptions(samples=2, keep_outliers=True)
    found = fit_folder(tiny_model, normal, "nut", options).profile
    place = save_profile(found, tmp_path / "profile")
    asked = {"2-shot": ("--shots", "1,2"), "profile": ("--profile", place)}[kind]
    least = ("--checkpoint", checkpoint_dir, "--samples", 2, *asked, "--device", "cpu")
    out, board = tmp_path / "out", tmp_path / "board"
    assert command("evaluate", "--data", data, *least, "--no-report", "--out", out) == 0
    few = ("--no-baselines", "--resamples", 0)
    assert command("scoreboard", data, *least, *few, "--out", board) == 0
    name = checkpoint_dir.name
    path = out / f"{name}-2-shot" / "metrics.json" if kind == "2-shot" else out / "metrics.json"
    metrics = json.loads(path.read_text())
    report = json.loads((board / "scoreboard.json").read_text())
    numbers = ["1-shot", "2-shot"] if kind == "2-shot" else ["profile"]
    name += ", R = 2"
    assert report["methods"] == [name, *(f"{name}, {number}" for number in numbers)]
    for category, entry in metrics["datasets"]["parts"]["categories"].items():
        row = report["sets"]["parts"]["categories"][category]
        assert (row["n_normal"], row["n_anomalous"]) == (entry["n_normal"], entry["n_anomalous"])
        for level, figures in row["methods"][f"{name}, {kind}"].items():
            for key, figure in figures.items():
                assert figure["value"] == pytest.approx(entry[level][key], abs=1e-4)
    assert report["notes"][-1] == metrics["notes"][0]
    assert metrics["notes"][0] in (board / "scoreboard.md").read_text()


def test_rows_with_normal_pictures_need_a_checkpoint(parts, clip_dir, tmp_path, capsys):
    asked = ("scoreboard", parts, "--backbone", f"local-dir:{clip_dir}", "--shots", 1)
    assert command(*asked, "--out", tmp_path) == 2
    assert "rows of a --checkpoint: name one" in " ".join(capsys.readouterr().err.split())


def test_results_depend_on_the_seed_alone(tiny_model, parts):
    def intervals(batch_size, seed):
        bootstrap = BootstrapSettings(resamples=20, seed=seed)
        board = score_sets(
            ["tiny"], read_sets([str(parts)]), BoardSettings(batch_size=batch_size,
            bootstrap=bootstrap), load=lambda _: tiny_model,
        )  # fmt: skip
        figures = board.overall()["local contrast"]["pixel"]
        return [end for f in figures.values() for end in interval(f.replicates, 0.95)]

    assert intervals(3, 0) == intervals(8, 0)
    assert intervals(8, 0) != intervals(8, 1)


def test_a_set_that_is_one_category_and_several_sets_and_checkpoints(tiny_model, parts):
    data = read_sets([str(parts / "cog"), str(parts)])
    settings = BoardSettings(bootstrap=FEW)
    board = score_sets(["a", "b"], data, settings, load=lambda _: tiny_model)
    assert list(board.sets) == ["cog", "parts"]
    assert board.methods[:2] == ["a", "b"] and len(board.methods) == 4  # baselines come once
    one, other = (board.set_figures("cog")[name]["image"]["ap"] for name in ("a", "b"))
    assert one.value == other.value
    overall = board.overall()["a"]["image"]["ap"].value
    means = [board.set_figures(name)["a"]["image"]["ap"].value for name in board.sets]
    assert overall == pytest.approx(np.mean(means))


def test_a_backbone_alone_has_the_row_of_its_checkpoint(parts, clip_dir, tmp_path):
    assert command("scoreboard", parts, "--backbone", f"local-dir:{clip_dir}", "--out", tmp_path)
    found = json.loads((tmp_path / "scoreboard.json").read_text(encoding="utf-8"))
    assert len(found["methods"]) == 2 and found["methods"][0].startswith("prompts by hand")
    assert not (tmp_path / "scoreboard.md").read_text(encoding="utf-8").count("bayes-pfl-tiny")


def test_two_backbones_in_folders_of_one_name_have_a_row_each(parts, clip_dir, tmp_path):
    folders = [tmp_path / letter / "clip" for letter in "ab"]
    for number, folder in enumerate(folders):
        shutil.copytree(clip_dir, folder)
        state = load_file(folder / "open_clip_model.safetensors")
        state["logit_scale"] += number
        save_file(state, folder / "open_clip_model.safetensors")
    names = [f"local-dir:{folder}" for folder in (*folders, folders[0])]
    words = [word for name in names for word in ("--backbone", name)]
    assert command("scoreboard", parts, *words, "--out", tmp_path) == 1  # a broken image
    found = json.loads((tmp_path / "scoreboard.json").read_text(encoding="utf-8"))
    by_hand = [name for name in found["methods"] if name.startswith("prompts by hand")]
    assert len(by_hand) == 2 and str(folders[1]) in by_hand[1] and "(clip," in by_hand[0]


def test_a_backbone_without_baselines_is_refused(parts, clip_dir, tmp_path, capsys):
    words = ("--backbone", f"local-dir:{clip_dir}", "--no-baselines", "--out", tmp_path / "none")
    assert command("scoreboard", parts, *words) == 2
    assert "leave them in" in capsys.readouterr().err


def test_a_backbone_alone_may_have_another_size(parts, clip_dir, tmp_path):
    words = ("--backbone", f"local-dir:{clip_dir}", "--image-size", 96, "--out", tmp_path)
    assert command("scoreboard", parts, *words) == 1  # a broken image
    found = json.loads((tmp_path / "scoreboard.json").read_text(encoding="utf-8"))
    assert ", 96 px)" in found["methods"][0]


def test_a_size_without_a_backbone_is_refused(parts, tmp_path, capsys):
    assert command("scoreboard", parts, "--image-size", 96, "--out", tmp_path / "none") == 2
    assert "name one" in capsys.readouterr().err


def test_half_precision_makes_no_ties_of_the_baselines(tiny_model, parts):
    data = [read_sets([str(parts)])[0].only(["cog"])]
    found = []
    for precision in ("float32", "bfloat16"):
        settings = BoardSettings(precision=precision, bootstrap=FEW)
        board = score_sets(["a"], data, settings, load=lambda _: copy.deepcopy(tiny_model))
        found.append([f.value for f in board.overall()[board.methods[1]]["pixel"].values()])
    assert found[1] == pytest.approx(found[0], abs=0.02)


def test_a_category_of_broken_files_alone_is_told_and_stays_out_of_means(tmp_path, tiny_model):
    write_category(tmp_path / "set" / "cog", np.random.default_rng(0))
    folder = tmp_path / "set" / "nut" / "test" / "good"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(b"nothing")
    data = read_sets([str(tmp_path / "set")])
    board = score_sets(["a"], data, BoardSettings(bootstrap=FEW), load=lambda _: tiny_model)
    lost = board.sets["set"]["nut"].figures["local contrast"]
    figures = [figure for level in lost.values() for figure in level.values()]
    assert all(f.value is None and "undefined without" in f.reason for f in figures)
    assert board.overall()["local contrast"]["image"]["auroc"].value == 1


def test_a_card_is_a_set_too(parts, tmp_path, tiny_model):
    card = tmp_path / "own.yaml"
    card.write_text("name: parts\nsupports: [image]\nlayouts: [mvtec]\n")
    data = read_sets([str(card)], parts.parent)
    board = score_sets(["a"], data, BoardSettings(bootstrap=FEW), load=lambda _: tiny_model)
    figures = board.set_figures("parts")["local contrast"]
    assert figures["image"]["auroc"].value == 1
    assert figures["pixel"]["auroc"].reason == "the set is not meant for pixel-level results"
    with pytest.raises(DataError, match="two datasets are named 'parts'"):
        read_sets([str(card), str(parts)], parts.parent)


def test_no_interval_without_resamples(run, parts, checkpoint_dir, tmp_path):
    run("scoreboard", parts / "nut", "--checkpoint", checkpoint_dir, "--out", tmp_path,
        "--resamples", 0, "--no-baselines")  # fmt: skip
    text = (tmp_path / "scoreboard.md").read_text()
    assert "[" not in text and f"| {checkpoint_dir.name} | – | – | – |" in text


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["no/such"], "no/such does not exist; give a folder of categories, or a card"),
        (["nosuchcard"], "no dataset card 'nosuchcard'; known are"),
        (["{parts}", "{parts}"], "given twice"),
    ],
)
def test_a_set_that_cannot_be_read_is_told_in_one_line(parts, names, message):
    with pytest.raises(DataError) as raised:
        read_sets([name.format(parts=parts) for name in names])
    assert message in str(raised.value)


def test_a_number_of_samples_given_twice_is_refused(tiny_model, parts):
    settings = BoardSettings(samples=(1, 1), bootstrap=FEW)
    with pytest.raises(ConfigError, match="give each number once"):
        score_sets(["a"], read_sets([str(parts)]), settings, load=lambda _: tiny_model)
