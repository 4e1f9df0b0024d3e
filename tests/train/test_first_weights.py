"""Training that begins with a checkpoint: its weights, its record, and what does not fit it."""

import json
from dataclasses import replace

import pytest
import torch

from bayes_pfl.checkpoints.format import WEIGHTS_NAME, read_config, save_checkpoint
from bayes_pfl.checkpoints.load import load_checkpoint
from bayes_pfl.checkpoints.publish import card_of
from bayes_pfl.config import (
    AblationConfig,
    BackboneConfig,
    FirstWeights,
    FlowConfig,
    StageConfig,
    TrainConfig,
    TrainingRecord,
)
from bayes_pfl.errors import CheckpointError, ConfigError
from bayes_pfl.rendering import write_mvtec_tree
from bayes_pfl.support.checksums import file_sha256
from bayes_pfl.train.first_weights import find_initial
from bayes_pfl.train.run import TrainingRequest, run_training
from tests.train.test_trainer import _Interrupt, _weights

CONFIG = TrainConfig(
    stage1=StageConfig(epochs=2, patience=2),
    stage2=StageConfig(epochs=1, patience=1),
    batch_size=4,
    steps_per_epoch=2,
    validation_samples=1,
    held_out=0.5,
)
STILL = {f"lr_{name}": 0.0 for name in ("prompts", "flow", "temperature", "other")}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    out = tmp_path_factory.mktemp("own")
    return write_mvtec_tree(out, ("wood", "felt"), normals=2, anomalies=3, size=64)


@pytest.fixture(scope="module")
def head(tiny_model, tmp_path_factory):
    """A head that was trained on something else."""
    folder = tiny_model.save_pretrained(tmp_path_factory.mktemp("head"))
    model = load_checkpoint(folder, device="cpu")
    model.config = replace(model.config, training=TrainingRecord("test", ("mvtec/bottle",)))
    model.update_scoring(samples=4)
    return save_checkpoint(model, folder)


@pytest.fixture
def request_for(tree, head, tmp_path):
    def make(out="run", init=head, **changes):
        known = find_initial(init)
        backbone = known.config.backbone
        request = TrainingRequest(
            tree, tmp_path / out, backbone, CONFIG, accelerator="cpu", init=known, loggers=()
        )
        return replace(request, **changes)

    return make


def test_it_begins_with_the_weights_and_settings_and_says_so(request_for, head):
    request = request_for(config=replace(CONFIG, **STILL))
    run_training(request)
    for name, value in _weights(head).items():
        torch.testing.assert_close(_weights(request.out)[name], value, msg=name)
    config = read_config(request.out / "best")
    assert config.scoring.samples == 4
    record = config.training
    assert record.began_with == FirstWeights(str(head), file_sha256(head / WEIGHTS_NAME))
    assert "mvtec/bottle" in record.trained and len(record.trained) == 2
    assert json.loads((request.out / "config.json").read_text())["init"] == str(head)
    card = card_of(config, "me/head", request.out / "none", 1, "0")
    assert f"| began with | `{head}`, SHA-256 `{record.began_with.sha256}` |" in card


@pytest.mark.parametrize("step", [1, 3])
def test_it_resumes_as_if_not_stopped(request_for, step):
    whole, stopped = request_for("whole"), request_for("stopped")
    run_training(whole)
    with pytest.raises(KeyboardInterrupt):
        run_training(stopped, _Interrupt(step))
    with pytest.raises(CheckpointError, match="began with .* but --init is missing"):
        run_training(replace(stopped, init=None, resume=True))
    run_training(replace(stopped, resume=True))
    wanted, found = _weights(whole.out), _weights(stopped.out)
    assert all(torch.equal(found[name], value) for name, value in wanted.items())


def test_a_run_is_resumed_with_the_weights_that_it_began_with(request_for, checkpoint_dir):
    plain = request_for("plain", config=replace(CONFIG, stage2=StageConfig(0, 1)))
    run_training(replace(plain, init=None))
    with pytest.raises(CheckpointError, match="started without --init; leave --init out"):
        run_training(replace(plain, resume=True))
    run_training(fine := replace(plain, out=plain.out.with_name("fine")))
    other = find_initial(_changed(checkpoint_dir, plain.out.with_name("other")))
    with pytest.raises(CheckpointError, match="other holds other weights; resume it with --init"):
        run_training(replace(fine, init=other, resume=True))


def _changed(checkpoint, folder):
    model = load_checkpoint(checkpoint, device="cpu")
    with torch.no_grad():
        model.prompts.context.add_(1)
    return save_checkpoint(model, folder)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"backbone": BackboneConfig("ViT-B-32")}, "--backbone: ViT-B-32 here, but .* with local"),
        ({"flow": FlowConfig(constrained=False)}, "--flow: .*'constrained': False.* here, but"),
        ({"ablation": AblationConfig(flow=False)}, "--without: .*'flow': False.* leave it out"),
    ],
)
def test_a_model_that_the_weights_do_not_belong_to_is_refused(request_for, changes, said):
    request = request_for(**changes)
    with pytest.raises(ConfigError, match=said):
        run_training(request)
    assert not request.out.exists()


def test_the_command_takes_the_settings_over_unless_they_are_given(
    run, head, tree, monkeypatch, tmp_path
):
    requests = []
    monkeypatch.setattr(
        "bayes_pfl.train.run.run_training", lambda request, _: requests.append(request) or 1 / 0
    )
    command = ("train", "--data", str(tree), "--out", str(tmp_path / "run"), "--init", str(head))
    for options in ((), ("--image-size", "64", "--logger", "csv", "--logger", "csv")):
        with pytest.raises(ZeroDivisionError):
            run(*command, *options)
    plain, larger = requests
    known = read_config(head)
    assert plain.backbone == known.backbone and plain.prompts == known.prompts
    assert plain.loggers == ("tensorboard",) and larger.loggers == ("csv", "csv")
    assert larger.backbone == replace(known.backbone, image_size=64)
    assert (plain.config.lr_prompts, plain.config.lr_flow, plain.config.lr_other) == (1e-4,) * 3
    code, _, said = run(*command, "--preset", "published", "--dataset", "visa")
    assert code == 2 and "--init with --preset" in said
