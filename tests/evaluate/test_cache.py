"""A stopped evaluation resumes where it was, and never with results of other settings."""

import os
from dataclasses import asdict

import numpy as np
import pytest

from bayes_pfl.checkpoints.fingerprint import fingerprint
from bayes_pfl.data.sources import read_mvtec
from bayes_pfl.errors import DataError
from bayes_pfl.evaluate.cache import DatasetCache, cache_key
from bayes_pfl.evaluate.records import dataset_result
from bayes_pfl.evaluate.scoring import EvaluationSettings, evaluate, evaluate_categories
from tests.helpers.layout_trees import BUILDERS, Painter


@pytest.fixture
def samples(tmp_path):
    BUILDERS["mvtec"](Painter(tmp_path / "data"))
    return read_mvtec(tmp_path / "data")


@pytest.fixture
def counted(tiny_model, monkeypatch):
    """`tiny_model` with a list of how many images each of its batches had."""
    sizes = []
    score = type(tiny_model).score_encoded

    def counting(self, features, names, *rest):
        sizes.append(len(names))
        return score(self, features, names, *rest)

    monkeypatch.setattr(type(tiny_model), "score_encoded", counting)
    return tiny_model, sizes


def run(model, samples, cache, **settings):
    """Every record by category, through the cache."""
    chosen = EvaluationSettings(**{"batch_size": 1, **settings})
    records = evaluate_categories(model, samples, chosen, cache=cache)
    return {record.category: record for record in records}


def test_a_run_stopped_anywhere_resumes_after_the_last_image(
    counted, samples, tmp_path, monkeypatch
):
    model, sizes = counted
    expected = dataset_result(evaluate(model, samples), "authors")
    cache = DatasetCache(tmp_path / "cache", "key", "set")
    for stop in (1, 4):
        sizes.clear()
        told = []

        def stop_now(done, stop=stop, told=told):
            told.append(done)
            if len(told) == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            list(evaluate_categories(model, samples, EvaluationSettings(batch_size=1), stop_now,
                                     cache=cache))  # fmt: skip
    done_before = 1 + sum(sizes)
    sizes.clear()
    records = run(model, samples, cache)
    assert sum(sizes) == len(samples) - done_before
    result = dataset_result(records, "authors")
    for name, entry in expected["categories"].items():
        got = result["categories"][name]
        for level in ("image", "pixel"):
            for key in ("auroc", "ap", "f1_max"):
                assert got[level][key] == pytest.approx(entry[level][key], abs=1e-4)
    sizes.clear()
    again = dataset_result(run(model, samples, cache), "authors")
    assert sizes == []
    assert again == result


def test_the_rows_come_back_as_they_were(tiny_model, samples, tmp_path):
    cache = DatasetCache(tmp_path, "key", "a/b")
    first, second = run(tiny_model, samples, cache), run(tiny_model, samples, cache)
    for name, record in first.items():
        for row, again in zip(record.rows, second[name].rows, strict=True):
            assert asdict(row) == pytest.approx(asdict(again), nan_ok=True)
        curves = record.pixel.curves(50), second[name].pixel.curves(50)
        assert np.array_equal(curves[0]["pro"], curves[1]["pro"])
    assert len(list(tmp_path.rglob("*.npz"))) == 2


def test_a_batch_that_was_not_counted_whole_is_not_kept(counted, samples, tmp_path, monkeypatch):
    model, sizes = counted
    cache = DatasetCache(tmp_path, "key", "set", seconds=0)
    calls = []

    def failing(anomaly_map, mask):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return 0.5

    monkeypatch.setattr("bayes_pfl.evaluate.scoring.image_pixel_ap", failing)
    with pytest.raises(KeyboardInterrupt):
        run(model, samples, cache)
    sizes.clear()
    monkeypatch.undo()
    records = run(model, samples, cache)
    expected = evaluate(model, samples)
    for name, record in records.items():
        assert record.pixel.images == len(record.rows) == len(expected[name].rows)


def test_other_settings_and_weights_have_other_keys(tiny_model):
    key = cache_key(tiny_model, "f", EvaluationSettings())
    assert key == cache_key(tiny_model, "f", EvaluationSettings(batch_size=3, workers=2))
    assert key == cache_key(tiny_model, "f", EvaluationSettings(samples=3))  # the checkpoint's own
    for other in (
        EvaluationSettings(samples=4),
        EvaluationSettings(seed=1),
        EvaluationSettings(precision="bfloat16"),
    ):
        assert cache_key(tiny_model, "f", other) != key
    assert cache_key(tiny_model, "g", EvaluationSettings()) != key


def test_the_fingerprint_is_of_every_weight(tiny_model):
    before = fingerprint(tiny_model)
    assert before == fingerprint(tiny_model)
    for name in ("log_scale_image", "backbone"):
        module = dict(tiny_model.named_parameters())
        weight = next(value for key, value in module.items() if key.startswith(name))
        kept = weight.data.clone()
        weight.data.add_(1e-3)
        assert fingerprint(tiny_model) != before
        weight.data.copy_(kept)
    assert fingerprint(tiny_model) == before


def test_new_images_are_added_and_changed_ones_score_the_category_again(
    counted, samples, tmp_path, caplog
):
    model, sizes = counted
    cache = DatasetCache(tmp_path / "cache", "key", "set")
    run(model, samples[1:], cache)
    sizes.clear()
    run(model, samples, cache)
    assert sum(sizes) == 1
    category = [s for s in samples if s.category == samples[0].category]
    os.utime(samples[0].path, ns=(1, 1))
    sizes.clear()
    run(model, samples, cache)
    assert sum(sizes) == len(category)
    assert "changed; scoring again" in caplog.text
    sizes.clear()
    run(model, samples[1:], cache)  # an image that was counted is gone
    assert sum(sizes) == len(category) - 1


def test_images_that_were_skipped_are_tried_again(counted, samples, tmp_path):
    model, sizes = counted
    whole = samples[0].path.read_bytes()
    samples[0].path.write_bytes(whole[:50])
    cache = DatasetCache(tmp_path / "cache", "key", "set")
    name = samples[0].category
    assert len(run(model, samples, cache, skip_unreadable=True)[name].skipped) == 1
    samples[0].path.write_bytes(whole)
    sizes.clear()
    records = run(model, samples, cache, skip_unreadable=True)
    assert sum(sizes) == 1 and not records[name].skipped
    samples[0].path.write_bytes(whole[:50])
    with pytest.raises(DataError):
        run(model, samples, cache)


@pytest.mark.parametrize("damage", [b"", b"no zip", None])
def test_a_damaged_file_is_scored_again_with_a_warning(counted, samples, tmp_path, caplog, damage):
    model, sizes = counted
    cache = DatasetCache(tmp_path / "cache", "key", "set")
    run(model, samples, cache)
    file = next((tmp_path / "cache").rglob("*.npz"))
    file.write_bytes(file.read_bytes()[:-40] if damage is None else damage)
    sizes.clear()
    run(model, samples, cache)
    assert sum(sizes) == 3
    assert "scoring again" in caplog.text


def test_results_for_other_levels_are_not_taken(counted, samples, tmp_path):
    model, sizes = counted
    cache = DatasetCache(tmp_path, "key", "set")
    run(model, samples, cache)
    sizes.clear()
    list(evaluate_categories(model, samples, EvaluationSettings(), levels=("image",), cache=cache))
    assert sum(sizes) == len(samples)


def test_a_cache_that_cannot_be_written_is_a_warning(tiny_model, samples, tmp_path, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("")
    records = run(tiny_model, samples, DatasetCache(blocked, "key", "set"))
    assert len(records) == 2
    assert "not written" in caplog.text
