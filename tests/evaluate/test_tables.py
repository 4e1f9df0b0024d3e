"""The tables of an evaluation, and published scores beside ours."""

import csv
import io

import pytest

from bayes_pfl.data.cards import card_names
from bayes_pfl.errors import DataError
from bayes_pfl.evaluate.datasets import EvaluationData
from bayes_pfl.evaluate.published import Published, load_published
from bayes_pfl.evaluate.tables import (
    arrange,
    blocks_csv,
    blocks_json,
    blocks_latex,
    blocks_markdown,
    categories_csv,
    categories_markdown,
)


def entry(image, pixel, **extra):
    figures = {
        "image": {"auroc": image, "ap": image, "f1_max": image},
        "pixel": {"auroc": pixel, "aupro": pixel, "ap": pixel, "f1_max": pixel, "iou": pixel},
    }
    return {**figures, **extra}


def report(values, per_seed=None):
    datasets = {
        name: {
            "categories": {"part": entry(*pair, n_normal=2, n_anomalous=3)},
            "mean": entry(*pair),
        }
        for name, pair in values.items()
    }
    seeds = [report(values)["datasets"] for values in per_seed or []]
    return {"datasets": datasets} | ({"per_seed": dict(enumerate(seeds))} if seeds else {})


DATA = [
    EvaluationData("mvtec", (), "industrial"),
    EvaluationData("visa", (), "industrial"),
    EvaluationData("isic", (), "medical", ("pixel",)),
    EvaluationData("brainmri", (), "medical", ("image",)),
    EvaluationData("own_parts", (), "other"),
]
VALUES = {
    "mvtec": (0.8, 0.5),
    "visa": (0.6, None),
    "isic": (None, 0.25),
    "brainmri": (0.9, None),
    "own_parts": (None, 0.4),
}


def test_blocks_hold_what_can_be_measured():
    blocks = arrange({"ours": report(VALUES)}, DATA)
    assert [(block.title, list(block.rows)) for block in blocks] == [
        ("Industrial, image level", ["mvtec", "visa", "mean"]),
        ("Industrial, pixel level", ["mvtec"]),
        ("Medical, image level", ["brainmri"]),
        ("Medical, pixel level", ["isic"]),
        ("Other, pixel level", ["own_parts"]),
    ]
    assert blocks[0].rows["mean"]["ours", "auroc"].value == pytest.approx(0.7)


def test_published_means_cover_every_row_or_are_left_out():
    published = Published(
        "theirs",
        "a paper",
        "authors",
        {
            "mvtec": {"image": {"auroc": 0.9, "ap": 0.5}},
            "visa": {"image": {"auroc": 0.7}},
            "isic": {"image": {"auroc": 0.1}},
        },
    )
    blocks = arrange({"ours": report(VALUES)}, DATA, published)
    ours, theirs = ("auroc", "f1_max", "ap"), ("auroc", "ap")
    columns = [*(("ours", key) for key in ours), *(("theirs", key) for key in theirs)]
    assert blocks[0].columns == columns
    mean = blocks[0].rows["mean"]
    assert mean["theirs", "auroc"].value == pytest.approx(0.8)
    assert mean["theirs", "ap"].value is None
    assert list(blocks[3].methods) == ["ours"]
    plain = blocks_json(blocks, "authors", published)
    assert plain["published"]["source"] == "a paper"
    assert plain["tables"][0]["rows"][1]["methods"]["theirs"] == {"auroc": 0.7, "ap": None}


def test_the_mean_row_has_its_own_deviation():
    seeds = [{"mvtec": (0.7, 0.5), "visa": (0.5, 0.5)}, {"mvtec": (0.9, 0.5), "visa": (0.7, 0.5)}]
    together = report({"mvtec": (0.8, 0.5), "visa": (0.6, 0.5)}, seeds)
    together["datasets"]["mvtec"]["mean"]["sd"] = {"image": {"auroc": 0.1414}}
    blocks = arrange({"ours": together}, DATA[:2])
    assert blocks[0].rows["mvtec"]["ours", "auroc"].sd == 0.1414
    assert blocks[0].rows["mean"]["ours", "auroc"].sd == pytest.approx(0.1414, abs=1e-4)
    assert "| mvtec | 80.0 ± 14.1 |" in blocks_markdown(blocks)
    assert r"80.0 $\pm$ 14.1" in blocks_latex(blocks)
    row = next(csv.DictReader(io.StringIO(blocks_csv(blocks))))
    assert (row["auroc"], row["auroc_sd"], row["aupro"]) == ("0.8", "0.1414", "")


def test_several_methods_have_their_columns():
    blocks = arrange({"a|b": report(VALUES), "c_d": report(VALUES)}, DATA)
    text = blocks_markdown(blocks)
    assert r"a\|b: AUROC | a\|b: F1-max | a\|b: AP | c_d: AUROC" in text
    assert r"\multicolumn{3}{c}{a|b} & \multicolumn{3}{c}{c\_d}" in blocks_latex(blocks)


def test_every_category_in_markdown_and_csv():
    text = categories_markdown(report({"mvtec": (0.81234, None)}))
    assert text.splitlines()[2] == (
        "| mvtec | part | 2 | 3 | 81.2 | 81.2 | 81.2 | – | – | – | – | – |"
    )
    (row, mean) = csv.DictReader(io.StringIO(categories_csv(report({"mvtec": (0.81234, None)}))))
    assert row["image_auroc"] == "0.81234" and row["pixel_ap"] == "" and row["n_normal"] == "2"
    assert mean["category"] == "mean" and "image_auroc_sd" not in mean


def test_the_published_numbers_are_those_that_are_known():
    published = load_published("published")
    assert published.datasets["visa"]["pixel"] == pytest.approx(
        {"auroc": 0.956, "aupro": 0.889, "ap": 0.298}
    )
    assert set(published.datasets) == {"mvtec", "visa", "btad", "rsdd", "dagm", "dtd_synthetic"}
    assert set(published.datasets) < set(card_names())
    assert "published" not in card_names() and len(card_names()) == 15
    assert "2503.10080" in published.source and published.protocol == "authors"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- 1", "must have the field datasets"),
        ("datasets: {a: {image: {auroc: 120}, voxel: {}}, b: 3}", "auroc = 120.*voxel.*b: give"),
        ("datasets: {a: {image: {dice: 50}}}", "image dice = 50; allowed are auroc, ap"),
        ("{", "cannot be read"),
    ],
)
def test_faults_of_a_file_of_published_scores_are_told_together(tmp_path, content, message):
    path = tmp_path / "theirs.yaml"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        load_published(str(path))
