"""SIGKILL at any moment: a run that goes on ends with the results of one that was never stopped."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from bayes_pfl.config import BackboneConfig, StageConfig, TrainConfig
from bayes_pfl.evaluate.datasets import read_trees
from bayes_pfl.evaluate.request import EvaluationRequest
from bayes_pfl.evaluate.run import run_benchmark
from bayes_pfl.evaluate.scoring import EvaluationSettings
from bayes_pfl.fit.fit import fit_folder, fit_profile
from bayes_pfl.fit.profile_files import load_profile, save_profile
from bayes_pfl.predict.folder import predict_folder
from bayes_pfl.predict.settings import FolderSettings
from bayes_pfl.rendering import TRAIN_CATEGORIES, write_mvtec_tree
from bayes_pfl.train.run import TrainingRequest, run_training
from bayes_pfl.train.run_files import RunFiles
from tests.fit.test_references import texture
from tests.helpers.killing import (
    KILLED,
    at_each_write,
    at_random_moments,
    ended,
    files_of,
    same,
    started,
)
from tests.helpers.layout_trees import BUILDERS, Painter

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")

MOMENTS = [3, pytest.param(50, marks=pytest.mark.slow)]
JOURNAL = "predictions.journal.jsonl"


# Prediction --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Eleven pictures of several sizes and a file that cannot be read."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for index in range(11):
        values = rng.integers(0, 255, (20 + index, 24, 3), np.uint8)
        Image.fromarray(values).save(folder / f"{index:02d}.png")
    (folder / "05 broken.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def profile(tiny_model):
    return fit_profile(tiny_model, [Image.fromarray(texture(seed)) for seed in range(4)], "nut")


@pytest.fixture(params=["words", "profile", "mutual"])
def prediction(request, tiny_model, pictures, profile, tmp_path):
    """The run, what empties its folder, and a check that it wrote what it does if left alone."""
    out = tmp_path / "out"
    compared = {"words": {}, "profile": {"profile": profile}, "mutual": {"mutual": 9}}
    threshold = None if request.param == "profile" else 0.5  # it brings its own

    def work(resume):
        predict_folder(
            tiny_model,
            pictures,
            out,
            class_name="nut",
            resume=resume,
            settings=FolderSettings(batch_size=3, threshold=threshold, overlays=False),
            **compared[request.param],
        )

    def prepare():
        shutil.rmtree(out, ignore_errors=True)

    assert ended(started(lambda: work(False))) == 0
    expected = files_of(out, "summary.json", JOURNAL)
    summary = json.loads((out / "summary.json").read_text())

    def check():
        same(files_of(out, "summary.json", JOURNAL), expected)
        again = json.loads((out / "summary.json").read_text())
        for key in ("resumed", "seconds", "images_per_second", "finished"):
            again[key] = summary[key]
        assert again == summary
        lines = [json.loads(line) for line in (out / JOURNAL).read_text().splitlines()]
        done = [line["path"] for line in lines if "path" in line and not line.get("error")]
        assert len(done) == len(set(done)) == 11

    return work, prepare, check


@pytest.mark.parametrize("moments", MOMENTS)
def test_prediction_killed_at_random_moments(prediction, moments):
    work, prepare, check = prediction
    prepare()
    at_random_moments(moments, work, prepare, check)


@pytest.mark.parametrize("step", [17, pytest.param(1, marks=pytest.mark.slow)])
def test_prediction_killed_before_and_after_what_it_writes(prediction, step):
    assert at_each_write(step, *prediction) > 50


# Profiles ----------------------------------------------------------------------------------------


def sound(folder, seeds):
    """A folder of pictures of one texture."""
    folder.mkdir()
    for seed in seeds:
        Image.fromarray(texture(seed)).save(folder / f"{seed}.png")
    return folder


@pytest.fixture(params=["fit", "update"])
def fitting(request, tiny_model, tmp_path):
    """A fit, given again after a stop; ``update``: of a profile that must never be lost."""
    out, first = tmp_path / "out", tmp_path / "first"
    few, more = sound(tmp_path / "few", range(3)), sound(tmp_path / "more", range(3, 7))
    update = request.param == "update"
    save_profile(fit_folder(tiny_model, few, "nut").profile, first)

    def work(again):
        before = load_profile(out) if update else None
        save_profile(fit_folder(tiny_model, more, "nut", before=before).profile, out)

    def prepare():
        shutil.rmtree(out, ignore_errors=True)
        if update:
            shutil.copytree(first, out)

    prepare()
    assert ended(started(lambda: work(False))) == 0
    expected = files_of(out)
    assert len(expected) == 3 + (7 if update else 4)
    prepare()
    return work, prepare, lambda: same(files_of(out), expected)


@pytest.mark.parametrize("moments", MOMENTS)
def test_fit_killed_at_random_moments(fitting, moments):
    at_random_moments(moments, *fitting)


@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_fit_killed_before_and_after_what_it_writes(fitting, step):
    assert at_each_write(step, *fitting) > 10


# Evaluation --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Two categories with masks, one image of them broken."""
    root = tmp_path_factory.mktemp("sets") / "parts"
    BUILDERS["mvtec"](Painter(root))
    for image in sorted(root.glob("*/test/good/*.png")):
        for copy in range(3):
            shutil.copy(image, image.with_name(f"{image.stem}_{copy}.png"))
    next(root.glob("*/test/good/*_1.png")).write_bytes(b"no image")
    return root


@pytest.mark.parametrize("moments", MOMENTS)
def test_evaluation_killed_at_random_moments(tiny_model, parts, tmp_path, moments):
    out = tmp_path / "out"
    request = EvaluationRequest(
        checkpoints=("tiny",),
        data=tuple(read_trees([parts])),
        out=out,
        settings=EvaluationSettings(batch_size=2, skip_unreadable=True),
        seeds=(0, 1) if moments > 10 else (0,),
        cache=out / "cache",
        report=True,
    )

    def work(resume):
        run_benchmark(replace(request, resume=resume), load=lambda _: tiny_model)

    def prepare():
        shutil.rmtree(out, ignore_errors=True)

    left_out = ("cache", "evaluation.journal.jsonl")
    assert ended(started(lambda: work(False))) == 0
    expected = files_of(out, *left_out)
    assert {"metrics.json", "images.csv", "report.html"} <= set(expected)
    prepare()
    at_random_moments(moments, work, prepare, lambda: same(files_of(out, *left_out), expected))


# Training ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """Three rendered categories, small enough for the tiny model."""
    out = tmp_path_factory.mktemp("aux")
    return write_mvtec_tree(out, TRAIN_CATEGORIES[:3], normals=1, anomalies=2, size=64)


@pytest.fixture
def training(rendered, clip_dir, tmp_path):
    """A request for a short run, the run, and what it leaves but for times."""
    stage = StageConfig(epochs=2, patience=2)
    config = TrainConfig(
        stage1=stage, stage2=stage, batch_size=2, steps_per_epoch=1, validation_samples=1,
        held_out=0.3, lr_other=1e-3,
    )  # fmt: skip
    backbone = BackboneConfig(f"local-dir:{clip_dir}")
    request = TrainingRequest(rendered, tmp_path / "out", backbone, config, accelerator="cpu")

    def work(resume):
        resume = resume and (request.out / "config.json").is_file()
        run_training(replace(request, resume=resume))

    def left(out):
        files = files_of(out, "tensorboard", "environment.json")
        files.pop("last/state.pt")
        results = json.loads(files.pop("results.json"))
        rows = [{k: v for k, v in row.items() if k != "seconds"} for row in results["history"]]
        table = [line.rsplit(",", 2) for line in files.pop("metrics.csv").decode().splitlines()]
        columns = table[0][1:]
        assert columns[0] == "seconds"
        files["rows"] = json.dumps(rows).encode()
        files["table"] = json.dumps([[first, last] for first, _, last in table]).encode()
        return files

    return request, work, left


@pytest.mark.parametrize("moments", MOMENTS)
def test_training_killed_at_random_moments(training, moments):
    request, work, left = training
    assert ended(started(lambda: work(False))) == 0
    expected = left(request.out)
    assert {"best/model.safetensors", "last/model.safetensors", "config.json"} <= set(expected)

    def prepare():
        shutil.rmtree(request.out, ignore_errors=True)

    prepare()
    at_random_moments(moments, work, prepare, lambda: same(left(request.out), expected))


@pytest.mark.parametrize(
    "name", ["save_results", pytest.param("load_best", marks=pytest.mark.slow)]
)
def test_training_killed_between_its_files(training, name):
    """Stopped after the state of an epoch, or after the best weights of a stage were taken."""
    request, work, left = training
    assert ended(started(lambda: work(False))) == 0
    expected = left(request.out)

    def killed(event):
        with pytest.MonkeyPatch.context() as patch:
            calls = []

            def stop(self, *arguments, **options):
                calls.append(1)
                if len(calls) == event:
                    os.kill(os.getpid(), 9)
                return original(self, *arguments, **options)

            original = getattr(RunFiles, name)
            patch.setattr(RunFiles, name, stop)
            work(False)

    kills = 0
    for event in (3, 1):  # within the second stage, and the first
        shutil.rmtree(request.out)
        if ended(started(lambda e=event: killed(e))) != KILLED:
            continue
        assert ended(started(lambda: work(True))) == 0
        same(left(request.out), expected)
        kills += 1
    assert kills
