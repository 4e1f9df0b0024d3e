"""Training in parts: micro-batches and processes give what one whole batch gives."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import pickle
import re
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from bayes_pfl.checkpoints.load import load_checkpoint
from bayes_pfl.config import BackboneConfig, StageConfig, TrainConfig
from bayes_pfl.errors import ConfigError, DataError
from bayes_pfl.model.losses import PixelSums, dice_loss, focal_loss, pixel_sums
from bayes_pfl.rendering import TRAIN_CATEGORIES, write_mvtec_tree
from bayes_pfl.support.typed_json import from_dict
from bayes_pfl.train.batches import TrainingBatches
from bayes_pfl.train.devices import count_processes
from bayes_pfl.train.feature_cache import FeatureCache
from bayes_pfl.train.run import TrainingRequest, run_training, training_data
from bayes_pfl.train.spawning import spawn
from tests.helpers import spawned
from tests.helpers.paths import ROOT

# A constant added to all patches' weights does not change their softmax: its gradient is nothing
# but rounding, which Adam makes steps of.
WITHOUT_EFFECT = "alignment.fusion.weigh.bias"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    out = tmp_path_factory.mktemp("aux")
    return write_mvtec_tree(out, TRAIN_CATEGORIES[:3], normals=2, anomalies=3, size=64)


@pytest.fixture
def request_for(tree, clip_dir, tmp_path):
    """A request of two epochs of stage 1 and one of stage 2, of three steps each."""
    config = TrainConfig(
        stage1=StageConfig(epochs=2, patience=2),
        stage2=StageConfig(epochs=1, patience=1),
        batch_size=8,
        steps_per_epoch=3,
        validation_samples=1,
        held_out=0.3,
        cache_views=1,
    )

    def make(out, devices=1, cache=None, **changes):
        return TrainingRequest(
            tree,
            tmp_path / out,
            BackboneConfig(f"local-dir:{clip_dir}"),
            replace(config, **changes),
            accelerator="cpu",
            devices=devices,
            cache=cache,
        )

    return make


class Steps:
    """Progress that keeps the losses of every step; it may stop the run after some."""

    def __init__(self, stop=None):
        self.losses, self.titles, self.stop = [], [], stop

    def start(self, title, steps):
        self.titles.append(title)

    def advance(self, done, values):
        if values:
            self.losses.append(values)
            if len(self.losses) == self.stop:
                raise KeyboardInterrupt


def trained(request):
    steps = Steps()
    state = run_training(request, steps)
    return steps.losses, load_checkpoint(request.out, device="cpu").learned_state_dict(), state


def assert_same_training(found, expected):
    """To rounding in float32: processors add up in orders of their own, and the optimizer makes
    much of gradients near zero. A loss counted wrongly is off by a thousandth or more at once."""
    losses, weights, state = found
    expected_losses, expected_weights, expected_state = expected
    assert len(losses) == len(expected_losses) == 9
    for step, (one, other) in enumerate(zip(losses, expected_losses, strict=True)):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-5), step
    for name in expected_weights.keys() - {WITHOUT_EFFECT}:
        difference = (weights[name] - expected_weights[name]).abs().max()
        assert difference <= 1e-4, (name, difference)
    for row, other in zip(state.history, expected_state.history, strict=True):
        assert row["validation_ap"] == pytest.approx(other["validation_ap"], abs=1e-4)
    assert state.map_range == pytest.approx(expected_state.map_range, abs=1e-4)


def test_two_processes_equal_one_and_fill_its_cache(request_for, tmp_path, monkeypatch, forked):
    cache = tmp_path / "cache"
    two = trained(request_for("two", devices=2, cache=cache))
    monkeypatch.setattr(FeatureCache, "write", lambda *_: pytest.fail("encoded again"))
    one = trained(request_for("one", cache=cache))  # reading verifies every checksum
    assert_same_training(two, one)
    settings = json.loads((tmp_path / "two" / "config.json").read_text())
    assert settings["processes"] == 2
    rows = list(csv.DictReader((tmp_path / "two" / "metrics.csv").open()))
    assert [row["stage"] for row in rows] == ["1", "1", "2"]
    assert load_checkpoint(tmp_path / "two").config.scoring.map_range == two[2].map_range


@pytest.mark.parametrize("every_pair", [False, True])
def test_micro_batches_equal_the_whole_batch(request_for, every_pair):
    parts = request_for("parts", accumulate=4, every_pair=every_pair)
    whole = request_for("whole", every_pair=every_pair)
    assert_same_training(trained(parts), trained(whole))


@pytest.mark.slow
def test_micro_batches_of_two_processes_equal_the_whole_batch(request_for):
    parts = request_for("parts", devices=2, accumulate=2)
    assert_same_training(trained(parts), trained(request_for("whole")))


@pytest.mark.slow
@pytest.mark.parametrize("step", [5, 8])
def test_two_processes_resume_as_if_not_stopped(request_for, step):
    whole, broken = (request_for(name, devices=2) for name in ("whole", "broken"))
    _, expected, _ = trained(whole)
    with pytest.raises(KeyboardInterrupt):
        run_training(broken, Steps(stop=step))
    assert not multiprocessing.active_children()
    _, found, _ = trained(replace(broken, resume=True))
    for name in expected.keys() - {WITHOUT_EFFECT}:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-6, msg=name)


def test_first_process_tells_progress_and_result():
    steps = Steps()
    assert spawn(2, spawned.count_to, (3,), steps) == (0, "2", "2")
    assert steps.titles == ["process 0"] and steps.losses == [{"total": 0}] * 3


def test_error_of_one_process_ends_all(forked):
    with pytest.raises(DataError, match=r"^part.png: torn$"):
        spawn(2, spawned.fail_in_second, (0,), Steps())
    assert not multiprocessing.active_children()


def test_killed_process_ends_all_with_advice(forked):
    with pytest.raises(ConfigError, match="process 2 was killed by SIGKILL.*--resume"):
        spawn(2, spawned.killed_in_second, (0,), Steps())
    assert not multiprocessing.active_children()


def test_interrupted_run_leaves_no_process(forked):
    class Impatient(Steps):
        def start(self, title, steps):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        spawn(2, spawned.wait, (0,), Impatient())
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_image_that_one_process_cannot_read_is_named(request_for):
    request = request_for("broken", devices=2)
    image = _first_of_second_process(request)
    content = image.read_bytes()
    image.write_bytes(content[:100])
    try:
        with pytest.raises(DataError, match=re.escape(image.name)):
            run_training(request)
    finally:
        image.write_bytes(content)
    assert not multiprocessing.active_children()


def _first_of_second_process(request):
    """The image that the second process alone reads in the first step."""
    samples, _ = training_data(request)
    batches = object.__new__(TrainingBatches)
    batches.config = request.config
    batches.share = batches.micro = request.config.batch_size // 2
    batches.dataset, batches.fabric = samples, SimpleNamespace(global_rank=1)
    return samples[batches._order(1, 0)[0][0]].path


TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def _torchrun(request, **environment):
    options = {
        "data": request.data,
        "out": request.out,
        "backbone": request.backbone.name,
        "accelerator": "cpu",
        "batch-size": 8,
        "steps-per-epoch": 2,
        "epochs": 1,
        "epochs2": 1,
        "held-out": 0.3,
    }
    tool = ROOT / "tools" / "train.py"
    arguments = [str(x) for name, value in options.items() for x in (f"--{name}", value)]
    return subprocess.run(
        [*TORCHRUN, str(tool), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
    )


@pytest.mark.slow
def test_torchrun_starts_the_processes(request_for):
    request = request_for("run")
    result = _torchrun(request)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("best checkpoint") == 1
    assert json.loads((request.out / "config.json").read_text())["processes"] == 2


@pytest.mark.slow
def test_torchrun_takes_the_steps_of_one_process(request_for, tmp_path):
    two, found = request_for("two"), tmp_path / "losses.json"
    script = ROOT / "tests" / "helpers" / "torchrun_training.py"
    (tmp_path / "request.pickle").write_bytes(pickle.dumps(two))
    result = subprocess.run(
        [*TORCHRUN, str(script), str(tmp_path / "request.pickle"), str(found)],
        capture_output=True,
        text=True,
        timeout=180,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr
    answer = json.loads(found.read_text())
    assert answer["processes"] == 2
    weights = load_checkpoint(two.out, device="cpu").learned_state_dict()
    state = SimpleNamespace(history=answer["history"], map_range=tuple(answer["map_range"]))
    assert_same_training((answer["losses"], weights, state), trained(request_for("one")))


@pytest.mark.slow
def test_torchrun_tells_an_error_once(request_for):
    request = request_for("run")
    image = _first_of_second_process(request)
    content = image.read_bytes()
    image.write_bytes(content[:100])
    try:
        result = _torchrun(request)
    finally:
        image.write_bytes(content)
    assert result.returncode != 0
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and image.name in lines[0]


def test_what_cannot_be_shared_out_is_refused(monkeypatch):
    assert count_processes("cpu", 2, batch_size=8, accumulate=4) == 2
    with pytest.raises(ConfigError, match="devices = 0: give 1"):
        count_processes("cpu", 0, batch_size=8, accumulate=1)
    with pytest.raises(ConfigError, match="devices x accumulate = 3 x 2; change --batch"):
        count_processes("cpu", 3, batch_size=8, accumulate=2)
    with pytest.raises(ConfigError, match="'tpu9' is not known; give one of auto"):
        count_processes("tpu9", 1, batch_size=8, accumulate=1)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match="cuda has 1 here; give 1 at most, or --accel"):
        count_processes("cuda", 2, batch_size=8, accumulate=1)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ConfigError, match="cuda has 0 here; use --accelerator cpu"):
        count_processes("cuda", 1, batch_size=8, accumulate=1)


def test_torchrun_decides_how_many_processes_there_are(monkeypatch):
    names = {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "4"}
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    assert count_processes("cpu", 1, batch_size=8, accumulate=1) == 4
    with pytest.raises(ConfigError, match="torchrun started 2 processes here"):
        count_processes("cpu", 3, batch_size=8, accumulate=1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"accumulate": 0}, "accumulate = 0: must be at least 1"),
        ({"batch_size": 0}, "batch_size = 0: must be at least 1"),
        ({"batch_size": 8, "accumulate": 3}, "accumulate = 3: must divide batch_size = 8"),
    ],
)
def test_settings_of_a_batch_are_checked_by_the_config(changes, words):
    with pytest.raises(ConfigError, match=words):
        from_dict(TrainConfig, changes)


@pytest.mark.parametrize("foreground", [0, 1, 2])  # how many of the three parts have some
def test_shares_of_the_map_losses_add_up_with_their_gradients(foreground):
    generator = torch.Generator().manual_seed(foreground)
    p = torch.rand(6, 5, 5, generator=generator, dtype=torch.float64) * 0.98 + 0.01
    mask = (torch.rand(p.shape, generator=generator) > 0.7).double()
    mask[2 * foreground :] = 0
    whole, parts = p.clone().requires_grad_(), p.clone().requires_grad_()
    expected = focal_loss(whole, mask) + 3 * _dice(whole, mask)
    expected.backward()
    sums = PixelSums(*pixel_sums(p, mask))
    shares = [
        focal_loss(x, y, whole=sums) + 3 * dice_loss(x, y, sums, parts=3)
        for x, y in zip(parts.chunk(3), mask.chunk(3), strict=True)
    ]
    torch.stack(shares).sum().backward()
    torch.testing.assert_close(torch.stack(shares).sum(), expected)
    torch.testing.assert_close(parts.grad, whole.grad)


def test_pixels_are_counted_exactly_with_a_half_precision_mask():
    mask = torch.ones(1001, dtype=torch.bfloat16)
    assert PixelSums(*pixel_sums(torch.zeros(1001), mask)).foreground == 1001


def _dice(p, mask):
    return 1 - (2 * (p * mask).sum() + 1e-5) / (p.sum() + mask.sum() + 1e-5)


def test_gradient_of_dice_is_that_of_its_formula():
    p = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mask = (p > 0.6).double()
    one, other = p.clone().requires_grad_(), p.clone().requires_grad_()
    dice_loss(one, mask).backward()
    _dice(other, mask).backward()
    torch.testing.assert_close(one.grad, other.grad)
