"""Pictures of a folder that are compared with each other, tile by tile."""

import numpy as np
import pytest
from PIL import Image

from bayes_pfl.data.tiles import auto_tiling
from bayes_pfl.data.wording import ClassNames
from bayes_pfl.errors import DataError
from tests.helpers.folders import rows_of, run

SIZE, TILE, NAME = (200, 150), 96, "spot.png"


def texture(seed, size=SIZE):
    noise = np.random.default_rng(seed).normal(128, 12, (size[1] // 2, size[0] // 2, 1))
    grey = np.repeat(noise.clip(0, 255).astype(np.uint8), 3, axis=2)
    return Image.fromarray(grey).resize(size)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("mutual")
    for seed in range(9):
        texture(seed).save(place / f"{seed}.png")
    faulty = texture(9)
    faulty.paste((250, 30, 30), (150, 100, 170, 120))
    faulty.save(place / NAME)
    return place


@pytest.fixture(scope="module")
def out(tiny_model, folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("out")
    run(tiny_model, folder, place, mutual=10, tile=TILE, maps="npy", report=True)
    return place


def test_the_fault_is_found_at_its_place(out):
    rows = {row["path"]: row for row in rows_of(out)}
    assert {row["tile"] for row in rows.values()} == {str(TILE)}
    assert max(rows, key=lambda name: float(rows[name]["score"])) == NAME
    assert all(row["memory_score"] and not row["error"] for row in rows.values())
    found = np.load(out / "maps" / f"{NAME}.npy")
    row, column = np.unravel_index(found.argmax(), found.shape)
    assert found.shape == SIZE[::-1] and 145 <= column < 175 and 95 <= row < 125


def test_the_report_shows_the_most_similar_tile_of_another_picture(out):
    assert list((out / "report").rglob("*.near.webp"))


def test_scores_do_not_depend_on_batches(tiny_model, folder, out, tmp_path):
    run(tiny_model, folder, tmp_path, mutual=10, tile=TILE, batch_size=3, maps="npy")
    for one, other in zip(rows_of(out), rows_of(tmp_path), strict=True):
        assert one["path"] == other["path"]
        assert float(one["score"]) == pytest.approx(float(other["score"]), abs=1e-4)


def test_the_drawn_pictures_choose_the_tiles(tiny_model, folder, tmp_path):
    summary = run(tiny_model, folder, tmp_path, mutual=10, tile="auto")
    side = auto_tiling(SIZE, tiny_model.backbone.image_size, 0.25).side
    assert summary.settings["tile"] == side and summary.tile_sides == [side]


def test_a_class_name_without_large_pictures_is_refused(tiny_model, tmp_path):
    for seed in range(8):
        for name, size in {"nut": SIZE, "coin": (90, 80)}.items():
            (tmp_path / "in" / name).mkdir(parents=True, exist_ok=True)
            texture(seed, size).save(tmp_path / "in" / name / f"{seed}.png")
    options = {"mutual": 8, "tile": TILE, "class_name": ClassNames()}  # that of the subfolder
    with pytest.raises(DataError, match="none of the 8 drawn pictures of 'coin' is larger"):
        run(tiny_model, tmp_path / "in", tmp_path / "out", **options)
