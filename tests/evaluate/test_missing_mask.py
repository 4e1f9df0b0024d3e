"""A missing mask costs one image: of the pixel figures alone, whatever the batch size."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from bayes_pfl.data.sources import read_mvtec
from bayes_pfl.evaluate.cache import DatasetCache
from bayes_pfl.evaluate.datasets import read_trees
from bayes_pfl.evaluate.scoring import EvaluationSettings, evaluate, evaluate_categories
from bayes_pfl.rendering import TRAIN_CATEGORIES, write_mvtec_tree
from bayes_pfl.scoreboard.board import BoardSettings, score_sets
from bayes_pfl.scoreboard.resampling import BootstrapSettings


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """One category with 4 normal and 6 anomalous images; one mask is gone."""
    out = tmp_path_factory.mktemp("sets") / "parts"
    root = write_mvtec_tree(out, TRAIN_CATEGORIES[:1], normals=4, anomalies=6, size=96)
    sorted(root.rglob("ground_truth/*/*.png"))[2].unlink()
    return root


@pytest.fixture(scope="module")
def samples(tree):
    return read_mvtec(tree)


def only(records):
    (record,) = records.values() if isinstance(records, dict) else records
    return record


def test_it_costs_one_image_of_the_pixel_figures_and_nothing_else(tiny_model, samples):
    record = only(evaluate(tiny_model, samples))
    (lost,) = [s for s in samples if s.label and s.mask is None]
    rest = only(evaluate(tiny_model, [s for s in samples if s is not lost]))
    found, expected = record.result("authors"), rest.result("authors")
    for key in ("auroc", "aupro", "ap", "f1_max", "iou", "aupro_authors"):
        assert found["pixel"][key] == pytest.approx(expected["pixel"][key], abs=1e-4)
    assert record.unmasked == [str(lost.path)] and found["n_anomalous"] == 6
    whole = [replace(s, mask=samples[-1].mask) if s is lost else s for s in samples]
    with_mask = only(evaluate(tiny_model, whole)).result("authors")
    assert found["image"] == with_mask["image"]


@pytest.mark.parametrize("size", [1, 3, 8])
def test_it_does_not_depend_on_the_batch(tiny_model, samples, size):
    one, other = (
        only(evaluate(tiny_model, samples, EvaluationSettings(batch_size=n))) for n in (10, size)
    )
    for row, expected in zip(one.rows, other.rows, strict=True):
        assert row.pixel_ap == pytest.approx(expected.pixel_ap, abs=1e-4, nan_ok=True)
        assert math.isnan(row.pixel_ap) or row.has_mask
    assert sum(not math.isnan(row.pixel_ap) for row in one.rows) >= 4
    assert one.pixel.images == other.pixel.images == len(samples) - 1


def test_it_comes_back_from_the_cache(tiny_model, samples, tmp_path):
    settings = EvaluationSettings(batch_size=1)
    cache = DatasetCache(tmp_path, "key", "set")
    first, again = (
        only(list(evaluate_categories(tiny_model, samples, settings, cache=cache)))
        for _ in range(2)
    )
    assert repr(first.rows) == repr(again.rows) and first.unmasked == again.unmasked
    assert first.result("authors") == again.result("authors")
    state = first.pixel.state(), again.pixel.state()
    assert all(np.array_equal(state[0][name], state[1][name]) for name in state[0])


def test_it_is_named_with_the_reason(tree, checkpoint_dir, tmp_path, run):
    code, said, error = run(
        *("evaluate", "--data", tree, "--checkpoint", checkpoint_dir, "--out", tmp_path),
        *("--protocol", "both", "--no-report"),
    )
    assert code == 0, error
    lost = next(s for s in read_mvtec(tree) if s.label and s.mask is None)
    reason = "anomalous without a mask, so left out of pixel figures"
    assert f"{reason.capitalize()}: {lost.path}." in said
    for name in ("metrics.json", "metrics_authors.json"):
        report = json.loads((tmp_path / name).read_text())
        (item,) = report["unmasked"]
        assert item == {
            "dataset": "parts",
            "category": lost.category,
            "path": str(lost.path),
            "reason": reason,
        }
        assert report["skipped"] == []
        assert report["datasets"]["parts"]["mean"]["pixel"]["aupro"] is not None


def test_it_costs_the_scoreboard_one_image_too(tiny_model, tree):
    settings = BoardSettings(samples=(0,), bootstrap=BootstrapSettings(resamples=5))
    (data,) = read_trees([tree])
    rest = tuple(s for s in data.samples if s.mask or not s.label)
    boards = [
        score_sets(["a"], [replace(data, samples=chosen)], settings, load=lambda _: tiny_model)
        for chosen in (data.samples, rest)
    ]
    found, expected = (board.set_figures("parts") for board in boards)
    for method, figures in found.items():
        for key, figure in figures["pixel"].items():
            assert figure.value == pytest.approx(expected[method]["pixel"][key].value, abs=1e-6)
            assert len(figure.replicates) == 5 or figure.value is None
