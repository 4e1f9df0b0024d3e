"""A checkpoint at another input size: the same weights, a new grid, a new range of colours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from bayes_pfl import BayesPFL
from bayes_pfl.checkpoints import WEIGHTS_NAME
from bayes_pfl.data.synthetic import write_mvtec_tree
from tests.commands import command


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("tree") / "parts"
    write_mvtec_tree(root, ["felt"], normals=2, anomalies=2, size=48)
    return root


def test_weights_stay_and_the_size_changes(checkpoint_dir, tree, tmp_path):
    out = tmp_path / "larger"
    words = ("--image-size", 64, "--out", out, "--validation-data", tree)
    assert command("resize", checkpoint_dir, *words, "--device", "cpu") == 0
    before, after = (BayesPFL.from_pretrained(f, device="cpu") for f in (checkpoint_dir, out))
    assert after.config.backbone.image_size == after.backbone.image_size == 64
    assert before.config.backbone.image_size != 64
    assert (out / WEIGHTS_NAME).read_bytes() == (checkpoint_dir / WEIGHTS_NAME).read_bytes()
    image = Image.fromarray(np.full((50, 40, 3), 90, np.uint8))
    result = after.predict(image, "felt")
    assert result.anomaly_map.shape == (50, 40)


def test_the_range_of_colours_is_that_of_the_validation_maps(checkpoint_dir, tree, tmp_path):
    size = ("--image-size", 64, "--device", "cpu")
    assert command("resize", checkpoint_dir, *size, "--out", tmp_path / "old") == 0
    words = (*size, "--out", tmp_path / "new", "--validation-data", tree)
    assert command("resize", checkpoint_dir, *words) == 0
    plain, old, new = (
        BayesPFL.from_pretrained(f, device="cpu")
        for f in (checkpoint_dir, tmp_path / "old", tmp_path / "new")
    )
    assert old.config.scoring.map_range == plain.config.scoring.map_range
    files = sorted(tree.glob("*/test/*/*.png"))
    with torch.no_grad():
        maps = [r.anomaly_map for r in new.predict(files, "felt")]
    low, high = new.config.scoring.map_range
    pixels = np.concatenate([m.ravel() for m in maps])
    assert abs(np.quantile(pixels, 0.5) - low) < 0.05
    assert abs(np.quantile(pixels, 0.95) - high) < 0.05


def test_a_tower_in_stages_gets_the_grid_that_is_asked_for(tmp_path):
    out = tmp_path / "coarser"
    size = ("--image-size", 128, "--grid", 6, "--device", "cpu")
    assert command("resize", "bayes-pfl-tiny", *size, "--out", out) == 0
    model = BayesPFL.from_pretrained(out, device="cpu")
    assert model.backbone.grid == (6, 6) and model.backbone.image_size == 128
    image = Image.fromarray(np.full((50, 40, 3), 90, np.uint8))
    assert model.predict(image, "felt").anomaly_map.shape == (50, 40)


def test_a_size_that_the_tower_cannot_take_is_told(checkpoint_dir, tmp_path, capsys):
    words = ("--image-size", 7, "--out", tmp_path / "none", "--device", "cpu")
    assert command("resize", checkpoint_dir, *words) == 2
    assert "at 7 pixels" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
