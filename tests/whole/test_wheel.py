"""The built wheel, unpacked elsewhere, predicts with the embedded model from any folder."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from tests.helpers.paths import ROOT

# The script that pip makes of the wheel's entry point, in the same process as what it needs.
PROGRAM = """
import sys
from importlib.metadata import distribution
import bayes_pfl
from bayes_pfl.data.cards import card_names
print(bayes_pfl.__file__, len(card_names()), len(card_names(True)))
(script,) = distribution("bayes-pfl").entry_points.select(group="console_scripts")
sys.argv[0] = script.name
script.load()()
"""


def _call(*command, cwd, **environment):
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """What the wheel puts into an environment; it hides the editable install of this one."""
    base = tmp_path_factory.mktemp("wheel")
    tree = base / "tree"
    made = ("demo", "demo-*", "runs", "build", "dist", "site", "*.egg-info", "__pycache__", ".*")
    ignore = shutil.ignore_patterns(*made)  # other processes may be writing there
    shutil.copytree(ROOT, tree, ignore=ignore)
    pip = (sys.executable, "-m", "pip")
    build = ("wheel", "--no-deps", "--no-build-isolation", "--no-index")  # setuptools is here
    _call(*pip, *build, "--wheel-dir", base, tree, cwd=base)
    with zipfile.ZipFile(next(base.glob("bayes_pfl-*.whl"))) as wheel:
        wheel.extractall(base / "site")
    return base / "site"


def test_wheel_predicts_from_any_folder(unpacked, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "one.png")
    said = _call(
        *(sys.executable, "-c", PROGRAM, "predict", folder, "--class-name", "metal nut"),
        *("--out", "out"), cwd=tmp_path, HF_HUB_OFFLINE="1", PYTHONPATH=str(unpacked),
    )  # fmt: skip
    assert said.splitlines()[0] == f"{unpacked / 'bayes_pfl' / '__init__.py'} 15 5"
    rows = list(csv.DictReader((tmp_path / "out" / "predictions.csv").open()))
    assert len(rows) == 1 and 0 <= float(rows[0]["score"]) <= 1


def test_a_checker_of_types_finds_a_misspelt_argument(unpacked, tmp_path):
    """In a user's script, by the types that the wheel brings."""
    script = """
from bayes_pfl import BayesPFL

model = BayesPFL.from_pretrained("bayes-pfl-tiny")
print(model.predict("part.png", class_name="metal nut", threshold=0.5).score)
print(model.predict("part.png", class_name="metal nut", treshold=0.5).score)
"""
    (tmp_path / "script.py").write_text(script, encoding="utf-8")
    found = subprocess.run(
        [sys.executable, "-m", "mypy", "--follow-imports", "silent", "script.py"],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(unpacked)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    lines = [line for line in found.stdout.splitlines() if ": error:" in line]
    assert lines and all(line.startswith("script.py:6:") for line in lines), found.stdout
    assert 'did you mean "threshold"?' in found.stdout
