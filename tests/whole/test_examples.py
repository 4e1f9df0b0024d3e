"""The scripts of docs/examples run, and do what they say."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bayes_pfl.config import StageConfig
from bayes_pfl.fit.profile_files import load_profile
from tests.helpers.commands import load_script
from tests.helpers.paths import ROOT

FOLDER = ROOT / "docs" / "examples"


@pytest.fixture
def example(request):
    return load_script(f"docs/examples/{request.param}.py")


def test_every_example_is_run_here():
    assert {path.stem for path in FOLDER.glob("*.py")} == {
        "predict_folder",
        "fit_and_review",
        "train_on_own_data",
    }


@pytest.mark.parametrize("example", ["predict_folder"], indirect=True)
def test_predict_folder(example, checkpoint_dir, tmp_path, capsys):
    rows = example.main(None, "zipper", tmp_path, 4, str(checkpoint_dir))
    scores = [float(row["score"]) for row in rows]
    assert len(rows) == 4 and scores == sorted(scores, reverse=True)
    text = capsys.readouterr().out
    assert "4 scored, 0 unreadable" in text and "look at Box(" in text
    assert Image.open(tmp_path / "most-anomalous.png").width > 500


@pytest.mark.parametrize("example", ["fit_and_review"], indirect=True)
def test_fit_and_review(example, checkpoint_dir, tmp_path, capsys):
    normals = example.rendered(tmp_path / "n", "zipper", 20, faulty=False)
    new = example.rendered(tmp_path / "new", "zipper", 3, faulty=True)
    out = tmp_path / "out"
    piles = example.main(normals, new, "zipper", out, checkpoint=str(checkpoint_dir))
    assert sum(map(len, piles.values())) == 3
    assert load_profile(out / "part").calibration.n == 20
    for pile, paths in piles.items():
        for path in paths:
            assert (out / pile / f"{Path(path).name}.overlay.png").is_file()
            assert np.load(out / pile / f"{Path(path).name}.map.npy").shape == (256, 256)
    said = capsys.readouterr().out
    assert "scikit-learn: [" in said and said.count("most anomalous at (") == 3
    few = example.rendered(tmp_path / "few", "zipper", 1, faulty=False)
    piles = example.main(few, new, "zipper", out, checkpoint=str(checkpoint_dir))
    assert len(piles["review"]) == 3
    assert "no threshold: it needs a second normal picture" in capsys.readouterr().out


@pytest.mark.parametrize("example", ["train_on_own_data"], indirect=True)
def test_train_on_own_data(example, clip_dir, tmp_path, capsys):
    short = StageConfig(epochs=1, patience=1)
    config = replace(
        example.CONFIG, stage1=short, stage2=short, batch_size=2, steps_per_epoch=1, held_out=0.5
    )
    best = example.main(
        None, None, tmp_path, config, f"local-dir:{clip_dir}", categories=2, images=2
    )
    assert 0 <= best <= 1 and (tmp_path / "run" / "best" / "model.safetensors").is_file()
    assert "AUROC" in capsys.readouterr().out
    assert (tmp_path / "results" / "metrics.json").is_file() and (tmp_path / "first.png").is_file()
