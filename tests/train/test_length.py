"""A finished run that is resumed with more epochs: it trains them, or says why not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bayes_pfl.checkpoints.load import load_checkpoint
from bayes_pfl.config import BackboneConfig, StageConfig, TrainConfig
from bayes_pfl.errors import ConfigError
from bayes_pfl.rendering import TRAIN_CATEGORIES, write_mvtec_tree
from bayes_pfl.train.length import check_length
from bayes_pfl.train.run import TrainingRequest, run_training
from bayes_pfl.train.state import TrainingState


@pytest.fixture(scope="module")
def run(clip_dir, tmp_path_factory):
    """Trains so many epochs of both stages with a schedule; the request and the state."""
    root = tmp_path_factory.mktemp("length")
    names = tuple(TRAIN_CATEGORIES)[:3]
    tree = write_mvtec_tree(root / "tree", names, normals=1, anomalies=2, size=48)

    def train(out, epochs, schedule="constant", **changes):
        stages = [StageConfig(count, 9, schedule) for count in epochs]
        config = TrainConfig(*stages, batch_size=2, steps_per_epoch=1, validation_samples=1)
        config = replace(config, held_out=0.34, lr_other=1e-3)
        backbone = BackboneConfig(f"local-dir:{clip_dir}")
        request = TrainingRequest(tree, root / out, backbone, config, accelerator="cpu")
        return request, run_training(replace(request, **changes))

    return train


@pytest.mark.parametrize(("first", "more"), [((2, 0), (3, 0)), ((1, 1), (1, 2))])
def test_a_constant_rate_goes_on_as_if_it_had_been_that_long(run, first, more):
    name = "".join(map(str, first))
    run(name, first)
    request, longer = run(name, more, resume=True)
    whole, expected = run(f"whole {name}", more)
    assert longer.epoch == expected.epoch == max(more)
    assert [row["validation_ap"] for row in longer.history] == [
        row["validation_ap"] for row in expected.history
    ]
    both = [load_checkpoint(one.out / "last", device="cpu") for one in (request, whole)]
    for mine, theirs in zip(*(one.learned_state_dict().values() for one in both), strict=True):
        assert torch.equal(mine, theirs)


def test_what_cannot_be_longer_says_why_and_changes_nothing(run):
    request, _ = run("fixed", (2, 1), "cosine")
    before = {path: path.read_bytes() for path in request.out.rglob("*.*") if path.is_file()}
    with pytest.raises(
        ConfigError, match="--epochs 3 where it was begun with 2: stage 2 has begun"
    ):
        run("fixed", (3, 1), "cosine", resume=True)
    with pytest.raises(ConfigError, match="fall to zero over 1 epochs; give --epochs2 1 to resume"):
        run("fixed", (2, 2), "cosine", resume=True)
    assert {path: path.read_bytes() for path in before} == before
    assert len(run("fixed", (2, 1), "cosine", resume=True)[1].history) == 3


def test_a_stage_that_patience_has_ended_says_so(tmp_path):
    config = TrainConfig(stage1=StageConfig(5, 2, "constant"))
    ended = TrainingState(epoch=3, best=0.5, best_epoch=1)
    with pytest.raises(ConfigError, match="has ended before, 2 epochs after its best.*--patience"):
        check_length(tmp_path, ended, {"stage1": {"epochs": 4}}, config)
    check_length(tmp_path, ended, {}, config)  # of a run whose settings say nothing
