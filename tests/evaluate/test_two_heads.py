"""No head is scored on what it learnt from: marks, means, and the words that say so."""

import copy
import csv
import json
from dataclasses import replace

import pytest

from bayes_pfl.config import TrainingRecord
from bayes_pfl.evaluate.datasets import read_trees
from bayes_pfl.evaluate.request import EvaluationRequest
from bayes_pfl.evaluate.run import run_benchmark
from tests.helpers.layout_trees import BUILDERS, Painter

REASON = "the checkpoint was trained on these images"


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """Two sets of the same two categories, "a" and "b"."""
    root = tmp_path_factory.mktemp("sets")
    for number, name in enumerate("ab"):
        paint = Painter(root / name)
        paint.number = 50 * number
        BUILDERS["mvtec"](paint)
    return [root / "a", root / "b"]


@pytest.fixture
def head(tiny_model):
    """Makes the model one that was trained and validated on these categories."""

    def make(*trained, validated=()):
        model = copy.copy(tiny_model)
        record = TrainingRecord("test", trained, validated)
        model.config = replace(tiny_model.config, training=record)
        return model

    return make


def evaluated(heads, trees, out, **changes):
    """metrics.json by the name of the head."""
    request = EvaluationRequest(tuple(heads), tuple(read_trees(trees)), out, **changes)
    return run_benchmark(request, load=heads.__getitem__)


def entries(report):
    return {
        f"{dataset}/{category}": entry
        for dataset, result in report["datasets"].items()
        for category, entry in result["categories"].items()
    }


def test_what_was_trained_on_is_marked_and_left_out_of_means(head, trees, tmp_path):
    heads = {"one": head("a/bottle")}
    outcome = evaluated(heads, trees, tmp_path)
    report = outcome.reports["deploy"]["one"]
    marked = [name for name, entry in entries(report).items() if entry.get("trained_on")]
    assert marked == ["a/bottle"]
    first, second = report["datasets"].values()
    assert first["categories"]["bottle"]["pixel"]["ap"] is not None  # measured all the same
    assert first["mean"]["pixel"] == {
        key: first["categories"]["metal_nut"]["pixel"][key] for key in first["mean"]["pixel"]
    }
    table = outcome.tables["deploy"]
    assert "| a | bottle† | 1 |" in table and "| a | metal_nut | 1 |" in table
    (note,) = report["notes"]
    assert note.startswith("† one was trained on these categories, left out of means")
    assert note.endswith("(--include-trained counts them): a/bottle.")
    assert table.count(note) == 1 and note in outcome.summaries["deploy"]
    rows = {
        (r["dataset"], r["category"]): r for r in csv.DictReader((tmp_path / "metrics.csv").open())
    }
    assert (
        rows["a", "bottle"]["trained_on"] == "True" and rows["a", "metal_nut"]["trained_on"] == ""
    )
    assert "$\\dagger$" in (tmp_path / "table.tex").read_text()
    everything = evaluated(heads, trees, tmp_path, include_trained=True).reports["deploy"]["one"]
    assert everything["datasets"]["b"] == second
    assert "counted in means, as asked: a/bottle." in everything["notes"][0]
    pair = [e["pixel"]["ap"] for e in everything["datasets"]["a"]["categories"].values()]
    assert everything["datasets"]["a"]["mean"]["pixel"]["ap"] == pytest.approx(sum(pair) / 2)


def test_a_set_that_was_trained_on_has_no_mean_and_stays_out_of_the_means(head, trees, tmp_path):
    """As in the paper: one head for all sets but its own, another one for that."""
    heads = {"one": head("a/bottle", "a/metal_nut"), "two": head("b/bottle", "b/metal_nut")}
    evaluated(heads, trees, tmp_path, protocols=("authors",), seeds=(0, 1))
    reports = {name: json.loads((tmp_path / name / "metrics.json").read_text()) for name in heads}
    for name, own, other in (("one", "a", "b"), ("two", "b", "a")):
        datasets = reports[name]["datasets"]
        for level in ("image", "pixel"):
            mean = dict(datasets[own]["mean"][level])
            assert set(mean.pop("reason").values()) == {REASON} and set(mean.values()) == {None}
        assert None not in datasets[other]["mean"]["pixel"].values()
    for table in json.loads((tmp_path / "table.json").read_text())["tables"]:
        rows = {row["dataset"]: row["methods"] for row in table["rows"]}
        assert rows["a"]["one"]["auroc"] is rows["b"]["two"]["auroc"] is None
        assert rows["mean"]["one"] == rows["b"]["one"] and rows["mean"]["two"] == rows["a"]["two"]
    text = (tmp_path / "table.md").read_text()
    assert "| a | –† |" in text and "† two was trained on" in text


def test_what_chose_the_epoch_stays_in_the_means_with_a_footnote(head, trees, tmp_path):
    plain = evaluated({"one": head()}, trees, tmp_path / "plain").reports["deploy"]["one"]
    outcome = evaluated({"one": head(validated=("b/bottle",))}, trees, tmp_path / "out")
    report = outcome.reports["deploy"]["one"]
    assert [n for n, e in entries(report).items() if e.get("validated_on")] == ["b/bottle"]
    assert report["datasets"]["b"]["mean"] == plain["datasets"]["b"]["mean"]
    assert "‡ one has the epoch that was best on these categories: b/bottle." in report["notes"]
    assert "| b | bottle‡ | 1 |" in outcome.tables["deploy"]
    assert plain["notes"] == []


def test_marks_do_not_touch_the_scores_that_are_kept(head, trees, tmp_path, monkeypatch):
    kept = {"cache": tmp_path / "cache"}
    evaluated({"one": head("a/bottle")}, trees, tmp_path / "out", **kept)
    before = (tmp_path / "out" / "images.csv").read_text()

    def refuse(*_):
        raise AssertionError("scored again")

    monkeypatch.setattr("bayes_pfl.model.network.BayesPFLNetwork.score_encoded", refuse)
    changes = kept | {"include_trained": True, "resume": True}
    evaluated({"one": head("a/bottle")}, trees, tmp_path / "out", **changes)
    assert (tmp_path / "out" / "images.csv").read_text() == before


def test_the_command_says_which_and_why(tiny_model, head, trees, tmp_path, run):
    heads = [
        head("a/bottle").save_pretrained(tmp_path / "first"),
        head("b/bottle").save_pretrained(tmp_path / "second"),
    ]
    options = [part for path in heads for part in ("--checkpoint", path)]
    data = [part for path in trees for part in ("--data", path)]
    code, said, _ = run("evaluate", *data, *options, "--out", tmp_path / "out", "--no-report")
    assert code == 0
    for path, name in zip(heads, "ab", strict=True):
        kept = "left out of means (--include-trained counts them)"
        assert f"† {path} was trained on these categories, {kept}: {name}/bottle." in said
    code, said, _ = run(
        "evaluate", *data, *options, "--out", tmp_path / "all", "--include-trained", "--no-report"
    )
    assert code == 0 and said.count("counted in means, as asked") == 2
