"""The training loop: what learns, what is kept, and that an interrupted run goes on as it was."""

from __future__ import annotations

import copy
import csv
import json
import os
import shutil
import threading
from dataclasses import replace

import pytest
import torch

from bayes_pfl.checkpoints.load import load_checkpoint
from bayes_pfl.config import BackboneConfig, StageConfig, TrainConfig
from bayes_pfl.data.sources import hold_out, read_source
from bayes_pfl.errors import CheckpointError, ConfigError, DataError
from bayes_pfl.rendering import write_mvtec_tree
from bayes_pfl.support import precision
from bayes_pfl.train.feature_cache import FeatureCache
from bayes_pfl.train.parameter_groups import parameter_groups, set_stage
from bayes_pfl.train.run import TrainingRequest, run_training, training_data
from bayes_pfl.train.trainer import Trainer

CATEGORIES = ("concrete", "leather", "hex_nut", "tablet")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Four rendered categories, small enough for the tiny model."""
    out = tmp_path_factory.mktemp("aux")
    return write_mvtec_tree(out, _known(CATEGORIES), normals=2, anomalies=3, size=64)


def _known(names):
    from bayes_pfl.rendering import TRAIN_CATEGORIES

    chosen = [name for name in names if name in TRAIN_CATEGORIES]
    return (chosen + [n for n in TRAIN_CATEGORIES if n not in chosen])[:4]


@pytest.fixture(scope="module")
def config():
    return TrainConfig(
        stage1=StageConfig(epochs=3, patience=3),
        stage2=StageConfig(epochs=2, patience=2),
        batch_size=4,
        steps_per_epoch=2,
        validation_samples=1,
        held_out=0.25,
        cache_views=2,
        lr_other=1e-3,
    )


@pytest.fixture
def request_for(tree, clip_dir, config, tmp_path):
    def make(out="run", **changes):
        backbone = BackboneConfig(f"local-dir:{clip_dir}")
        request = TrainingRequest(tree, tmp_path / out, backbone, config, accelerator="cpu")
        return replace(request, **changes)

    return make


@pytest.fixture(scope="module")
def finished(tree, clip_dir, config, tmp_path_factory):
    """A run that was left alone: its request, whose folder nobody changes, and its state."""
    out = tmp_path_factory.mktemp("finished") / "run"
    backbone = BackboneConfig(f"local-dir:{clip_dir}")
    request = TrainingRequest(tree, out, backbone, config, accelerator="cpu")
    return request, run_training(request)


@pytest.fixture(scope="module")
def cached(finished, tmp_path_factory):
    """The same run with a cache of its features, which nobody changes."""
    folder = tmp_path_factory.mktemp("cached")
    request = replace(finished[0], out=folder / "run", cache=folder / "cache")
    run_training(request)
    return request


@pytest.fixture
def copied(cached, tmp_path):
    """The request of a second run, on a copy of the cache."""
    cache = shutil.copytree(cached.cache, tmp_path / "cache")
    return replace(cached, out=tmp_path / "second", cache=cache)


def _weights(folder):
    return load_checkpoint(folder, device="cpu").learned_state_dict()


class _Interrupt:
    """Progress that stops the run at a given step, as Ctrl-C would."""

    def __init__(self, step):
        self.left = step

    def start(self, title, steps):
        self.counting = title.startswith("stage")

    def advance(self, done, values):
        if self.counting:
            self.left -= done
            if self.left < 0:
                raise KeyboardInterrupt


def test_run_folder_holds_all_that_is_promised(finished):
    request, state = finished
    out = request.out
    rows = list(csv.DictReader((out / "metrics.csv").open()))
    assert [(int(r["stage"]), int(r["epoch"])) for r in rows] == [
        (1, 1),
        (1, 2),
        (1, 3),
        (2, 1),
        (2, 2),
    ]
    assert float(rows[0]["loss_total"]) == pytest.approx(
        sum(float(v) for k, v in rows[0].items() if k.startswith("loss_") and k != "loss_total"),
        abs=1e-4,
    )
    settings = json.loads((out / "config.json").read_text())
    assert settings["train"]["batch_size"] == 4 and settings["model"]["backbone"]["layers"]
    assert not set(settings["categories"]) & set(settings["validation_categories"])
    assert json.loads((out / "environment.json").read_text())["packages"]["torch"]
    assert any((out / "tensorboard").iterdir())
    assert json.loads((out / "results.json").read_text())["best"] == state.best
    assert load_checkpoint(out, device="cpu").config.scoring.stage == 2


def test_stage_two_trains_the_alignment_alone(request_for, config, finished):
    one = request_for("one", config=replace(config, stage2=StageConfig(0, 1)))
    run_training(one)
    both, _ = finished
    before, after = _weights(one.out / "best"), _weights(both.out / "best")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("alignment.") for name in changed)


@pytest.mark.parametrize("step", [3, 7])
def test_resumed_run_equals_an_uninterrupted_one(request_for, finished, step):
    (whole, _), broken = finished, request_for("broken")
    with pytest.raises(KeyboardInterrupt):
        run_training(broken, _Interrupt(step))
    run_training(replace(broken, resume=True))
    expected, found = _weights(whole.out / "best"), _weights(broken.out / "best")
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    rows = [
        [
            {k: v for k, v in row.items() if k != "seconds"}
            for row in csv.DictReader((r.out / "metrics.csv").open())
        ]
        for r in (whole, broken)
    ]
    assert rows[0] == rows[1]


def test_same_seed_same_weights_other_seed_others(request_for, config, finished):
    first, _ = finished
    again, other = request_for("b"), request_for("c", config=replace(config, seed=1))
    for request in (again, other):
        run_training(request)
    a, b, c = (_weights(r.out / "best") for r in (first, again, other))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert any(not torch.equal(a[name], c[name]) for name in a)


@pytest.mark.parametrize("longest", [None, 0.05])
def test_gradients_are_no_longer_than_asked_for(request_for, config, monkeypatch, longest):
    lengths, step = [], torch.optim.Adam.step

    def measured(optimizer, *args, **kwargs):
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        gradients = [p.grad.flatten() for p in parameters if p.grad is not None]
        lengths.append(torch.cat(gradients).norm().item())
        return step(optimizer, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", measured)
    run_training(request_for(config=replace(config, max_gradient_norm=longest)))
    assert len(lengths) == 10
    assert (max(lengths) <= 0.0501) == (longest is not None)


def test_random_state_and_threads_are_as_before(request_for):
    torch.manual_seed(3)
    before, threads = torch.get_rng_state(), threading.active_count()
    run_training(request_for())
    assert torch.equal(before, torch.get_rng_state())
    with pytest.raises(KeyboardInterrupt):
        run_training(request_for("stopped"), _Interrupt(1))
    assert threading.active_count() == threads


def test_cached_features_give_the_same_first_epoch_losses(request_for, config, tmp_path):
    config = replace(config, augment=False, stage1=StageConfig(1, 1), stage2=StageConfig(0, 1))
    plain, cached = request_for("plain", config=config), request_for("cached", config=config)
    run_training(plain)
    run_training(replace(cached, cache=tmp_path / "cache"))
    rows = [next(csv.DictReader((r.out / "metrics.csv").open())) for r in (plain, cached)]
    for name in rows[0]:
        if name.startswith("loss_"):  # float16 tokens
            assert float(rows[0][name]) == pytest.approx(float(rows[1][name]), rel=2e-3)


def test_second_run_does_not_encode_again(copied, monkeypatch):
    monkeypatch.setattr(FeatureCache, "write", lambda *_: pytest.fail("encoded again"))
    run_training(copied)


def test_seeds_share_a_cache_where_they_share_the_views(
    request_for, config, tree, tmp_path, monkeypatch
):
    config = replace(config, augmentation_seed=0)
    # On data of its own, as the categories that are held out depend on the seed.
    first = replace(
        request_for("first", config=config), cache=tmp_path / "cache", validation_data=tree
    )
    run_training(first)
    monkeypatch.setattr(FeatureCache, "write", lambda *_: pytest.fail("encoded again"))
    other = replace(first, config=replace(config, seed=1), out=tmp_path / "second")
    run_training(other)
    losses = [(r.out / "metrics.csv").read_text() for r in (first, other)]
    assert losses[0] != losses[1]


def test_damaged_cache_is_noticed(copied):
    path = next(copied.cache.glob("*/tokens_0.npy"))
    data = bytearray(path.read_bytes())
    data[-1000:] = bytes(1000)
    path.write_bytes(data)
    path = next(copied.cache.glob("*/mask.npy"))
    data = bytearray(path.read_bytes())
    data[200:] = bytes(b ^ 1 for b in data[200:])
    path.write_bytes(data)
    with pytest.raises(DataError, match="damaged; remove the cache folder"):
        run_training(copied)


def test_another_image_is_another_cache(copied, tree):
    times = {path: path.stat().st_mtime_ns for path in tree.glob("*/test/good/*.png")}
    for path in times:
        os.utime(path, ns=(1, 1))
    try:
        run_training(copied)
    finally:  # the tree and the cache of others
        for path, time in times.items():
            os.utime(path, ns=(time, time))
    assert len(list(copied.cache.iterdir())) == 2


def test_every_learnt_parameter_has_one_group_and_its_rate(tiny_model):
    model = copy.deepcopy(tiny_model)
    config = TrainConfig()
    set_stage(model, 1)
    groups = parameter_groups(model, config)
    names = {id(p): name for name, p in model.learned_parameters()}
    seen = [names[id(p)] for group in groups for p in group["params"]]
    assert sorted(seen) == sorted(names.values())
    rates = {names[id(p)]: group["lr"] for group in groups for p in group["params"]}
    assert rates["prompts.context"] == 1e-3
    assert rates["specific_flow.u.weight"] == rates["agnostic_flow.normal.vector"] == 1e-3
    assert rates["log_scale_pixel"] == rates["log_scale_image"] == 1e-2
    assert rates["attention.query.weight"] == rates["specific_flow.base.mean.0.weight"] == 1e-4


def test_learning_rate_warms_up_then_falls_to_zero(tiny_model, config, tmp_path, tree):
    from lightning_fabric import Fabric

    samples = read_source(tree)
    fabric = Fabric(accelerator="cpu", devices=1)
    trainer = Trainer(tiny_model, config, samples, samples, tmp_path / "run", fabric)
    factor = trainer._schedule(StageConfig(epochs=50, patience=1))  # of two steps
    rates = [factor(step) for step in range(101)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert max(rates) == 1 and rates[100] == pytest.approx(0, abs=1e-3)
    assert all(a >= b for a, b in zip(rates[10:], rates[11:], strict=False))


def test_held_out_categories_are_not_trained_on(tree):
    kept, held = hold_out(read_source(tree), 0.25, seed=0)
    assert {s.category for s in kept} & {s.category for s in held} == set()
    assert len({s.category for s in held}) == 1
    assert len(kept) + len(held) == len(read_source(tree))


def test_authors_validation_takes_five_categories_of_the_other_set(request_for, config, tree):
    request = request_for(config=replace(config, validation="authors"))
    with pytest.raises(DataError, match="needs --validation-data"):
        training_data(request)
    samples, validation = training_data(replace(request, validation_data=tree))
    assert len(samples) == len(read_source(tree))
    assert len({s.category for s in validation}) == min(5, len({s.category for s in samples}))


def test_refusals_come_before_any_work(request_for, finished, tree, tmp_path):
    with pytest.raises(DataError, match="two at least are needed"):
        run_training(request_for(data=next(p for p in tree.iterdir() if p.is_dir())))
    good_only = tmp_path / "good-only"
    write_mvtec_tree(good_only, _known(CATEGORIES)[:2], normals=1, anomalies=0, size=64)
    with pytest.raises(DataError, match="no anomalous image with a mask"):
        run_training(request_for(data=good_only))
    with pytest.raises(ConfigError, match="add --resume"):
        run_training(finished[0])
    with pytest.raises(CheckpointError, match="no state to resume from"):
        run_training(request_for("nothing-there", resume=True))
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written"):
        run_training(request_for("file/run"))


def test_bfloat16_autocast_trains(request_for, config, monkeypatch, caplog):
    monkeypatch.setattr(precision, "computes_natively", lambda dtype: False)
    precision.warn_if_slow.cache_clear()
    request = request_for(config=replace(config, precision="bf16-mixed"))
    assert run_training(request).history[-1]["stage"] == 2
    assert "bfloat16 is slow here" in caplog.text
    precision.warn_if_slow.cache_clear()


def test_a_card_can_be_trained_on_and_validated_on(request_for, tree, tmp_path):
    card = tmp_path / "mine.yaml"
    card.write_text("name: mine\nlayouts: [mvtec]\n")
    plain = training_data(request_for())
    by_card = training_data(request_for(dataset=str(card)))
    paths = [[sorted(sample.path for sample in part) for part in both] for both in (plain, by_card)]
    assert paths[0] == paths[1]
    samples, validation = training_data(request_for(validation_dataset=str(card)))
    assert len(samples) == len(validation) == len(read_source(tree))


def test_text_checkpointing_gives_the_same_losses(request_for, config, finished):
    plain = finished[1].history
    saving = replace(config, text_checkpointing=True)
    again = run_training(request_for("saving", config=saving)).history
    for one, other in zip(plain, again, strict=True):
        assert other["loss_total"] == pytest.approx(one["loss_total"], rel=1e-5)


def test_colours_span_the_validation_maps(finished):
    low, high = load_checkpoint(finished[0].out, device="cpu").config.scoring.map_range
    assert 0 <= low < high <= 1 and (low, high) != (0, 1)
