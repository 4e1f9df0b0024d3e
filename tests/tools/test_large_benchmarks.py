"""The measurement of large pictures: its faults, its short cut, its reports."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import softplus

from bayes_pfl.detect.references import Scale, combined_maps
from bayes_pfl.detect.standards import MapStandard, Standard
from bayes_pfl.predict.images import predict_stream
from benchmarks.large import Judge, LargeSettings, memory_maps
from benchmarks.large_pictures import Fault, RealSurface, photographed, shrunk, spoil, visible
from tests.helpers.commands import command

SIZE = (620, 540)


@pytest.fixture(scope="module")
def road(tmp_path_factory):
    """A folder of sound photographs and of two with a crack, with their masks."""
    folder = tmp_path_factory.mktemp("real") / "road"
    rng = np.random.default_rng(0)
    for at in range(4):
        _save(folder / "test" / "good" / f"{at}.jpg", rng.normal(120, 4, (160, 240, 3)))
    for at in range(2):
        mask = np.zeros((160, 240))
        mask[20:140, 100 + at : 104 + at] = 255
        picture = rng.normal(120, 4, (160, 240, 3)) - 80 * (mask[..., None] > 0)
        _save(folder / "test" / "crack" / f"{at}.png", picture)
        _save(folder / "ground_truth" / "crack" / f"{at}_mask.png", mask)
    return folder


def _save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(path)


def test_a_fault_is_as_long_as_asked_and_changes_its_place_alone(road):
    surface = RealSurface(road, SIZE, 0)
    sound = surface.sound(5)
    for length in (12, 48):
        found = spoil(sound, surface.faults(0, length), np.random.default_rng(0))
        high, wide = found.mask.shape
        assert 0.8 * length <= max(high, wide) <= length
        changed = np.abs(found.picture.astype(int) - sound).max(2) > 0
        inside = np.zeros_like(changed)
        inside[found.top : found.top + high, found.left : found.left + wide] = True
        assert changed[inside][found.mask.ravel()].mean() > 0.95 and not changed[~inside].any()
    thin = np.zeros((200, 100), np.float32)
    thin[:, 50] = 1
    assert shrunk(thin[..., None].repeat(3, 2), thin, 20, "crack").mask.shape == (20, 10)


def test_faults_that_hardly_differ_from_their_surroundings_are_not_used():
    mask = np.ones((6, 6), bool)
    flat, rough = np.full((40, 40, 3), 90.0), np.random.default_rng(0).normal(90, 50, (40, 40, 3))
    weak, strong = (Fault(np.full((6, 6, 3), change), mask, "") for change in (20.0, 40.0))
    assert visible(strong, flat) and not visible(weak, flat)
    assert not visible(strong, np.repeat(rough[..., :1], 3, 2))


def test_a_small_photograph_fills_a_large_picture_without_a_seam():
    base = np.repeat(np.linspace(60, 180, 90)[None, :, None], 50, 0).repeat(3, 2)
    picture = photographed(base.astype(np.float32), (400, 300), np.random.default_rng(0))
    assert picture.shape == (300, 400, 3)
    columns = picture.mean((0, 2))  # the noise averages out
    assert np.abs(np.diff(columns)).max() < 4 and np.ptp(columns) > 90


def test_scores_put_together_of_old_and_new_views_are_those_of_predict(tiny_model, road):
    settings = LargeSettings("", (), (road,), SIZE, references=2, tile=200)
    (surface,) = settings.surfaces
    judge = Judge(tiny_model, surface, settings)
    sound = surface.sound(4)
    spoiled = spoil(sound, surface.faults(4, 40), np.random.default_rng(1))
    found = judge.found_fault(judge.views(sound), spoiled)
    mask = np.zeros(SIZE[::-1], bool)
    high, wide = spoiled.mask.shape
    mask[spoiled.top : spoiled.top + high, spoiled.left : spoiled.left + wide] = spoiled.mask
    for way, profile, tile in (
        ("words", None, None),
        ("words, tiles", None, 200),
        ("profile, tiles", judge.profile, 200),
    ):
        options = judge.options(tile)
        (result,) = predict_stream(
            tiny_model, [spoiled.picture], surface.class_name, options, profile=profile
        )
        assert found[way].score == pytest.approx(result.score, abs=1e-4)
        assert found[way].peak == pytest.approx(result.anomaly_map[mask].max(), abs=1e-3)


def test_a_memory_map_is_what_the_memory_adds():
    words, distances = torch.rand(2, 2, 8, 8).clamp(0.01, 0.99)
    spread = MapStandard(torch.tensor(0.5), torch.tensor(0.2))
    scale = Scale(Standard(0, 1), Standard(0, 1), torch.zeros(1), spread, spread)
    both = combined_maps(scale, words, distances)
    wanted = softplus(spread.deviations(distances))
    assert torch.allclose(memory_maps(scale, words, both), wanted, atol=1e-4)


def test_large_reports_each_surface_and_length(checkpoint_dir, road, tmp_path, capsys):
    path = tmp_path / "large.json"
    few = ("--references", 2, "--sound", 2, "--faults", 1, "--lengths", "24,48", "--tile", 300)
    least = ("benchmark", "large", "--checkpoint", checkpoint_dir, "--device", "cpu", *few)
    surfaces = ("--categories", "felt", "--real", road, "--size", "620x540")
    assert command(*least, *surfaces, "--json", path) == 0
    found = json.loads(path.read_text())
    rows = [(row["surface"], row["length"], row["faults"]) for row in found["rows"]]
    assert rows == [("felt", 24, 2), ("felt", 48, 2), ("road", 24, 2), ("road", 48, 2)]
    assert [row["words"] for row in found["means"]] == [row["words"] for row in found["rows"][:2]]
    assert all(0 <= row["profile, tiles"]["auroc"] <= 1 for row in found["rows"])
    assert command(*least, "--categories", "screw") == 2
    assert "'screw' is no surface" in " ".join(capsys.readouterr().err.split())
    assert command(*least, "--size", "620") == 2
    assert "give width x height" in " ".join(capsys.readouterr().err.split())


def test_large_cost_reports_time_and_the_memory_of_a_large_file(checkpoint_dir, tmp_path):
    path = tmp_path / "cost.json"
    few = ("--size", "620x540", "--references", 2, "--samples", 0, "--repeats", 1)
    least = ("benchmark", "large-cost", "--checkpoint", checkpoint_dir, "--device", "cpu")
    assert command(*least, *few, "--megapixels", 3, "--json", path) == 0
    found = json.loads(path.read_text())
    assert [row["profile"] for row in found["time"]] == [False, True]
    for row in found["time"]:
        assert row["tiles_per_second"] == pytest.approx(row["views"] / row["best_seconds"])
    memory = found["memory"]
    assert memory["megapixels"] == pytest.approx(3, rel=0.01) and memory["file_mb"] > 9
    assert memory["peak_mb"] is None or memory["peak_mb"] >= memory["peak_anonymous_mb"] > 50
