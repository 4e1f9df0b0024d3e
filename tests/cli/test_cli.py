"""The command line as a user meets it: what is printed, what is written, the exit code."""

from __future__ import annotations

import csv
import json
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers.paths import PARITY


@pytest.fixture
def pictures(tmp_path):
    """Two good pictures and a corrupt one."""
    folder = tmp_path / "my pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a part.png", "ünïcode.jpg"):
        Image.fromarray(rng.integers(0, 255, (60, 80, 3), np.uint8)).save(folder / name)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    return folder


def refused(result):
    """One line on standard error, exit code 2; gives the line."""
    code, _, err = result
    assert code == 2
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in err
    return lines[0]


def test_predict_survives_a_corrupt_file_and_says_so(run, pictures, checkpoint_dir, tmp_path):
    out = tmp_path / "out"
    code, text, _ = run(
        "predict", pictures, "--class-name", "part", "--checkpoint", checkpoint_dir, "--out", out
    )
    assert code == 1 and "2 images scored, 1 failed" in text
    rows = list(csv.DictReader((out / "predictions.csv").open(encoding="utf-8")))
    assert [bool(row["error"]) for row in rows] == [False, True, False]
    assert json.loads((out / "summary.json").read_text())["failed"] == 1
    assert (out / "overlays" / "a part.png.png").is_file()


def test_predict_refusals(run, pictures, checkpoint_dir, tmp_path):
    common = ("--checkpoint", checkpoint_dir, "--class-name")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no image" in refused(run("predict", empty, *common, "nut", "--out", tmp_path / "o"))
    line = refused(run("predict", pictures, *common, "long " * 90, "--out", tmp_path / "o"))
    assert "tokens" in line and "shorten it" in line
    (tmp_path / "file").write_text("")
    line = refused(run("predict", pictures, *common, "nut", "--out", tmp_path / "file"))
    assert "cannot be written" in line
    line = refused(
        run("predict", pictures, "--checkpoint", "nowhere", "--class-name", "a", "--out", empty)
    )
    assert "'nowhere' not found" in line


def test_truncated_checkpoint_is_refused(run, pictures, checkpoint_dir, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(checkpoint_dir, broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    result = run(
        "predict", pictures, "--class-name", "nut", "--checkpoint", broken, "--out", tmp_path / "o"
    )
    assert "truncated or not safetensors" in refused(result)


def test_unknown_backbone_is_refused_before_any_work(run, tmp_path):
    tree = tmp_path / "tree"
    run("synthesize", "--out", tree, "--categories", "wood,leather", "--normals", 1,
        "--anomalies", 1, "--size", 48)  # fmt: skip
    result = run("train", "--data", tree, "--out", tmp_path / "run", "--backbone", "ViT-L-14-33")
    assert "ViT-L-14-336" in refused(result)
    result = run("train", "--data", tree, "--out", tmp_path / "run", "--backbone", "ViT-B-32")
    assert "needs weights" in refused(result)
    result = run("train", "--data", tree, "--out", tmp_path / "run", "--layers", "a,b")
    assert "give numbers" in refused(result)
    assert not (tmp_path / "run" / "last").exists()


def test_train_then_evaluate_then_resume(run, clip_dir, tmp_path):
    tree, out = tmp_path / "tree", tmp_path / "run"
    run("synthesize", "--out", tree, "--categories", "wood,leather", "--normals", 2,
        "--anomalies", 2, "--size", 48)  # fmt: skip
    options = ("--epochs2", 1, "--steps-per-epoch", 1, "--batch-size", 2, "--held-out", 0.5,
               "--accelerator", "cpu", "--backbone", f"local-dir:{clip_dir}",
               "--join-layers", "--grid", 4)  # fmt: skip
    code, text, told = run("train", "--data", tree, "--out", out, "--epochs", 1, *options)
    assert (
        code == 0 and "best checkpoint" in text and "stage 2, epoch 1: validation image AP" in text
    )
    figures = [re.sub(r"\d+\.\d+", "#", line) for line in told.splitlines()]
    assert figures == [
        "stage 1, epoch 1 of 1: loss #, validation pixel AP #%, the best so far",
        "stage 2, epoch 1 of 1: loss #, validation image AP #%, the best so far",
    ]
    again = ("train", "--data", tree, "--out", out, "--epochs", 1, *options, "--resume")
    code, _, told = run(*again)
    assert code == 0 and told == "resumed after stage 2, epoch 1\n"
    assert run("--quiet", *again)[2] == ""
    backbone = json.loads((out / "best" / "config.json").read_text())["model"]["backbone"]
    assert (backbone["grid"], backbone["joined"]) == (4, True)
    code, text, _ = run("evaluate", "--checkpoint", out, "--data", tree, "--out", tmp_path / "eval",
                        "--protocol", "both", "--samples", 2)  # fmt: skip
    assert code == 0 and "wood" in text
    report = json.loads((tmp_path / "eval" / "metrics.json").read_text())
    assert set(report["datasets"]["tree"]["categories"]) == {"wood", "leather"}


def test_verify_parity_passes_and_notices_a_fault(run, tmp_path):
    report = tmp_path / "report.json"
    code, text, _ = run("verify-parity", PARITY, "--json", report)
    assert code == 0 and "0 over" in text
    assert json.loads(report.read_text())["passed"] is True
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(PARITY, broken)
    outputs = load_file(broken / "outputs.safetensors")
    outputs["test.1.stage2.image_score"] += 0.01
    save_file(outputs, broken / "outputs.safetensors")
    code, text, _ = run("verify-parity", broken)
    assert code == 1 and "FAIL" in text
    assert "not a parity fixture" in refused(run("verify-parity", tmp_path / "none"))


class _Hostile:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def test_convert_refuses_a_pickle_that_carries_code(run, tmp_path):
    marker, file = tmp_path / "executed", tmp_path / "authors.pth"
    torch.save({"MyModel": _Hostile(marker)}, file, pickle_module=pickle)
    line = refused(run("convert", file, "--out", tmp_path / "out"))
    assert "refused, it is a pickle that would run" in line and not marker.exists()


def test_synthesize_names_what_can_be_rendered(run, tmp_path):
    line = refused(run("synthesize", "--out", tmp_path / "o", "--categories", "unicorn"))
    assert "unicorn" in line and "wood" in line


def test_config_file_faults_are_reported_together(run, tmp_path):
    config = tmp_path / "train.json"
    config.write_text('{"batch_size": "many", "speed": 3, "stage1": {"patience": -1}}')
    line = refused(run("train", "--data", tmp_path, "--out", tmp_path / "o", "--config", config))
    assert "batch_size" in line and "'speed'" in line and "stage1.patience = -1" in line


def test_an_error_in_a_worker_process_is_one_line_too(run, clip_dir, tmp_path):
    tree = tmp_path / "tree"
    run("synthesize", "--out", tree, "--categories", "wood,leather", "--normals", 1,
        "--anomalies", 1, "--size", 48)  # fmt: skip
    for mask in tree.glob("*/ground_truth/*/*.png"):
        Image.new("L", (20, 30)).save(mask)
    result = run("train", "--data", tree, "--out", tmp_path / "run", "--workers", 1,
                 "--batch-size", 4, "--held-out", 0.5, "--accelerator", "cpu",
                 "--backbone", f"local-dir:{clip_dir}", "--no-augment")  # fmt: skip
    line = refused(result)
    assert "the mask is 20x30, its image" in line and "Traceback" not in line
