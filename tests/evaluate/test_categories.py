"""The benchmark loop: both protocols against a plain computation, invariance, undefined figures."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.metrics import average_precision_score, roc_auc_score

from bayes_pfl.data.records import Sample
from bayes_pfl.data.samples import SampleDataset
from bayes_pfl.data.sources import read_mvtec
from bayes_pfl.errors import DataError, ImageReadError
from bayes_pfl.evaluate.records import combine_seeds, dataset_result
from bayes_pfl.evaluate.scoring import (
    EvaluationSettings,
    evaluate,
    evaluate_categories,
    image_pixel_ap,
    pixel_average_precision,
    text_score_average_precision,
)

SIGMA = 8 / 518 * 48


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Two categories of MVTec's layout, 5 normal and 6 anomalous pictures each."""
    root = tmp_path_factory.mktemp("tree")
    rng = np.random.default_rng(0)
    for category in ("nut", "capsules"):
        for kind, count in (("good", 5), ("hole", 6)):
            (root / category / "test" / kind).mkdir(parents=True)
            for index in range(count):
                picture = rng.integers(0, 255, (60, 50, 3), np.uint8)
                name = f"{index:03d}"
                if kind == "hole":
                    mask = np.zeros((60, 50), np.uint8)
                    top, left = rng.integers(0, 30, 2)
                    mask[top : top + 20, left : left + 15] = 255
                    picture[mask > 0] //= 3
                    masks = root / category / "ground_truth" / kind
                    masks.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(mask).save(masks / f"{name}_mask.png")
                Image.fromarray(picture).save(root / category / "test" / kind / f"{name}.png")
    return root


@pytest.fixture(scope="module")
def samples(tree):
    return read_mvtec(tree)


@pytest.fixture(scope="module")
def records(tiny_model, samples):
    return evaluate(tiny_model, samples)


@pytest.fixture(scope="module")
def plain(tiny_model, samples):
    """Everything at once and slowly: maps, masks, labels and text scores by category."""
    draws = tiny_model.draw(None, 0)
    found = {}
    for sample, item in zip(samples, SampleDataset(samples, tiny_model.transform), strict=True):
        scores = tiny_model.score_batch(item["image"][None], [sample.class_name], draws)
        row = (scores.map[0].numpy(), item["mask"].numpy() > 0.5, sample.label)
        found.setdefault(sample.category, []).append((*row, float(scores.text_score[0])))
    return {name: [np.array(column) for column in zip(*rows, strict=True)]
            for name, rows in found.items()}  # fmt: skip


def highest(maps, count):
    return np.sort(maps.reshape(len(maps), -1), axis=1)[:, -count:].mean(axis=1)


def scaled(values):
    return (values - values.min()) / (values.max() - values.min())


def test_pixel_figures_equal_a_plain_computation(tiny_model, samples, plain):
    records = evaluate(tiny_model, samples, EvaluationSettings(smooth_masks=True))
    for name, (maps, masks, _, _) in plain.items():
        smooth = np.stack([gaussian_filter(one, SIGMA) for one in maps]).reshape(-1)
        figures = records[name].result("deploy")["pixel"]
        assert figures["auroc"] == pytest.approx(roc_auc_score(masks.reshape(-1), smooth), abs=1e-4)
        expected = average_precision_score(masks.reshape(-1), smooth)
        assert figures["ap"] == pytest.approx(expected, abs=1e-3)
        others = records[name].result("authors")["pixel"]
        assert others == figures | {"aupro_authors": others["aupro_authors"]}


@pytest.mark.parametrize("protocol", ["deploy", "authors"])
def test_image_figures_equal_a_plain_computation(records, plain, protocol):
    for name, (maps, _, labels, text) in plain.items():
        if protocol == "deploy":
            scores = (text + highest(maps, round(0.0075 * 48 * 48))) / 2
        else:
            pixels = 20 if name == "capsules" else 2000
            count = max(1, round(pixels * (48 / 518) ** 2))
            scores = (scaled(text) + scaled(highest(maps, count))) / 2
        assert records[name].image_scores(protocol) == pytest.approx(scores, abs=1e-5)
        figures = records[name].result(protocol)["image"]
        assert figures["auroc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)
        assert figures["ap"] == pytest.approx(average_precision_score(labels, scores), abs=1e-9)


@pytest.mark.parametrize(
    "settings",
    [EvaluationSettings(batch_size=1), EvaluationSettings(batch_size=7, workers=1)],
    ids=["one by one", "in another process"],
)
def test_results_do_not_depend_on_batches_and_workers(tiny_model, samples, records, settings):
    assert_same(evaluate(tiny_model, samples, settings), records)


def test_results_do_not_depend_on_the_order(tiny_model, samples, records):
    shuffled = [samples[i] for i in np.random.default_rng(3).permutation(len(samples))]
    assert_same(evaluate(tiny_model, shuffled), records)


def assert_same(got, expected):
    assert set(got) == set(expected)
    for name, record in got.items():
        rows = {row.path: row for row in expected[name].rows}
        for row in record.rows:
            assert row.deploy_score == pytest.approx(rows[row.path].deploy_score, abs=1e-5)
            assert row.uncertainty == pytest.approx(rows[row.path].uncertainty, abs=1e-5)
        figures, others = record.result("authors"), expected[name].result("authors")
        for level in ("image", "pixel"):
            for key in ("auroc", "ap", "f1_max"):
                assert figures[level][key] == pytest.approx(others[level][key], abs=1e-3)


def test_another_seed_gives_other_scores_and_the_global_state_is_left_alone(
    tiny_model, samples, records
):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    other = evaluate(tiny_model, samples[:8], EvaluationSettings(seed=1))
    assert torch.equal(before, torch.random.get_rng_state())
    name = samples[0].category
    assert other[name].rows[0].text_score != records[name].rows[0].text_score


def test_without_normal_images_image_figures_are_none_with_the_reason(tiny_model, samples):
    chosen = [s for s in samples if s.label == 1 or s.category == "nut"]
    result = dataset_result(evaluate(tiny_model, chosen), "deploy")
    entry = result["categories"]["capsules"]
    assert entry["image"]["auroc"] is None and "no normal images" in entry["image"]["reason"]["ap"]
    assert entry["pixel"]["auroc"] is not None
    assert (entry["n_normal"], entry["n_anomalous"]) == (0, 6)
    nut = result["categories"]["nut"]
    assert result["mean"]["image"]["auroc"] == nut["image"]["auroc"]
    both = (nut["pixel"]["ap"] + entry["pixel"]["ap"]) / 2
    assert result["mean"]["pixel"]["ap"] == pytest.approx(both)


def test_a_mean_of_nothing_is_none_with_the_reason(tiny_model, samples):
    normal = [s for s in samples if s.label == 0]
    mean = dataset_result(evaluate(tiny_model, normal), "authors")["mean"]
    assert mean["pixel"]["aupro"] is None and "every mask is empty" in mean["pixel"]["reason"][
        "aupro"]  # fmt: skip
    assert mean["image"]["auroc"] is None
    assert pixel_average_precision(evaluate(tiny_model, normal)) is None


def test_images_without_masks_have_image_figures_of_the_text_score_alone(tiny_model, samples):
    bare = [Sample(s.path, s.category, s.class_name, s.label, None, s.defect) for s in samples]
    settings = EvaluationSettings()
    found = evaluate_categories(tiny_model, bare, settings, levels=("image",))
    records = {record.category: record for record in found}
    for record in records.values():
        assert record.result("authors")["pixel"]["ap"] is None
        assert np.array_equal(record.image_scores("authors"), record.text_scores)
    assert text_score_average_precision(records) == pytest.approx(
        np.mean([average_precision_score(r.labels, r.text_scores) for r in records.values()])
    )


@pytest.mark.parametrize(("levels", "missing"), [(("image",), "pixel"), (("pixel",), "image")])
def test_a_dataset_meant_for_one_level_has_no_figures_of_the_other(
    tiny_model, samples, levels, missing
):
    settings = EvaluationSettings()
    for record in evaluate_categories(tiny_model, samples, settings, levels=levels):
        entry = record.result("deploy")
        assert entry[missing]["auroc"] is None
        assert f"{levels[0]}-level results only" in entry[missing]["reason"]["auroc"]
        assert entry[levels[0]]["auroc"] is not None


def test_a_sealed_record_keeps_its_figures_and_lets_go_of_the_counts(tiny_model, samples):
    (record,) = evaluate_categories(tiny_model, samples[:11], EvaluationSettings())
    before, curves = record.result("deploy"), record.pixel.curves(500)
    record.seal()
    assert record.result("deploy") == before
    assert record.pixel.images == 0
    assert np.array_equal(record.pixel_curves["tpr"], curves["tpr"])


@pytest.fixture
def broken(tmp_path, samples):
    """The first category with a truncated picture and one whose mask has another size."""
    cut = tmp_path / "cut.png"
    cut.write_bytes(samples[0].path.read_bytes()[:200])
    small = tmp_path / "small.png"
    Image.fromarray(np.ones((3, 3), np.uint8)).save(small)
    name = samples[0].category
    odd = next(s for s in samples if s.label)
    return [
        *(s for s in samples if s.category == name),
        Sample(cut, name, name, 0),
        Sample(odd.path, name, name, 1, small, "hole"),
    ]


def test_unreadable_images_are_errors_that_name_the_file(tiny_model, broken):
    with pytest.raises(DataError, match="cut.png"):
        evaluate(tiny_model, broken)
    with pytest.raises(DataError, match="cut.png") as caught:
        evaluate(tiny_model, broken, EvaluationSettings(workers=1))
    assert "\n" not in str(caught.value) and not isinstance(caught.value, ImageReadError)


@pytest.mark.parametrize("size", [1, 8])
def test_unreadable_images_can_be_listed_instead(tiny_model, broken, records, size):
    seen = []
    settings = EvaluationSettings(batch_size=size, skip_unreadable=True)
    (record,) = evaluate(tiny_model, broken, settings, seen.append).values()
    assert [path.rsplit("/", 1)[-1] for path, _ in record.skipped][0] == "cut.png"
    assert "3x3" in record.skipped[1][1]
    assert sum(seen) == len(broken)
    entry, expected = record.result("authors"), records[record.category].result("authors")
    assert entry["n_skipped"] == 2
    assert entry["image"] == pytest.approx(expected["image"], abs=1e-6)


def test_the_average_precision_of_one_image_is_close_to_the_exact_one():
    rng = np.random.default_rng(0)
    for share in (0.01, 0.3):
        mask = rng.random((80, 70)) < share
        values = (rng.random((80, 70)) + 0.3 * mask).astype(np.float32)
        exact = average_precision_score(mask.reshape(-1), values.reshape(-1))
        assert image_pixel_ap(values, mask) == pytest.approx(exact, abs=5e-3)
    assert math.isnan(image_pixel_ap(values, np.zeros_like(mask)))
    flat = np.full((4, 4), 0.2, np.float32)
    assert image_pixel_ap(flat, np.eye(4, dtype=bool)) == pytest.approx(0.25)


def test_seeds_become_mean_and_sample_deviation(tiny_model, samples):
    runs = [
        dataset_result(evaluate(tiny_model, samples, EvaluationSettings(seed=s)), "deploy")
        for s in (0, 1, 2)
    ]
    combined = combine_seeds(runs)
    values = [run["categories"]["nut"]["pixel"]["ap"] for run in runs]
    entry = combined["categories"]["nut"]
    assert entry["pixel"]["ap"] == pytest.approx(np.mean(values))
    assert entry["sd"]["pixel"]["ap"] == pytest.approx(np.std(values, ddof=1))
    means = [run["mean"]["image"]["auroc"] for run in runs]
    assert combined["mean"]["sd"]["image"]["auroc"] == pytest.approx(np.std(means, ddof=1))
    assert entry["n_normal"] == 5
    assert combine_seeds(runs[:1]) is runs[0]


def test_an_undefined_figure_stays_undefined_over_seeds(tiny_model, samples):
    normal = [s for s in samples if s.label == 0]
    runs = [dataset_result(evaluate(tiny_model, normal), "deploy")] * 2
    entry = combine_seeds(runs)["categories"]["nut"]
    assert entry["image"]["auroc"] is None and entry["sd"]["image"]["auroc"] is None
    assert entry["image"]["reason"]["auroc"]


def test_map_range_is_the_median_and_the_95th_percentile():
    from bayes_pfl.evaluate.records import LEVELS, CategoryRecord
    from bayes_pfl.evaluate.scoring import map_range

    pixels = np.random.default_rng(0).random((2, 40, 50)).astype(np.float32)
    records = {}
    for name, part in zip("ab", pixels, strict=True):
        records[name] = CategoryRecord(name, tuple(LEVELS))
        records[name].pixel.update(part, part > 0.9)
    expected = np.quantile(pixels, (0.5, 0.95))
    assert map_range(records) == pytest.approx(tuple(expected), abs=2e-3)
    assert map_range({}) == (0.0, 1.0)
