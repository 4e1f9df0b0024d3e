"""A tuning of the tower that was stopped goes on, and ends as if it had not been."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from bayes_pfl.errors import DataError
from pretraining import pretrain
from pretraining.architecture import build_clip
from pretraining.lite_weights import LiteWeights
from pretraining.pictures import encode_pictures, plan
from pretraining.split_trunk import SplitTrunk
from pretraining.tuning_state import TuningState
from pretraining.unlocking import unlock
from tests.helpers.small_recipe import SOURCE, TINY, draw, random_weights

STEPS = 5


class Stopped(BaseException):
    """As Ctrl-C."""


def stop_after(step: int):
    def progress(stage: str, done: int, total: int) -> None:
        if stage == "unlocking" and done == step:
            raise Stopped

    return progress


@pytest.fixture(scope="module")
def weights() -> LiteWeights:
    return random_weights()


@pytest.fixture
def tuning(weights):
    """A tower as it came, and what tunes a copy of it."""
    config = replace(TINY, unlock_steps=STEPS)
    tower = SplitTrunk(build_clip(config, weights).visual.trunk, config.unlocked)
    pictures = encode_pictures(tower, draw, plan(SOURCE.training, 8, seed=0), size=64)

    def run(state=None, progress=None):
        trunk = copy.deepcopy(tower)
        losses = unlock(trunk, pictures, weights, config, progress, state)
        return trunk.state_dict(), losses

    return run


def test_stopped_tuning_ends_as_an_uninterrupted_one(tuning, tmp_path):
    whole, losses = tuning()
    path = tmp_path / "new" / "tower.part"
    for step in (2, 4):
        with pytest.raises(Stopped):
            tuning(TuningState(path, period=0), stop_after(step))
    steps = []
    parts, again = tuning(TuningState(path, period=0), lambda _, done, total: steps.append(done))
    assert steps == [5]
    assert again == losses
    assert all(torch.equal(parts[name], value) for name, value in whole.items())


def test_stop_after_the_last_step_costs_nothing(tuning, tmp_path):
    path = tmp_path / "tower.part"
    whole = tuning(TuningState(path, period=0))
    again = tuning(TuningState(path, period=0), stop_after(STEPS))
    assert again[1] == whole[1]
    assert all(torch.equal(again[0][name], value) for name, value in whole[0].items())


def test_cost_counts_what_was_spent_before(tuning, tmp_path):
    path = tmp_path / "tower.part"
    with pytest.raises(Stopped):
        tuning(TuningState(path, period=0), stop_after(3))
    data = torch.load(path, weights_only=True)
    assert data["step"] == 3 and data["cost"]["wall"] > 0
    torch.save(data | {"cost": {"wall": 1000.0, "processor": 1900.0}}, path)
    state = TuningState(path)
    tuning(state)
    assert 1000 < state.cost.wall < 1100 and 1900 < state.cost.processor < 2000


def test_state_is_written_now_and_then(tuning, tmp_path):
    path = tmp_path / "tower.part"
    tuning(TuningState(path, period=3600))
    assert not path.exists()


@pytest.mark.parametrize("content", [b"", b"PK nothing", "another"])
def test_file_that_is_no_such_state_is_told(tuning, tmp_path, content):
    path = tmp_path / "tower.part"
    if content == "another":
        torch.save({"step": 1, "cost": {}, "parts": {"trunk": {}}}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"tower\.part: not the state of this tuning .*; delete it"):
        tuning(TuningState(path))


def test_recipe_goes_on_within_the_tower(weights, tmp_path: Path, monkeypatch):
    often = partial(TuningState, period=0)
    monkeypatch.setattr("pretraining.recipe.TuningState", often)
    settings = {"source": SOURCE, "weights": weights}
    pretrain(TINY, tmp_path / "whole", **settings)
    cache, out = tmp_path / "cache", tmp_path / "out"
    with pytest.raises(Stopped):
        pretrain(TINY, out, cache=cache, progress=stop_after(2), **settings)
    (part,) = cache.glob("tower-*.part")
    assert torch.load(part, weights_only=True)["step"] == 2
    pretrain(TINY, out, cache=cache, **settings)
    assert [path.suffix for path in cache.glob("tower-*")] == [".safetensors"]
    names = ("open_clip_model.safetensors", "open_clip_config.json")
    for name in names:
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
