"""Profiles of large pictures: their tiles are compared with those of the normal pictures."""

import numpy as np
import pytest
import torch
from PIL import Image

from bayes_pfl.data.tiles import Tiling, cut
from bayes_pfl.detect.scorer import Scorer, View
from bayes_pfl.detect.standards import log_odds
from bayes_pfl.errors import ConfigError, DataError
from bayes_pfl.fit.fit import FitOptions, fit_folder, fit_profile
from bayes_pfl.fit.profile_files import load_profile, save_profile
from bayes_pfl.predict.folder import predict_folder
from tests.helpers.folders import rows_of

NAME, SIZE, TILE = "metal nut", (200, 150), 96
OPTIONS = FitOptions(fpr=0.3, tile=TILE)


def large(seed):
    noise = np.random.default_rng(seed).normal(128, 12, (SIZE[1] // 2, SIZE[0] // 2, 1))
    grey = np.repeat(noise.clip(0, 255).astype(np.uint8), 3, axis=2)
    return Image.fromarray(grey).resize(SIZE)


def spotted(seed, at=(150, 100)):
    found = large(seed)
    found.paste((250, 30, 30), (at[0], at[1], at[0] + 20, at[1] + 20))
    return found


@pytest.fixture(scope="module")
def profile(tiny_model):
    return fit_profile(tiny_model, [large(seed) for seed in range(24)], NAME, OPTIONS)


@pytest.fixture(scope="module")
def saved(profile, tmp_path_factory):
    return save_profile(profile, tmp_path_factory.mktemp("profile") / "part")


def test_a_fault_is_found_at_its_place_and_next_to_it_a_normal_tile(tiny_model, saved):
    normal, faulty = tiny_model.predict([large(94), spotted(91)], profile=saved)
    assert not normal.label and faulty.label and faulty.p_value < normal.p_value
    assert faulty.memory_score > normal.memory_score
    row, column = np.unravel_index(faulty.anomaly_map.argmax(), faulty.anomaly_map.shape)
    assert 145 <= column < 175 and 95 <= row < 125
    near = faulty.nearest_normal
    assert near.box.left < 170 and near.box.right > 150 and near.picture.size == (TILE, TILE)
    assert near.box.top < 120 and near.box.bottom > 100
    assert 0 <= near.reference_box.left < near.reference_box.right <= TILE


def test_the_memory_score_of_a_large_picture_is_that_of_a_tile(tiny_model, saved):
    everything = tiny_model.predict(large(90), profile=saved)
    tiles = Tiling(TILE).tiles(SIZE)
    scorer = Scorer(tiny_model, OPTIONS, references={NAME: load_profile(saved).references})
    pixels = np.asarray(large(90).convert("RGB"))
    views = [View(cut(pixels, tile, 48), NAME, tile) for tile in tiles]
    highest = max(float(scorer.view_batch([view]).combined.memory_score[0]) for view in views)
    assert everything.memory_score == pytest.approx(highest, rel=1e-3)


def test_the_whole_is_measured_from_the_highest_normal_picture(profile):
    scale = profile.references.scale
    words = torch.tensor([picture.words_score for picture in profile.pictures])
    assert scale.words.centre == pytest.approx(float(log_odds(words).max()), abs=1e-5)
    far = [picture.memory_score for picture in profile.pictures]
    assert scale.memory.centre == pytest.approx(max(far), abs=1e-6)
    assert scale.memory.centre > np.mean(far)


def test_it_comes_back_to_the_last_bit(tiny_model, profile, saved):
    found = load_profile(saved)
    assert found.sha256 == profile.sha256 and found.settings.tile == TILE
    images = [large(90), spotted(91)]
    for a, b in zip(
        *(tiny_model.predict(images, profile=p) for p in (profile, found)), strict=True
    ):
        assert (a.score, a.memory_score, a.p_value) == (b.score, b.memory_score, b.p_value)
        np.testing.assert_array_equal(a.anomaly_map, b.anomaly_map)


def test_the_order_of_the_pictures_changes_nothing(tiny_model):
    images = [large(seed) for seed in range(4)]
    first, other = (fit_profile(tiny_model, x, NAME, OPTIONS) for x in (images, images[::-1]))
    a, b = (tiny_model.predict(spotted(91), profile=p) for p in (first, other))
    assert a.score == pytest.approx(b.score, abs=1e-6)


def test_a_reference_is_not_compared_with_its_own_tiles(tiny_model, profile):
    own = tiny_model.predict(large(3), profile=profile)
    kept = next(picture for picture in profile.pictures if picture.name == "image 3")
    # The scale of all is not quite that of the others alone.
    assert own.score == pytest.approx(kept.score, abs=0.02)


def test_normal_pictures_rarely_reach_the_threshold(tiny_model, profile):
    labels = [
        r.label for r in tiny_model.predict([large(s) for s in range(100, 130)], profile=profile)
    ]
    assert sum(labels) <= 16  # of 30 at a rate of 0.3: more than that has a chance of 0.2%


@pytest.mark.parametrize("options", [{}, {"rotations": True}, {"words_only": True, "fpr": 0.3}])
def test_other_ways_to_fit(tiny_model, options):
    count = 20 if "words_only" in options else 1
    images = [large(seed) for seed in range(count)]
    found = fit_profile(tiny_model, images, NAME, FitOptions(tile=TILE, **options))
    result = tiny_model.predict(spotted(91), profile=found)
    assert result.anomaly_map.shape == SIZE[::-1] and 0 < result.score < 1


def test_what_tiles_cannot_do_is_refused(tiny_model, profile, saved, tmp_path):
    with pytest.raises(ConfigError, match="tile has no place of its own"):
        FitOptions(tile=TILE, aligned=True)
    with pytest.raises(DataError, match="no picture is larger.* 200 pixels"):
        fit_profile(tiny_model, [large(0)], NAME, FitOptions(tile=300))
    with pytest.raises(ConfigError, match="tile"):
        tiny_model.predict(large(90), profile=profile, tile=64)
    (tmp_path / "more").mkdir()
    large(50).save(tmp_path / "more" / "a.png")
    with pytest.raises(ConfigError, match="fit it again, with a folder of all the pictures"):
        fit_folder(tiny_model, tmp_path / "more", NAME, OPTIONS, before=load_profile(saved))


def test_auto_is_settled_by_the_pictures(tiny_model):
    auto = FitOptions(tile="auto")
    assert fit_profile(tiny_model, [large(0)], NAME, auto).settings.tile == 48
    small = large(0).resize((48, 48))
    assert fit_profile(tiny_model, [small], NAME, auto).settings.tile is None


def test_a_copy_of_a_large_picture_that_is_damaged_is_an_error(tiny_model, saved):
    found = load_profile(saved)
    path = saved / "pictures" / f"{found.pictures[0].digest}.large.webp"
    data = path.read_bytes()
    path.write_bytes(data[:40])
    with pytest.raises(ConfigError, match="cannot be shown"):
        found.tile(0, 0)
    path.write_bytes(data)


def test_a_folder_is_run_with_the_tiles_of_the_profile(tiny_model, saved, tmp_path):
    photographs = tmp_path / "in"
    photographs.mkdir()
    large(90).save(photographs / "sound.png")
    spotted(91).save(photographs / "faulty.png")
    large(92).resize((90, 60)).save(photographs / "small.png")
    summary = predict_folder(tiny_model, photographs, tmp_path / "out", profile=saved)
    assert (summary.succeeded, summary.tiled, summary.tile_sides) == (3, 2, [TILE])
    (remark,) = summary.remarks
    assert remark.startswith("1 of 3 images are no larger than a tile")
    rows = {row["path"]: row for row in rows_of(tmp_path / "out")}
    assert [rows[f"{name}.png"]["tile"] for name in ("sound", "small")] == [str(TILE), ""]
    wanted = tiny_model.predict(photographs / "faulty.png", profile=saved)
    assert float(rows["faulty.png"]["score"]) == pytest.approx(wanted.score, abs=1e-5)
    with Image.open(tmp_path / "out" / "maps" / "faulty.png.png") as kept:
        np.testing.assert_allclose(np.asarray(kept) / 65535, wanted.anomaly_map, atol=1e-4)
    again = predict_folder(tiny_model, photographs, tmp_path / "out", profile=saved, resume=True)
    assert again.resumed == 3
