"""Evaluation on several processes: the result of one, to the last count."""

import json
import multiprocessing
import os
import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from bayes_pfl.checkpoints.load import load_checkpoint
from bayes_pfl.errors import DataError
from bayes_pfl.evaluate.datasets import read_trees
from bayes_pfl.evaluate.parallel import (
    Team,
    device_of_process,
    evaluate_together,
    merge_records,
)
from bayes_pfl.evaluate.request import EvaluationRequest
from bayes_pfl.evaluate.run import run_benchmark
from bayes_pfl.evaluate.scoring import EvaluationSettings, evaluate_categories
from bayes_pfl.rendering import TRAIN_CATEGORIES, write_mvtec_tree
from bayes_pfl.report.pictures import FOLDER
from bayes_pfl.support.progress import NullProgress
from bayes_pfl.train.spawning import spawn
from tests.helpers import spawned
from tests.helpers.paths import ROOT

BATCH = 2
SETTINGS = EvaluationSettings(samples=2, batch_size=BATCH, skip_unreadable=True)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """An MVTec tree of three categories with eight images each, one of them torn."""
    out = tmp_path_factory.mktemp("parallel") / "parts"
    root = write_mvtec_tree(out, TRAIN_CATEGORIES[:3], normals=3, anomalies=5, size=64)
    torn = sorted(root.rglob("test/good/*.png"))[1]
    torn.write_bytes(torn.read_bytes()[:60])
    return root


@pytest.fixture(scope="module")
def data(tree):
    return read_trees([tree])[0]


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def shares_of(model, data, count, samples):
    """What each of `count` processes finds in one category."""
    for rank in range(count):
        own = Team(rank, count).share(samples, BATCH)
        (record,) = evaluate_categories(model, own, SETTINGS, None, data.levels)
        yield pickle.loads(pickle.dumps(record))  # as it comes from another process


def assert_same_record(found, expected):
    assert repr(found.rows) == repr(expected.rows)  # NaN of an image without anomalous pixels
    assert found.skipped == expected.skipped
    one, other = found.pixel.state(), expected.pixel.state()
    assert one.keys() == other.keys()
    for name in one.keys() - {"sum_region"}:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    # Shares of regions are fractions: their sum depends on the order in its last bit.
    np.testing.assert_allclose(one["sum_region"], other["sum_region"], rtol=1e-12)


@pytest.mark.parametrize("count", [2, 5])
def test_shares_add_up_to_the_whole(tiny_model, data, count, one_thread):
    samples = [replace(sample, category="all") for sample in data.samples]
    (whole,) = evaluate_categories(tiny_model, samples, SETTINGS, None, data.levels)
    shares = list(shares_of(tiny_model, data, count, samples))
    record = merge_records(shares, samples)
    assert_same_record(record, whole)
    assert len(record.skipped) == 1
    assert_same_figures(record.result("deploy"), whole.result("deploy"))


def test_every_image_is_of_one_process():
    samples = list(range(23))
    shares = [Team(rank, 3).share(samples, 4) for rank in range(3)]
    assert sorted(sum(shares, [])) == samples
    assert shares[0] == [0, 1, 2, 3, 12, 13, 14, 15] and shares[2] == [8, 9, 10, 11, 20, 21, 22]


def test_category_with_a_missing_mask(tiny_model, data, one_thread):
    samples = [replace(sample, category="all") for sample in data.samples[:12]]
    at = next(at for at, sample in enumerate(samples) if sample.mask and at >= 2 * BATCH)
    samples[at] = replace(samples[at], mask=None)
    (whole,) = evaluate_categories(tiny_model, samples, SETTINGS, None, data.levels)
    shares = list(shares_of(tiny_model, data, 2, samples))
    record = merge_records(shares, samples)
    assert repr(record.rows) == repr(whole.rows)
    assert record.result("deploy") == whole.result("deploy")


def test_alone_nothing_is_gathered(tiny_model, data, monkeypatch):
    monkeypatch.setattr(Team, "gather", lambda *_: pytest.fail("gathered"))
    ticks = []
    some = replace(data, samples=data.samples[:3])
    (record,) = evaluate_together(Team(), tiny_model, some, SETTINGS, ticks.append)
    assert len(record.rows) + len(record.skipped) == sum(ticks) == 3


def test_each_process_takes_a_device_of_its_own(monkeypatch):
    assert device_of_process(None) is None
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("LOCAL_RANK", "5")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert [device_of_process(None), device_of_process("cuda"), device_of_process("cpu")] == [
        "cuda:1"
    ] * 2 + ["cpu"]


# Two processes -----------------------------------------------------------------------------------


def request_for(tree, checkpoint_dir, out, **changes):
    data = tuple(read_trees([tree]))
    least = {"settings": SETTINGS, "seeds": (0, 1), "protocols": ("deploy", "authors")}
    return EvaluationRequest((str(checkpoint_dir),), data, out, **least | changes)


def results_in(out):
    files = {}
    for path in sorted(out.rglob("*")):
        inside = path.relative_to(out)
        if path.is_file() and inside.parts[0] != "cache" and "environment" not in path.name:
            files[inside.as_posix()] = path.read_bytes()
    return files


def assert_same_figures(found, expected):
    """Every figure of two metrics.json, to 1e-6."""
    assert type(found) is type(expected) or {type(found), type(expected)} == {int, float}
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_same_figures(found[key], expected[key])
    elif isinstance(expected, list):
        for pair in zip(found, expected, strict=True):
            assert_same_figures(*pair)
    else:
        assert found == (pytest.approx(expected, abs=1e-6) if expected == expected else found)


def figures_of(reports):
    """The figures of the first category, by the name of the checkpoint."""
    return {
        name: report["datasets"]["parts"]["categories"][TRAIN_CATEGORIES[0]]
        for name, report in reports["deploy"].items()
    }


def test_two_processes_write_what_one_does(
    tree, data, checkpoint_dir, tmp_path, one_thread, forked
):
    model = load_checkpoint(checkpoint_dir, device="cpu")
    one, two, again = (tmp_path / name for name in ("one", "two", "again"))
    plain = request_for(tree, checkpoint_dir, one, cache=None, report=True)
    expected = run_benchmark(plain, load=lambda _: model)
    whole = replace(plain, out=two, cache=tmp_path / "cache")
    # A curve takes seconds to draw: the second evaluation draws that of one category.
    some = (data.only(TRAIN_CATEGORIES[:1]),)
    part = replace(whole, out=again, data=some, protocols=("deploy",), curves=True)
    found, of_part = spawn(2, spawned.evaluate_with, (model, [whole, part]), NullProgress())
    assert not multiprocessing.active_children()
    assert_same_figures(found, expected.reports)
    assert len(expected.skipped) == 1
    alone, files = results_in(one), results_in(two)
    pictures = [name for name in alone if name.startswith(FOLDER) and name.endswith(".webp")]
    assert len(pictures) == len(data.samples) - 1
    assert alone.keys() <= files.keys()
    for name in ("images.csv", *pictures):
        assert files[name] == alone[name]
    places = sorted(path.name for path in (tmp_path / "cache").iterdir())
    assert places == ["process-0-of-2", "process-1-of-2"]
    assert figures_of(of_part) == figures_of(found)  # read from the caches of the two
    assert [path.stem for path in again.glob("curves/parts/*")] == list(TRAIN_CATEGORIES[:1])


def test_two_processes_have_the_references_of_one(checkpoint_dir, tmp_path, one_thread, forked):
    numbers = {"normals": 3, "anomalies": 5, "train_normals": 3, "size": 64}
    root = write_mvtec_tree(tmp_path / "parts", TRAIN_CATEGORIES[:2], **numbers)
    model = load_checkpoint(checkpoint_dir, device="cpu")
    asked = {"protocols": ("deploy",), "shots": (0, 2), "mutual": True}
    plain = request_for(root, checkpoint_dir, tmp_path / "one", **asked)
    expected = run_benchmark(plain, load=lambda _: model)
    whole = replace(plain, out=tmp_path / "two", cache=tmp_path / "cache")
    (found,) = spawn(2, spawned.evaluate_with, (model, [whole]), NullProgress())
    assert len(found["deploy"]) == 3
    assert_same_figures(found, expected.reports)
    alone, files = results_in(tmp_path / "one"), results_in(tmp_path / "two")
    images = [name for name in alone if name.endswith("images.csv")]
    assert len(images) == 3 and all(files[name] == alone[name] for name in images)


def _torchrun(*arguments):
    tool = ROOT / "tools" / "evaluate.py"
    start = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(tool))
    return subprocess.run(
        [sys.executable, *start, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=180,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


@pytest.mark.slow
def test_torchrun_starts_the_processes(tree, checkpoint_dir, tmp_path, run):
    rest = ["--data", tree, "--checkpoint", checkpoint_dir, "--device", "cpu", "--seed", 3]
    result = _torchrun(*rest, "--out", tmp_path / "two")
    assert result.returncode == 1, result.stderr  # one image is torn, as the first process says
    assert result.stdout.count("written to") == 1 and result.stdout.count("1 skipped") == 1
    code, _, _ = run("evaluate", *rest, "--out", tmp_path / "one")
    assert code == 1
    one, two = (
        json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two")
    )
    assert_same_figures(two, one)


@pytest.mark.slow
def test_torchrun_tells_an_error_once(tree, checkpoint_dir, tmp_path):
    (tmp_path / "out").write_text("a file")
    result = _torchrun("--data", tree, "--checkpoint", checkpoint_dir, "--out", tmp_path / "out")
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.returncode not in (0, None) and len(lines) == 1, result.stderr


@pytest.mark.slow
def test_error_of_one_process_is_told_by_all(tree, checkpoint_dir, tmp_path):
    model = load_checkpoint(checkpoint_dir, device="cpu")
    strict = replace(SETTINGS, skip_unreadable=False)
    request = request_for(tree, checkpoint_dir, tmp_path / "out", settings=strict)
    with pytest.raises(DataError, match="damaged or cut short"):
        spawn(2, spawned.evaluate_with, (model, [request]), NullProgress())
    assert not multiprocessing.active_children()
