"""A checkpoint at another input size: the same weights, a new grid, a new range of colours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from bayes_pfl import BayesPFL
from bayes_pfl.checkpoints.format import WEIGHTS_NAME
from bayes_pfl.data.sources import read_source
from bayes_pfl.rendering import write_mvtec_tree
from tests.helpers.commands import command


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


def test_fitted_temperatures_are_the_most_likely_ones(checkpoint_dir, tree, tmp_path, capsys):
    out = tmp_path / "fitted"
    words = ("--image-size", 64, "--validation-data", tree, "--device", "cpu")
    assert command("resize", checkpoint_dir, *words, "--out", out, "--fit-temperatures") == 0
    assert "temperatures fitted: " in capsys.readouterr().out
    before, after = (BayesPFL.from_pretrained(f, device="cpu") for f in (checkpoint_dir, out))
    old, new = before.learned_state_dict(), after.learned_state_dict()
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed == {"log_scale_pixel", "log_scale_image"}
    assert after.config.scoring.map_range != before.config.scoring.map_range
    # By hand: no other temperature makes the pairs' own text scores more likely.
    samples = read_source(tree)
    images = torch.stack([after.transform(Image.open(s.path)) for s in samples])
    labels = torch.tensor([float(s.label) for s in samples])[:, None]
    with torch.no_grad():
        features = after.backbone.encode_image(images)
        names = [s.class_name for s in samples]
        text = after.prompt_embeddings(features.pooled, after.draw(), names)
        logits = after.image_logits(features, text, after.config.scoring.stage)
    margin = logits[:, 1] - logits[:, 0]

    def cost(factor):
        wanted = labels.expand_as(margin)
        return F.binary_cross_entropy_with_logits(factor * margin, wanted).item()

    reached = after.log_scale_image.exp().item()
    factors = [f for f in (0.7, 0.9, 1.1, 1.4) if 2 < f * reached < 500]
    assert factors and all(cost(1.0) <= cost(f) for f in factors)


def test_temperatures_need_normal_images_and_masks(checkpoint_dir, tree, tmp_path, capsys):
    words = ("--image-size", 64, "--out", tmp_path / "none", "--device", "cpu")
    assert command("resize", checkpoint_dir, *words, "--fit-temperatures") == 2
    assert "normal images (0 found)" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


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
