"""The built wheel, installed elsewhere, predicts with the embedded model from any folder."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.paths import ROOT


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
def installed(tmp_path_factory):
    """Python of a new environment with the wheel; the dependencies are those of this one."""
    base = tmp_path_factory.mktemp("wheel")
    tree = base / "tree"
    made = ("demo", "demo-*", "runs", "build", "dist", "site", "*.egg-info", "__pycache__", ".*")
    ignore = shutil.ignore_patterns(*made)  # other processes may be writing there
    shutil.copytree(ROOT, tree, ignore=ignore)
    pip = (sys.executable, "-m", "pip")
    build = ("wheel", "--no-deps", "--no-build-isolation", "--no-index")  # setuptools is here
    _call(*pip, *build, "--wheel-dir", base, tree, cwd=base)
    environment = base / "environment"
    venv.create(environment)
    python = environment / "bin" / "python"
    purelib = _call(
        python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=base
    ).strip()
    # A path in a .pth file makes the packages there importable, but not this editable install.
    (Path(purelib) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    wheel = next(base.glob("bayes_pfl-*.whl"))
    install = ("--python", python, "install", "--no-deps", "--no-index", "--quiet")
    _call(*pip, *install, wheel, cwd=base)
    return python


def test_installed_wheel_predicts_from_any_folder(installed, tmp_path):
    where = _call(installed, "-c", "import bayes_pfl; print(bayes_pfl.__file__)", cwd=tmp_path)
    assert str(installed.parent.parent) in where
    folder = tmp_path / "images"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "one.png")
    script = installed.parent / "bayes-pfl"
    _call(
        script, "predict", folder, "--class-name", "metal nut", "--out", "out",
        cwd=tmp_path, HF_HUB_OFFLINE="1",
    )  # fmt: skip
    rows = list(csv.DictReader((tmp_path / "out" / "predictions.csv").open()))
    assert len(rows) == 1 and 0 <= float(rows[0]["score"]) <= 1
    code = "from bayes_pfl.data.cards import card_names as all; print(len(all()), len(all(True)))"
    assert _call(installed, "-c", code, cwd=tmp_path).strip() == "15 5"
