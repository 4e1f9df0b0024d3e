"""What users do on a GPU, with tensors that only pretend to be on one: see pretend_gpu.py."""

import copy
import shutil
from dataclasses import replace

import numpy as np
import pytest
from lightning_fabric import Fabric

from bayes_pfl.config import StageConfig, TrainConfig
from bayes_pfl.data.sources import read_source
from bayes_pfl.detect.scorer import Scorer
from bayes_pfl.detect.settings import ScoringSettings
from bayes_pfl.evaluate.scoring import EvaluationSettings, evaluate
from bayes_pfl.rendering import TRAIN_CATEGORIES, write_mvtec_tree
from bayes_pfl.train.run_files import RunFiles
from bayes_pfl.train.trainer import Trainer
from tests.helpers.pretend_gpu import (
    GPU,
    fabric_on_gpu,
    give_gradients,
    pretend_gpu,
    with_fake_weights,
    with_values,
)

CONFIG = TrainConfig(
    stage1=StageConfig(epochs=1, patience=3),
    stage2=StageConfig(epochs=0, patience=2),
    batch_size=2,
    steps_per_epoch=1,
    validation_samples=1,
    workers=0,  # values that are not there do not travel between processes
)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    root = write_mvtec_tree(
        tmp_path_factory.mktemp("parts"), TRAIN_CATEGORIES[:1], normals=1, anomalies=2, size=64
    )
    return read_source(root)


@pytest.fixture(scope="module")
def stopped(tiny_model, samples, tmp_path_factory):
    """The folder of a run of one epoch, on the CPU."""
    out = tmp_path_factory.mktemp("stopped")
    fabric = Fabric(accelerator="cpu", devices=1)
    Trainer(copy.deepcopy(tiny_model), CONFIG, samples, samples[:1], out, fabric).run()
    return out


@pytest.fixture
def network(tiny_model, monkeypatch):
    """The tiny network with fake weights, still on the CPU."""
    model = copy.deepcopy(tiny_model)
    with pretend_gpu(monkeypatch):
        yield with_fake_weights(model)


@pytest.fixture
def train(network, stopped, samples, tmp_path, monkeypatch):
    def trained(config=CONFIG, precision="32-true", resume=False, cache=None):
        for name in ("save_results", "save_epoch", "load_best"):  # of weights without values
            monkeypatch.setattr(RunFiles, name, lambda *_, **__: None)
        monkeypatch.setattr("bayes_pfl.train.trainer.save_checkpoint", lambda *_: None)
        monkeypatch.setattr(RunFiles, "load_last", with_values(RunFiles.load_last))
        fabric = fabric_on_gpu(precision)
        monkeypatch.setattr(fabric, "backward", lambda loss: give_gradients(network))
        trainer = Trainer(network, config, samples, samples[:1], tmp_path, fabric, cache=cache)
        state = trainer.run(resume=resume)
        assert network.device == GPU
        return state

    return trained


def test_both_stages_and_their_validation(train):
    state = train(replace(CONFIG, stage2=StageConfig(epochs=1, patience=2)))
    assert [row["stage"] for row in state.history] == [1, 2]


def test_micro_batches_of_every_pair_in_half_precision(train):
    train(replace(CONFIG, accumulate=2, every_pair=True, precision="bf16-mixed"), "bf16-mixed")


def test_an_epoch_from_cached_features(train, tmp_path):
    train(cache=tmp_path / "cache")


def test_a_resumed_run(stopped, train, tmp_path):
    shutil.copytree(stopped, tmp_path, dirs_exist_ok=True)
    state = train(replace(CONFIG, stage1=StageConfig(epochs=2, patience=3)), resume=True)
    assert [row["epoch"] for row in state.history] == [1, 2]


@pytest.mark.parametrize(
    ("precision", "samples"), [("float32", 0), ("bfloat16", 2), ("float16", 2)]
)
def test_scores_of_synonyms(network, precision, samples):
    network.to(GPU)
    scorer = Scorer(network, ScoringSettings(precision=precision, samples=samples))
    side = network.backbone.image_size
    pixels = [np.zeros((side, side, 3), np.uint8)] * 2
    found = scorer(pixels, ["screw|bolt", "cable"])
    assert found[0].map.device.type == "cpu"


def test_an_evaluation(network, samples):
    network.to(GPU)
    records = evaluate(network, samples, EvaluationSettings(samples=2, batch_size=2))
    assert sum(len(record.rows) for record in records.values()) == len(samples)
