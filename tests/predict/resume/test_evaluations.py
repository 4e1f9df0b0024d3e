"""A stopped evaluation goes on, and refuses what has changed."""

from __future__ import annotations

import errno
import json
import os
import shutil

import pytest

from bayes_pfl.errors import ConfigError, DataError
from bayes_pfl.evaluate.datasets import read_trees
from bayes_pfl.evaluate.request import EvaluationRequest
from bayes_pfl.evaluate.run import run_benchmark
from bayes_pfl.evaluate.scoring import EvaluationSettings
from bayes_pfl.support.files import write_atomically
from tests.helpers.killing import files_of
from tests.helpers.layout_trees import BUILDERS, Painter
from tests.predict.resume.stops import Stop, other_weights


@pytest.fixture
def evaluate(tiny_model, tmp_path):
    """An evaluation of a small tree, with what happens after each batch."""
    BUILDERS["mvtec"](Painter(tmp_path / "data"))

    def run(then=None, **changes):
        out = tmp_path / "out"
        settings = EvaluationSettings(batch_size=1, skip_unreadable=True)
        request = EvaluationRequest(
            **{
                "checkpoints": ("tiny",),
                "data": tuple(read_trees([tmp_path / "data"])),
                "out": out,
                "settings": settings,
                "cache": out / "cache",
                **changes,
            }
        )
        return run_benchmark(request, then, load=lambda _: tiny_model)

    return run


def results_of(out):
    return files_of(out, "cache", "evaluation.journal.jsonl", "environment.json")


def test_an_evaluation_goes_on_after_any_image(evaluate, counted, tmp_path, monkeypatch):
    evaluate()
    expected = results_of(tmp_path / "out")
    total = sum(counted)
    for stop in (1, 3, 4):  # at first, between the categories, within the second
        shutil.rmtree(tmp_path / "out")
        with monkeypatch.context() as patch:  # as after a kill: nothing is written at the end
            patch.setattr("bayes_pfl.evaluate.cache.DatasetCache.keep", lambda *_, **__: None)
            with pytest.raises(KeyboardInterrupt):
                evaluate(Stop(stop))
        counted.clear()
        evaluate(resume=True)
        assert sum(counted) == total - stop
        assert results_of(tmp_path / "out") == expected


def test_a_resumed_evaluation_refuses_what_has_changed(evaluate, tiny_model, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        evaluate(Stop(2))
    with pytest.raises(ConfigError, match=r"seeds = \[1\], but it was begun with \[0\].*--resume"):
        evaluate(resume=True, seeds=(1,))
    with pytest.raises(ConfigError, match="leave --no-cache out"):
        evaluate(resume=True, cache=None)
    with other_weights(tiny_model), pytest.raises(ConfigError, match="tiny has other weights"):
        evaluate(resume=True)
    first = read_trees([tmp_path / "data"])[0].samples[0].path
    os.utime(first, ns=(1, 1))
    with pytest.raises(
        DataError, match=f"{first.name}: has changed or is gone since it was scored"
    ):
        evaluate(resume=True)
    evaluate()  # without it, the category is scored again
    assert json.loads((tmp_path / "out/metrics.json").read_text())["skipped"] == []


def test_a_torn_batch_costs_itself_alone(evaluate, counted, tmp_path, monkeypatch):
    evaluate()
    expected, total = results_of(tmp_path / "out"), sum(counted)
    shutil.rmtree(tmp_path / "out")
    keep = "bayes_pfl.evaluate.cache.DatasetCache.keep"
    with monkeypatch.context() as patch:
        patch.setattr(keep, lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            evaluate(Stop(2))
        torn = next((tmp_path / "out").rglob("*.batches/1.npz"))
        torn.write_bytes(torn.read_bytes()[:-7])
        counted.clear()
        with pytest.raises(KeyboardInterrupt):
            evaluate(Stop(2))
        assert sum(counted) == 1  # one was kept, one is scored again
    counted.clear()
    evaluate(resume=True)
    assert sum(counted) == total - 2 and results_of(tmp_path / "out") == expected


def test_vanished_data_and_full_disks_stop_an_evaluation(evaluate, tmp_path, monkeypatch):
    data, gone = tmp_path / "data", tmp_path / "elsewhere"
    with pytest.raises(DataError, match="has vanished during the run"):
        evaluate(Stop(1, lambda: data.rename(gone)))
    gone.rename(data)

    def full(path, *_, **options):
        if path.parent.suffix == ".batches":
            raise OSError(errno.ENOSPC, "the disk is full")
        return write_atomically(path, *_, **options)

    with monkeypatch.context() as patch:
        patch.setattr("bayes_pfl.evaluate.cache.write_atomically", full)
        with pytest.raises(DataError, match="the disk is full.*make room"):
            evaluate()
    evaluate(resume=True)
    assert json.loads((tmp_path / "out/metrics.json").read_text())["skipped"] == []
