"""Exported folders: they give what PyTorch gives, by themselves, or are not kept."""

import csv
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import venv

import numpy as np
import pytest
import torch
from PIL import Image

from bayes_pfl import BayesPFL
from bayes_pfl.checkpoints.load import build_model
from bayes_pfl.config import BackboneConfig, ModelConfig
from bayes_pfl.detect.scorer import Scorer
from bayes_pfl.errors import ConfigError
from bayes_pfl.export import folder as export
from bayes_pfl.export.check import TOLERANCE, compare
from bayes_pfl.export.standalone.detector import Detector
from bayes_pfl.fit.fit import FitOptions, fit_profile
from bayes_pfl.predict.folder import predict_folder
from bayes_pfl.predict.rows import COLUMNS as OWN_COLUMNS
from bayes_pfl.predict.rows import REGION_COLUMNS
from bayes_pfl.predict.settings import FolderSettings
from bayes_pfl.rendering import TEST_CATEGORIES, render
from tests.fit.test_tiles import NAME, large, spotted
from tests.helpers.clips import clip_config, make_clip, timm_tower, write_folder
from tests.helpers.folders import picture, rows_of
from tests.helpers.stacks import stack

MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "F", "I;16")
FIGURES = [
    *("score", "uncertainty", "text_score", "map_score", "score_low", "score_high"),
    *("p_value", "words_score", "memory_score"),
]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of every mode, a stack, a turned picture, large ones, and a damaged file."""
    folder = tmp_path_factory.mktemp("pictures")
    for mode in MODES:
        grey = picture(3).convert("L")
        image = (grey if mode in ("I", "F", "I;16") else picture(3)).convert(mode)
        image.save(folder / f"{mode.replace(';', '_')}.tif")
    see_through = picture(4).convert("RGBA")
    see_through.putalpha(90)
    (folder / "a").mkdir()
    see_through.save(folder / "a" / "see-through.png")
    stack(folder / "a" / "stack.tif", 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(7).save(folder / "turned.jpg", exif=exif)
    deep = np.random.default_rng(0).integers(0, 4000, (30, 40)).astype(np.uint16)
    Image.fromarray(deep).save(folder / "twelve bits.png")
    spotted(91).save(folder / "large.png")
    large(3).save(folder / "reference.png")
    large(5).resize((900, 100)).save(folder / "long.png")
    large(6).resize((300, 60)).save(folder / "narrow.png")
    (folder / "damaged.png").write_bytes((folder / "large.png").read_bytes()[:200])
    return folder


def program(folder):
    """predict.py of a folder as a module, with the files beside it."""
    spec = importlib.util.spec_from_file_location("exported_predict", folder / "predict.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        for name in ("detector", "pictures", "interest", "regions"):
            patch.delitem(sys.modules, name, raising=False)
        spec.loader.exec_module(module)
    return module


def table_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def assert_same_run(exported, model, photos, out, profile=None, **settings):
    """predictions.csv and maps of predict.py and of `bayes-pfl predict` agree, but for errors."""
    assert (
        program(exported).main([str(photos), "--out", str(out / "theirs"), "--threads", "1"]) == 1
    )
    asked = FolderSettings(overlays=False, report=False, **settings)
    predict_folder(
        model, photos, out / "ours", settings=asked, profile=profile,
        class_name=None if profile else "nut|bolt",
    )  # fmt: skip
    ours, found = rows_of(out / "ours"), rows_of(out / "theirs")
    assert [row["path"] for row in ours] == [row["path"] for row in found]
    for a, b in zip(ours, found, strict=True):
        assert bool(a["error"]) == bool(b["error"]) == (a["path"] == "damaged.png")
        for name in set(OWN_COLUMNS) - {*FIGURES, "error"}:
            assert a[name] == b[name], (a["path"], name)
        for name in FIGURES:
            assert bool(a[name]) == bool(b[name])
            # A picture of the profile ties with its own score among those behind p-values.
            tied = name == "p_value" and a["path"] == "reference.png"
            most = 1 / 21 + TOLERANCE if tied else TOLERANCE
            assert abs(float(a[name] or 0) - float(b[name] or 0)) <= most, (a["path"], name)
    if profile:
        regions = [table_of(out / side / "regions.csv") for side in ("ours", "theirs")]
        assert regions[0]
        for a, b in zip(*regions, strict=True):
            for name in REGION_COLUMNS:
                tolerance = TOLERANCE if name in ("peak", "mean") else 0
                assert a[name] == b[name] or abs(float(a[name]) - float(b[name])) <= tolerance
    maps = sorted(path.relative_to(out / "ours") for path in (out / "ours" / "maps").rglob("*.png"))
    assert len(maps) == len(ours) - 1
    for path in maps:
        a, b = (np.asarray(Image.open(out / side / path)) for side in ("ours", "theirs"))
        assert a.dtype == b.dtype == np.uint16
        assert np.abs(a.astype(int) - b.astype(int)).max() <= TOLERANCE * 65535


def test_the_program_writes_what_predict_writes(by_words, tiny_model, pictures, tmp_path):
    assert_same_run(by_words, tiny_model, pictures, tmp_path, samples=0)


def test_tiles_references_and_thresholds_are_those_of_the_profile(
    with_profile, tiny_model, profile, pictures, tmp_path
):
    assert_same_run(
        with_profile, tiny_model, pictures, tmp_path, profile=profile, samples=2, seed=5
    )
    labels = {row["path"]: row["label"] for row in rows_of(tmp_path / "theirs")}
    assert labels["large.png"] == "1" and labels["reference.png"] == "0"


def test_nothing_outside_the_region_of_interest_of_a_profile_counts(
    with_roi, tiny_model, masked_profile, pictures, tmp_path
):
    assert_same_run(with_roi, tiny_model, pictures, tmp_path, profile=masked_profile, samples=0)
    values = np.asarray(Image.open(tmp_path / "theirs" / "maps" / "large.png.png"))
    assert values[: len(values) // 9].max() == 0 and values.max() > 0


def test_the_columns_are_those_of_predict(by_words):
    module = program(by_words)
    assert module.COLUMNS == OWN_COLUMNS and module.REGION_COLUMNS == REGION_COLUMNS


def test_the_batch_changes_nothing(with_profile):
    detector = Detector(with_profile, 1)
    images = [large(40), picture(1), spotted(41), picture(2)]
    together = detector.score(images)
    for (numbers, values), image in zip(together, images, strict=True):
        ((alone, its_map),) = detector.score([image], batch_size=1)
        assert abs(numbers["score"] - alone["score"]) <= TOLERANCE
        assert np.abs(values - its_map).max() <= TOLERANCE


@pytest.mark.parametrize("samples", [0, pytest.param(10, marks=pytest.mark.slow)])
def test_a_convolutional_tower_agrees(tmp_path, samples):
    config = clip_config(timm_tower("resnet18", 64), embed_dim=32)
    clip = write_folder(tmp_path / "clip", config, make_clip(config))
    backbone = BackboneConfig(name=f"local-dir:{clip}", joined=True)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = build_model(ModelConfig(backbone=backbone), model_class=BayesPFL).eval()
    done = export.export_detector(model, tmp_path / "out", class_name="nut", samples=samples)
    assert done.agreement.score <= TOLERANCE and done.agreement.map <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("samples", [0, 10])
def test_the_embedded_model_agrees_on_pictures_it_was_not_checked_with(tmp_path, samples):
    model = BayesPFL.from_pretrained("bayes-pfl-tiny", device="cpu")
    normal = [Image.fromarray(render("wood", 0, at, size=320).image) for at in range(20)]
    profile = fit_profile(model, normal, "wood", FitOptions(samples=samples))
    for name, known in (("words", None), ("profile", profile)):
        out = tmp_path / name
        export.export_detector(model, out, class_name="wood", profile=known, samples=samples)
        rule = {"wood": known.references} if known else None
        scorer = Scorer(model, FitOptions(samples=samples), references=rule)
        others = [
            Image.fromarray(render(category, 3, at, size=200, defect="random").image)
            for at, category in enumerate(list(TEST_CATEGORIES)[:6])
        ]
        found = compare(Detector(out), scorer, "wood", [*others, *normal[:2]])
        assert max(found.score, found.map) <= TOLERANCE


def test_what_does_not_agree_is_not_kept(by_words, tiny_model, tmp_path, monkeypatch):
    def of_another_name(graph, folder):
        shutil.copy(by_words / "model.onnx", folder)
        return folder / "model.onnx"

    monkeypatch.setattr(export, "write_onnx", of_another_name)
    with pytest.raises(ConfigError, match="differs from PyTorch by .* in scores"):
        export.export_detector(tiny_model, tmp_path / "new", class_name="cable", samples=0)
    assert not (tmp_path / "new").exists()


def test_openvino_agrees(by_words, tiny_model, tmp_path, monkeypatch):
    def known(graph, folder):
        shutil.copy(by_words / "model.onnx", folder)
        return folder / "model.onnx"

    monkeypatch.setattr(export, "write_onnx", known)
    out = tmp_path / "out"
    done = export.export_detector(
        tiny_model, out, class_name="nut|bolt", samples=0, format="openvino"
    )
    assert done.agreement.map <= TOLERANCE
    assert sorted(path.name for path in out.glob("model.*")) == ["model.bin", "model.xml"]
    picture(1).save(tmp_path / "a.png")
    assert program(out).main([str(tmp_path / "a.png"), "--out", str(tmp_path / "found")]) == 0


def test_a_changed_model_is_refused(by_words, tmp_path, capsys):
    copied = shutil.copytree(by_words, tmp_path / "copy")
    with (copied / "model.onnx").open("ab") as file:
        file.write(b"x")
    assert program(copied).main([str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "model.onnx: has changed since the export" in capsys.readouterr().err


def test_one_name_for_two_pictures_is_refused(by_words, tmp_path, capsys):
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        picture(1).save(tmp_path / place / "x.png")
    places = [str(tmp_path / place) for place in ("a", "b")]
    assert program(by_words).main([*places, "--out", str(tmp_path / "out")]) == 2
    assert "a second picture called x.png" in capsys.readouterr().err


def test_the_folder_says_what_it_is(with_profile, profile):
    manifest = json.loads((with_profile / "manifest.json").read_text())
    assert manifest["class_name"] == NAME and manifest["settings"]["samples"] == 2
    assert manifest["profile"]["sha256"] == profile.sha256
    assert manifest["threshold"] == profile.calibration.threshold
    assert manifest["agreement"]["map"] <= TOLERANCE
    required = (with_profile / "requirements.txt").read_text().splitlines()
    assert [line.partition("==")[0] for line in required] == ["numpy", "pillow", "onnxruntime"]


def test_the_program_needs_neither_torch_nor_this_package(with_profile, tmp_path):
    spotted(91).save(tmp_path / "x.png")
    hidden = [f"sys.modules[{name!r}] = None" for name in ("torch", "cv2", "scipy", "bayes_pfl")]
    script = "; ".join(
        ["import sys", *hidden, "sys.path.insert(0, sys.argv.pop(1))", "import predict"]
    )
    given = [with_profile, tmp_path / "x.png", "--out", tmp_path / "out"]
    command = [sys.executable, "-c", f"{script}; sys.exit(predict.main())", *given]
    subprocess.run(command, check=True)
    (row,) = rows_of(tmp_path / "out")
    assert row["label"] == "1" and (tmp_path / "out" / "maps" / "x.png.png").is_file()


@pytest.mark.slow
def test_it_runs_where_there_is_no_torch(with_profile, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "-r", with_profile / "requirements.txt"]
    clean = {"PATH": "/usr/bin:/bin"}
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(install, check=True, env=own)
    spotted(91).save(tmp_path / "x.png")
    run = [python, with_profile / "predict.py", tmp_path / "x.png", "--out", tmp_path / "out"]
    subprocess.run(run, check=True, env=clean)
    assert subprocess.run([python, "-c", "import torch"], env=clean, capture_output=True).returncode
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["label"] == "1"
