"""The model in anomalib: the figures of `bayes-pfl evaluate`, the scores of `predict`.

`make test-anomalib` runs these, with the release of anomalib in constraints.txt.
"""

from __future__ import annotations

import json
import re
import socket

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("anomalib", reason="make test-anomalib has an environment with it")

from anomalib import LearningType  # noqa: E402
from anomalib.data import MVTecAD  # noqa: E402
from anomalib.engine import Engine  # noqa: E402
from torchvision.tv_tensors import Mask  # noqa: E402

from bayes_pfl import BayesPFL as Model  # noqa: E402
from bayes_pfl.data.transforms import resize_image, resize_mask  # noqa: E402
from bayes_pfl.errors import ConfigError, DataError  # noqa: E402
from bayes_pfl.integrations.anomalib import BayesPFL  # noqa: E402
from bayes_pfl.integrations.anomalib.processing import SquareResize, centred  # noqa: E402
from tests.helpers.commands import command  # noqa: E402
from tests.helpers.paths import ROOT  # noqa: E402

GUIDE = (ROOT / "docs/guides/anomalib.md").read_text(encoding="utf-8")
LEVELS = ("image", "pixel")


def no_network(*address):
    raise AssertionError(f"the network is not needed: {address}")


@pytest.fixture(scope="module")
def guide(tmp_path_factory):
    """What the guide's Python leaves after its commands, and the folder where it ran."""
    found = {"folder": tmp_path_factory.mktemp("guide")}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(found["folder"])
        patch.setattr(socket.socket, "connect", no_network)
        for line in re.findall(r"^bayes-pfl (.+)$", GUIDE, re.M):
            assert command(*line.split()) == 0
        for code in re.findall(r"^```python\n(.*?)^```", GUIDE, re.M | re.S):
            exec(code, found)
    return found


def evaluated(guide, *options):
    """AUROCs of `bayes-pfl evaluate` on the guide's tree."""
    out = guide["folder"] / f"evaluated{len(options)}"
    data = ("--data", guide["folder"] / "rendered", "--samples", 0, "--no-report")
    assert command("evaluate", *data, "--out", out, *options, "--device", "cpu") == 0
    ((dataset),) = json.loads((out / "metrics.json").read_text())["datasets"].values()
    return {level: dataset["categories"]["granite"][level]["auroc"] for level in LEVELS}


def aurocs(figures):
    return {level: figures[f"{level}_AUROC"] for level in LEVELS}


def test_the_engine_finds_the_figures_of_evaluate(guide):
    own = evaluated(guide)
    assert aurocs(guide["figures"]) == pytest.approx(own, abs=1e-5)
    assert 0.5 < own["image"] < 1  # not so easy that anything would agree
    assert 0.5 < own["pixel"] < 1


def test_with_a_profile_too(guide):
    profile = guide["folder"] / "granite-profile"
    own = evaluated(guide, "--profile", profile)
    assert aurocs(guide["few_shot_figures"]) == pytest.approx(own, abs=1e-5)
    assert own != evaluated(guide)
    assert guide["few_shot"].learning_type == LearningType.FEW_SHOT


def granite(guide):
    """The guide's data module, which works in any folder."""
    return MVTecAD(guide["folder"] / "rendered", "granite", eval_batch_size=8, num_workers=0)


def engine(folder):
    return Engine(default_root_dir=folder / "results", accelerator="cpu", enable_progress_bar=False)


def test_predictions_are_those_of_predict(guide, tmp_path):
    pictures = guide["folder"] / "rendered/granite/test"
    profile = guide["folder"] / "granite-profile"
    module = BayesPFL(profile=profile, samples=0)
    batches = engine(tmp_path).predict(module, data_path=pictures)
    paths = [batch.image_path[0] for batch in batches]
    own = Model.from_pretrained(device="cpu").predict(paths, profile=profile, samples=0)
    assert [bool(batch.pred_label) for batch in batches] == [result.label == 1 for result in own]
    limits = module.post_processor.image_threshold, module.post_processor.pixel_threshold
    assert limits[1] == torch.tensor(own[0].map_threshold)
    for batch, result in zip(batches, own, strict=True):
        score = centred(torch.tensor(result.score), limits[0])
        assert batch.pred_score.item() == pytest.approx(score.item(), abs=1e-5)
    drawn = list(tmp_path.glob("results/BayesPFL/latest/images/*/*.png"))
    assert len(drawn) == len(set(paths)) == 20


def test_scores_without_a_post_processor_are_raw_and_fit_trains_nothing(guide, tmp_path):
    module = BayesPFL(samples=0, post_processor=False, visualizer=False)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    runner = engine(tmp_path)
    runner.fit(module, datamodule=granite(guide))
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    path = next((guide["folder"] / "rendered/granite/test/good").iterdir())
    (found,) = runner.predict(module, data_path=path)
    own = Model.from_pretrained(device="cpu").predict(path, "granite", samples=0)
    assert module.class_name == "granite"  # of the data module
    assert found.pred_score.item() == pytest.approx(own.score, abs=1e-6)
    assert found.pred_label is None


def test_a_saved_module_comes_back_with_its_class_name_and_thresholds(guide, tmp_path):
    module, runner = BayesPFL(samples=0, visualizer=False), engine(tmp_path)
    (tmp_path / "pcb1").symlink_to(guide["folder"] / "rendered/granite")
    runner.fit(module, datamodule=MVTecAD(tmp_path, "pcb1", num_workers=0))
    runner.trainer.save_checkpoint(tmp_path / "saved.ckpt")
    again = BayesPFL.load_from_checkpoint(tmp_path / "saved.ckpt")
    picture = torch.rand(1, 3, 100, 150)
    assert again.class_name == "printed circuit board"  # of the data module's category
    assert not again.post_processor.image_threshold.isnan()
    assert torch.equal(again(picture).pred_score, module(picture).pred_score)
    assert torch.equal(again(picture).pred_mask, module(picture).pred_mask)


def test_pictures_and_masks_are_resized_as_everywhere_to_the_bit():
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (2, 61, 83, 3), np.uint8)
    masks = rng.random((2, 61, 83)) < 0.2
    planes = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    resize = SquareResize(48)
    found, marked = resize(planes, Mask(torch.from_numpy(masks)))
    assert isinstance(marked, Mask) and marked.dtype == torch.bool
    for at in range(2):
        wanted = resize_image(Image.fromarray(pictures[at]), 48)
        assert torch.equal((found[at] * 255).round().byte().permute(1, 2, 0), torch.tensor(wanted))
        assert torch.equal(marked[at], torch.tensor(resize_mask(masks[at], (48, 48))))
        assert torch.equal(resize(planes[at]), found[at])  # one, as data modules do it
    assert torch.equal(resize(found), found)


@pytest.mark.parametrize("threshold", [0.0, 0.03, 0.5, 0.97, 1.0])
def test_centred_scores_keep_their_order_and_what_lies_on_the_threshold_is_anomalous(threshold):
    scores, limit = torch.linspace(0, 1, 501), torch.tensor(threshold)
    moved = centred(scores, limit)
    assert (moved.diff() > 0).all()
    assert moved[0] >= 0 and moved[-1] <= 1
    assert torch.equal(moved > 0.5, scores >= limit)
    assert centred(limit, limit) > 0.5
    assert torch.equal(centred(scores, torch.tensor(torch.nan)), scores)


def test_what_it_cannot_do_is_refused_in_one_line(guide, tmp_path):
    picture = Image.open(guide["folder"] / "rendered/granite/train/good/000.png")
    (tmp_path / "one").mkdir()
    picture.save(tmp_path / "one/a.png")
    for name, value in {"tile": 200, "roi": tmp_path / "roi.png"}.items():
        Image.new("L", picture.size, 255).save(tmp_path / "roi.png")
        made = ("--class-name", "granite", "--samples", 0, "--out", tmp_path / name)
        assert command("fit", tmp_path / "one", *made, f"--{name}", value) == 0
        with pytest.raises(ConfigError, match=r"made with .*use bayes-pfl predict, or fit without"):
            BayesPFL(profile=tmp_path / name, samples=0)
    with pytest.raises(ConfigError, match="leave the name out"):
        BayesPFL(profile=guide["folder"] / "granite-profile", class_name="nut", samples=0)
    with pytest.raises(DataError, match="class name"):
        BayesPFL(class_name=" ")
    for kind in ("torch", "onnx", "openvino"):
        with pytest.raises(ConfigError, match="use bayes-pfl export"):
            engine(tmp_path).export(guide["module"], kind)
