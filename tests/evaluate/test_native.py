"""`bayes-pfl evaluate --tile`: figures at the images' own size."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from bayes_pfl.errors import ConfigError
from bayes_pfl.evaluate.datasets import read_trees
from bayes_pfl.evaluate.request import EvaluationRequest
from bayes_pfl.evaluate.run import run_benchmark
from bayes_pfl.evaluate.scoring import EvaluationSettings, evaluate
from bayes_pfl.fit.fit import FitOptions, fit_folder, fit_profile
from bayes_pfl.metrics import PixelMetrics, pixel_metrics, streamed
from tests.metrics.test_regions import slow_aupro

TILE = 96
SETTINGS = EvaluationSettings(tile=TILE, skip_unreadable=True)
SIZES = [(150, 130), (97, 200), (60, 50)]  # the last is no larger than a tile


def picture(path, seed, size, fault=None):
    width, height = size
    coarse = np.random.default_rng(seed).integers(90, 160, (height // 8, width // 8, 3), np.uint8)
    values = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
    if fault is not None:
        values[fault] = (250, 30, 30)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """One category: pictures of three sizes, normal and with small faults."""
    root = tmp_path_factory.mktemp("native") / "boards"
    for at in range(6):
        size = SIZES[at % 3]
        picture(root / "nut" / "train" / "good" / f"{at}.png", at, SIZES[0])
        picture(root / "nut" / "test" / "good" / f"{at}.png", 50 + at, size)
        mask = np.zeros(size[::-1], bool)
        mask[10 + 3 * at : 18 + 3 * at, 20:30] = True
        mask[40:44, 5:9] = at % 2
        picture(root / "nut" / "test" / "bad" / f"{at}.png", 70 + at, size, mask)
        path = root / "nut" / "ground_truth" / "bad" / f"{at}_mask.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)
    return root


def run(tree, model, out, settings=SETTINGS, **asked):
    asked = {"report": False, "cache": out / "cache", **asked}
    data = tuple(read_trees([tree]))
    request = EvaluationRequest(
        checkpoints=("tiny",), data=data, out=out, settings=settings, **asked
    )
    run_benchmark(request, load=lambda _: model)
    return json.loads((out / "metrics.json").read_text())


def entry(report):
    return report["datasets"]["boards"]["categories"]["nut"]


def wanted(tree, model, **options):
    """The figures of what `predict` says, by scikit-learn and a slow AUPRO."""
    (data,) = read_trees([tree])
    images = [sample.path for sample in data.samples]
    results = model.predict(images, "nut", **options)
    masks = [
        np.asarray(Image.open(sample.mask)) > 0 if sample.mask else np.zeros(r.size[::-1], bool)
        for sample, r in zip(data.samples, results, strict=True)
    ]
    scores = np.concatenate([result.anomaly_map.ravel() for result in results])
    truth = np.concatenate([mask.ravel() for mask in masks])
    precision, recall, _ = precision_recall_curve(truth, scores)
    labels, of_images = [s.label for s in data.samples], [r.score for r in results]
    found = {
        "auroc": roc_auc_score(truth, scores),
        "ap": average_precision_score(truth, scores),
        "f1_max": (2 * precision * recall / np.maximum(precision + recall, 1e-12)).max(),
        "aupro": _aupro([result.anomaly_map for result in results], masks),
    }
    image = {
        "auroc": roc_auc_score(labels, of_images),
        "ap": average_precision_score(labels, of_images),
    }
    return {"pixel": found, "image": image}


def _aupro(maps, masks):
    """Threshold after threshold, region after region; the scores rounded to fewer steps."""
    steps = np.unique(np.concatenate([m.ravel() for m in maps]))[::150]
    rounded = [np.searchsorted(steps, m, side="right").astype(float) for m in maps]
    points, negatives = [(0.0, 0.0)], sum((~mask).sum() for mask in masks)
    regions = []
    for at, mask in enumerate(masks):
        count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        regions += [(at, labels == number) for number in range(1, count)]
    for threshold in range(len(steps), -1, -1):
        found = [one >= threshold for one in rounded]
        false = sum((one & ~mask).sum() for one, mask in zip(found, masks, strict=True))
        share = np.mean([found[at][region].mean() for at, region in regions])
        points.append((false / negatives, share))
    x, y = np.array(points).T
    limit = 0.3
    inside = x < limit
    ends = np.append(x[inside], limit), np.append(y[inside], np.interp(limit, x, y))
    return np.trapezoid(ends[1], ends[0]) / limit


def test_the_figures_are_those_of_the_merged_maps(tree, tiny_model, tmp_path):
    report = run(tree, tiny_model, tmp_path)
    expected = wanted(tree, tiny_model, tile=TILE)
    for level, figures in expected.items():
        for key, value in figures.items():
            assert entry(report)[level][key] == pytest.approx(value, abs=1e-3), (level, key)
    assert (report["resolution"], report["tile"], report["overlap"]) == ("native", TILE, 0.25)
    assert any("not comparable" in note for note in report["notes"])
    without = run(tree, tiny_model, tmp_path / "small", replace(SETTINGS, tile=None))
    assert "resolution" not in without and not without["notes"]
    assert entry(without)["pixel"]["ap"] != entry(report)["pixel"]["ap"]


def test_neither_order_nor_batches_nor_workers_change_a_figure(tree, tiny_model):
    (data,) = read_trees([tree])
    first = evaluate(tiny_model, data.samples, SETTINGS)["nut"]
    other = evaluate(tiny_model, data.samples[::-1], replace(SETTINGS, batch_size=3, workers=1))[
        "nut"
    ]
    for a, b in zip(first.rows, other.rows[::-1], strict=True):
        assert a.path == b.path and a.deploy_score == pytest.approx(b.deploy_score, abs=1e-5)
    one, two = (record.result("deploy")["pixel"] for record in (first, other))
    for key in ("auroc", "aupro", "ap", "f1_max"):
        assert one[key] == pytest.approx(two[key], abs=1e-4)


def test_a_stopped_run_resumes_to_the_last_bit(tree, tiny_model, tmp_path, monkeypatch):
    expected = run(tree, tiny_model, tmp_path / "whole")
    take = "bayes_pfl.evaluate.scoring.image_pixel_ap"
    calls = []

    def stopping(anomaly_map, mask):
        calls.append(mask.shape)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return 0.5

    with monkeypatch.context() as patch:
        patch.setattr(take, stopping)
        with pytest.raises(KeyboardInterrupt):
            run(tree, tiny_model, tmp_path / "cut")
    with monkeypatch.context() as patch:
        patch.setattr(take, lambda anomaly_map, mask: calls.append(mask.shape) or 0.5)
        found = run(tree, tiny_model, tmp_path / "cut", resume=True)
    assert len(calls) == 6 + 7 and len(set(calls)) == len(SIZES)
    assert entry(found) == entry(expected)
    with pytest.raises(ConfigError, match="tile"):
        run(tree, tiny_model, tmp_path / "cut", replace(SETTINGS, tile=64), resume=True)
    other = run(tree, tiny_model, tmp_path / "cut", replace(SETTINGS, tile=64))
    assert entry(other)["pixel"]["ap"] != entry(expected)["pixel"]["ap"]


def test_a_map_too_large_for_a_file_of_its_own_waits_for_the_counts(
    tree, tiny_model, tmp_path, monkeypatch
):
    monkeypatch.setattr("bayes_pfl.evaluate.cache.MOST_BYTES", 4 * 150 * 130)
    kept = []
    write = "bayes_pfl.evaluate.cache._packed_batch"
    monkeypatch.setattr(write, lambda levels, batch: kept.append(batch.maps.shape) or b"")
    report = run(tree, tiny_model, tmp_path)
    assert len(kept) == 1 and entry(report)["n_normal"] == 6


def test_a_profile_brings_its_tiles(tree, tiny_model, tmp_path):
    options = FitOptions(tile=TILE)
    profile = fit_folder(tiny_model, tree / "nut" / "train" / "good", "nut", options).profile
    auto = run(tree, tiny_model, tmp_path, replace(SETTINGS, tile="auto"), profile=profile)
    assert auto["tile"] == TILE
    expected = wanted(tree, tiny_model, profile=profile)
    for key, value in expected["pixel"].items():
        assert entry(auto)["pixel"][key] == pytest.approx(value, abs=1e-3)
    flat = fit_profile(tiny_model, [tree / "nut" / "train" / "good" / "0.png"], "nut")
    with pytest.raises(ConfigError, match="made without tiles"):
        run(tree, tiny_model, tmp_path / "no", replace(SETTINGS, tile="auto"), profile=flat)


@pytest.mark.parametrize("tile", [TILE, "auto"])
def test_shots_have_tiles_as_a_profile_has(tree, tiny_model, tmp_path, tile):
    report = run(tree, tiny_model, tmp_path, replace(SETTINGS, tile=tile), shots=(6,))
    folder = tree / "nut" / "train" / "good"
    profile = fit_folder(tiny_model, folder, "nut", FitOptions(tile=tile)).profile
    expected = wanted(tree, tiny_model, profile=profile)
    for level, figures in expected.items():
        for key, value in figures.items():
            assert entry(report)[level][key] == pytest.approx(value, abs=1e-3), (level, key)


def test_shots_no_larger_than_a_tile_are_compared_as_a_whole(tree, tiny_model, tmp_path):
    report = run(tree, tiny_model, tmp_path, replace(SETTINGS, tile=160), shots=(6,))
    profile = fit_folder(tiny_model, tree / "nut" / "train" / "good", "nut").profile
    for key, value in wanted(tree, tiny_model, profile=profile)["pixel"].items():
        assert entry(report)["pixel"][key] == pytest.approx(value, abs=1e-3)


def test_report_and_sheets_show_large_pictures(tree, tiny_model, tmp_path):
    run(tree, tiny_model, tmp_path, report=True, sheets=True, curves=True)
    shown = list((tmp_path / "report" / "pictures").glob("*.webp"))
    assert len(shown) == 12
    with Image.open(tmp_path / "sheets" / "boards" / "nut.png") as sheet:
        assert sheet.width > 400
    assert "not comparable" in (tmp_path / "report.html").read_text()


def test_neither_a_damaged_picture_nor_a_lost_mask_costs_the_others(tree, tiny_model, tmp_path):
    nut = shutil.copytree(tree, tmp_path / "boards") / "nut"
    (nut / "test" / "bad" / "1.png").write_bytes(b"no picture")
    (nut / "ground_truth" / "bad" / "2_mask.png").unlink()
    report = run(nut.parent, tiny_model, tmp_path / "out")
    assert entry(report)["n_skipped"] == 1 and entry(report)["n_anomalous"] == 5
    assert [Path(item["path"]).name for item in report["unmasked"]] == ["2.png"]
    (nut / "test" / "bad" / "2.png").unlink()
    rest = run(nut.parent, tiny_model, tmp_path / "rest")
    assert entry(rest)["pixel"]["ap"] == pytest.approx(entry(report)["pixel"]["ap"], abs=1e-5)


def test_test_images_are_compared_with_each_other_tile_by_tile(tree, tiny_model, tmp_path):
    for at in range(5, 9):
        shutil.copy(tree / "nut" / "test" / "good" / "0.png", tmp_path / "seed.png")
        other = np.asarray(Image.open(tmp_path / "seed.png")).copy()
        other[::7, ::5] ^= at
        Image.fromarray(other).save(tree / "nut" / "test" / "good" / f"more{at}.png")
    whole = run(tree, tiny_model, tmp_path / "whole", replace(SETTINGS, tile=None), mutual=True)
    tiles = run(tree, tiny_model, tmp_path / "tiles", SETTINGS, mutual=True)
    assert tiles["resolution"] == "native" and "resolution" not in whole
    assert entry(tiles)["image"] != entry(whole)["image"]


def test_the_protocol_of_the_authors_has_no_tiles(tree, tiny_model, tmp_path):
    with pytest.raises(ConfigError, match="protocol authors"):
        run(tree, tiny_model, tmp_path, protocols=("deploy", "authors"))


def test_a_large_map_is_counted_in_parts(monkeypatch):
    generator = np.random.default_rng(0)
    maps, masks = generator.random((90, 70), np.float32), np.zeros((90, 70), bool)
    masks[20:50, 10:13] = masks[70:, 60:] = True
    whole = pixel_metrics(maps, masks)
    monkeypatch.setattr(streamed, "_CHUNK", 333)
    parts = PixelMetrics("exact")
    parts.update(maps, masks)
    for key in ("auroc", "ap", "f1_max", "iou"):
        assert parts.compute()[key] == whole[key]
    assert parts.compute()["aupro"] == pytest.approx(
        slow_aupro(maps[None], masks[None], 0.3), abs=1e-9
    )
