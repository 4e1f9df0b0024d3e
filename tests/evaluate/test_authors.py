"""The protocol `authors` to the letter: words, masks, and the score that `supports` decides."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from bayes_pfl.data.images import read_mask
from bayes_pfl.data.transforms import resize_mask, smooth_mask
from bayes_pfl.evaluate.datasets import EvaluationData, read_trees
from bayes_pfl.evaluate.request import EvaluationRequest
from bayes_pfl.evaluate.run import run_benchmark
from bayes_pfl.evaluate.scoring import EvaluationSettings, evaluate_categories
from bayes_pfl.model.scoring import authors_scores

ALONE, BOTH = ("authors",), ("deploy", "authors")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two categories of 2 normal and 3 anomalous pictures, one with another published word."""
    root = tmp_path_factory.mktemp("sets") / "parts"
    rng = np.random.default_rng(0)
    for category in ("nut", "metal1"):
        for index in range(5):
            kind = "good" if index < 2 else "hole"
            pixels = rng.integers(0, 255, (61, 53, 3), np.uint8)
            mask = np.zeros((61, 53), np.uint8)
            mask[index * 7 : index * 7 + 2, 10:43] = 255  # a line: what resizing does shows
            for folder, name, content in (
                ("test", f"{index}.png", pixels),
                ("ground_truth", f"{index}_mask.png", mask),
            ):
                if folder == "test" or index >= 2:
                    path = root / category / folder / kind / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(content).save(path)
    (one,) = read_trees([root])
    words = {"nut": "", "metal1": "metal1"}
    return replace(
        one, samples=tuple(replace(s, authors_word=words[s.category]) for s in one.samples)
    )


def evaluated(model, data, out, protocols=ALONE, **changes):
    """metrics.json of the protocol `authors`."""
    request = EvaluationRequest(("tiny",), (data,), out, protocols=protocols, **changes)
    return run_benchmark(request, load=lambda _: model).reports[protocols[-1]]["tiny"]


def words_in(report):
    return {name: e["class_name"] for name, e in report["datasets"]["parts"]["categories"].items()}


@pytest.mark.parametrize(
    ("protocols", "words"),
    [(ALONE, {"nut", "metal1"}), (BOTH, {"nut", "metal"}), (("deploy",), {"nut", "metal"})],
)
def test_words_are_the_authors_in_their_protocol_alone(
    tiny_model, data, prompted, tmp_path, protocols, words
):
    report = evaluated(tiny_model, data, tmp_path, protocols)
    assert prompted == words == set(words_in(report).values())
    said = any("One pass made both protocols" in note for note in report["notes"])
    assert said == (protocols == BOTH)
    tables = [path.read_text() for path in sorted(tmp_path.glob("table*.md"))]
    assert ["One pass made both" in text for text in tables] == [False] + [True] * said


def test_kept_scores_of_other_words_and_masks_are_not_taken(
    tiny_model, data, tmp_path, monkeypatch
):
    kept = {"cache": tmp_path / "cache"}
    fresh = {p: evaluated(tiny_model, data, tmp_path / "fresh", p) for p in (ALONE, BOTH)}
    for protocols in (ALONE, BOTH, ALONE):
        found = evaluated(tiny_model, data, tmp_path / "out", protocols, **kept)
        assert found["datasets"] == fresh[protocols]["datasets"]
    own = replace(data, samples=tuple(replace(s, authors_word="coin") for s in data.samples))
    again = evaluated(tiny_model, own, tmp_path / "out", ALONE, **kept)
    assert again["datasets"] == evaluated(tiny_model, own, tmp_path / "fresh")["datasets"]
    assert again["datasets"] != fresh[ALONE]["datasets"]


@pytest.mark.parametrize(("protocols", "smooth"), [(ALONE, True), (BOTH, False)])
def test_masks_are_smooth_in_their_protocol_alone(
    tiny_model, data, tmp_path, monkeypatch, protocols, smooth
):
    from bayes_pfl.evaluate.records import CategoryRecord

    seen = []
    monkeypatch.setattr(CategoryRecord, "seal", lambda record: seen.append(record))
    evaluated(tiny_model, data, tmp_path, protocols)
    side, pixels = tiny_model.backbone.image_size, 0
    for sample in data.samples:
        if sample.mask:
            mask = read_mask(sample.mask)
            small = smooth_mask(mask, side) if smooth else resize_mask(mask, (side, side))
            pixels += int(small.sum())
    assert sum(record.pixel.levels().n_positive for record in seen) == pixels


def test_the_published_estimate_stands_next_to_the_exact_figure(tiny_model, data, tmp_path):
    report = evaluated(tiny_model, data, tmp_path, BOTH)
    result = report["datasets"]["parts"]
    for entry in [*result["categories"].values(), result["mean"]]:
        assert 0 < entry["pixel"]["aupro_authors"] < 1
        assert entry["pixel"]["aupro_authors"] != entry["pixel"]["aupro"]
    assert "pixel AUPRO as published" in (tmp_path / "table_authors.md").read_text()
    assert "pixel_aupro_authors" in (tmp_path / "metrics_authors.csv").read_text()
    deploy = (tmp_path / "metrics.json").read_text()
    assert "aupro_authors" not in deploy and "aupro" in json.dumps(json.loads(deploy))
    assert "as published" not in (tmp_path / "table.md").read_text()


@pytest.mark.parametrize("lost", [0, 1, 3])
def test_supports_decides_on_the_image_score(tiny_model, data, lost):
    samples = [s for s in data.samples if s.category == "nut"]
    samples[2 : 2 + lost] = [replace(s, mask=None) for s in samples[2 : 2 + lost]]
    settings = EvaluationSettings()
    (record,) = evaluate_categories(tiny_model, samples, settings, levels=("image", "pixel"))
    tops = np.array([row.top_mean for row in record.rows])
    assert np.array_equal(record.image_scores("authors"), authors_scores(record.text_scores, tops))
    (record,) = evaluate_categories(tiny_model, samples, settings, levels=("image",))
    assert np.array_equal(record.image_scores("authors"), record.text_scores)


def test_a_tree_without_any_mask_is_for_image_level_results(data, tmp_path):
    root = data.samples[0].path.parents[3]
    assert read_trees([root])[0].levels == ("image", "pixel")
    for sample in data.samples:
        place = tmp_path / "bare" / sample.path.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(sample.path.read_bytes())
    assert read_trees([tmp_path / "bare"])[0].levels == ("image",)
    assert EvaluationData("x", ()).levels == ("image", "pixel")
