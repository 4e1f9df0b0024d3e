"""Predictions within a region of interest: what lies outside does not count."""

import json

import numpy as np
import pytest
from PIL import Image

from bayes_pfl.data.roi import Roi
from bayes_pfl.detect.overlays import ROI_LINE
from bayes_pfl.errors import ConfigError, DataError
from tests.helpers.folders import rows_of, run

NAME, SIZE = "metal nut", (130, 110)
BOX = (30, 20, 100, 90)


def ring():
    """A ring within a box, bool (110, 130)."""
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    far = np.hypot(x - 64.5, y - 54.5)
    return (far < 35) & (far > 12)


def noise(seed=0, size=SIZE):
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(values)


@pytest.fixture(scope="module")
def mask(tmp_path_factory):
    path = tmp_path_factory.mktemp("roi") / "ring.png"
    Image.fromarray(ring()).save(path)
    return path


TILES = [None, 40]


@pytest.mark.parametrize("tile", TILES)
def test_what_lies_outside_the_box_changes_nothing(tiny_model, mask, tile):
    one, other = noise(), noise(1)
    other.paste(one.crop(BOX), BOX[:2])
    a, b = (tiny_model.predict(x, NAME, roi=mask, tile=tile) for x in (one, other))
    assert a.score == b.score and a.interval == b.interval and a.uncertainty == b.uncertainty
    np.testing.assert_array_equal(a.anomaly_map, b.anomaly_map)


@pytest.mark.parametrize("tile", TILES)
def test_maps_are_those_of_the_box_within_the_region_and_0_outside(tiny_model, mask, tile):
    result = tiny_model.predict(noise(), NAME, roi=mask, tile=tile, smoothing=False)
    assert result.anomaly_map.shape == result.uncertainty_map.shape == SIZE[::-1]
    for values in (result.anomaly_map, result.uncertainty_map):
        assert not values[~ring()].any()
    if tile is None:
        alone = tiny_model.predict(noise().crop(BOX), NAME, smoothing=False)
        left, top, right, bottom = BOX
        inner = ring()[top:bottom, left:right]
        inner &= np.roll(inner, 3, 0) & np.roll(inner, -3, 0)  # not where 0 is interpolated
        inner &= np.roll(inner, 3, 1) & np.roll(inner, -3, 1)
        here = result.anomaly_map[top:bottom, left:right][inner]
        np.testing.assert_allclose(here, alone.anomaly_map[inner], atol=1e-5)
        assert result.text_score == pytest.approx(alone.text_score, abs=1e-6)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("size", [SIZE, (300, 25)])
def test_all_of_the_picture_is_as_no_region(tiny_model, tile, size):
    picture = noise(size=size)
    a = tiny_model.predict(picture, NAME, roi=Roi(np.ones((3, 5), bool)), tile=tile)
    b = tiny_model.predict(picture, NAME, tile=tile)
    assert a.score == pytest.approx(b.score, abs=1e-6)
    assert a.interval == pytest.approx(b.interval, abs=1e-6)
    np.testing.assert_allclose(a.anomaly_map, b.anomaly_map, atol=1e-5)


def test_the_score_is_the_mean_of_the_pairs_scores_even_in_a_thin_region(tiny_model):
    line = np.zeros((110, 130), bool)
    line[20, 20], line[90, 100] = True, True
    result = tiny_model.predict(noise(), NAME, roi=Roi(line))
    assert result.interval[0] <= result.score <= result.interval[1]
    assert result.map_score <= result.anomaly_map.max()


def test_batches_do_not_change_scores(tiny_model, mask):
    images = [noise(seed, size) for seed, size in enumerate([SIZE, (70, 200), (48, 48)])]
    together = tiny_model.predict(images, NAME, roi=mask, batch_size=3, tile=64)
    for image, one in zip(images, together, strict=True):
        alone = tiny_model.predict(image, NAME, roi=mask, tile=64)
        assert one.score == pytest.approx(alone.score, abs=1e-5)
        np.testing.assert_allclose(one.anomaly_map, alone.anomaly_map, atol=1e-4)


def test_overlays_show_it(tiny_model, mask):
    def green(picture):
        return (np.asarray(picture) == ROI_LINE).all(-1).sum()

    result = tiny_model.predict(noise(), NAME, roi=mask)
    assert green(result.overlay()) > 200
    assert green(tiny_model.predict(noise(), NAME).overlay()) == 0


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "in"
    (place / "left").mkdir(parents=True)
    for at, name in enumerate(("a.png", "left/b.png", "c.png")):
        noise(at).save(place / name)
    return place


@pytest.mark.parametrize("tile", TILES)
def test_a_folder_run_gives_what_python_gives(tiny_model, mask, folder, tmp_path, tile):
    limit, out = 0.3, tmp_path / "out"
    wanted = {"maps": "npy", "map_threshold": limit, "overlays": True, "report": True}
    run(tiny_model, folder, out, roi=mask, tile=tile, **wanted)
    for row in rows_of(out):
        alone = tiny_model.predict(folder / row["path"], NAME, roi=mask, tile=tile)
        assert float(row["score"]) == pytest.approx(alone.score, abs=1e-5)
        assert int(row["width"]) == SIZE[0]
        kept = np.load(out / "maps" / f"{row['path']}.npy")
        np.testing.assert_allclose(kept, alone.anomaly_map, atol=1e-5)
        assert int(row["regions"]) == len(alone.boxes(limit))
        overlay = np.asarray(Image.open(out / "overlays" / f"{row['path']}.png"))
        assert (overlay == ROI_LINE).all(-1).any()
    strips = (out / "report" / "pictures").glob("?" * 24 + ".webp")
    shown = [Image.open(path) for path in strips]
    assert len(shown) == 3 and all(picture.width == 4 * SIZE[0] for picture in shown)
    maps = [np.asarray(picture)[:, 2 * SIZE[0] : 3 * SIZE[0]] for picture in shown]
    assert all(one[:10].max() < 30 and one.max() > 60 for one in maps)  # black outside
    summary = json.loads((out / "summary.json").read_text())
    assert summary["settings"]["roi"] == {"source": str(mask), "sha256": Roi(ring()).key}


def test_regions_by_name(tiny_model, folder, tmp_path):
    (tmp_path / "roi" / "left").mkdir(parents=True)
    Image.fromarray(ring()).save(tmp_path / "roi" / "a.png")
    Image.fromarray(ring()[::-1, ::-1]).save(tmp_path / "roi" / "left" / "b.png")
    run(tiny_model, folder, tmp_path / "out", roi=tmp_path / "roi", maps="npy")
    rows = {row["path"]: row for row in rows_of(tmp_path / "out")}
    assert "no region of interest c.png" in rows["c.png"]["error"] and not rows["c.png"]["score"]
    kept = np.load(tmp_path / "out" / "maps" / "left" / "b.png.npy")
    assert not kept[~ring()[::-1, ::-1]].any() and kept.max() > 0
    # In Python a picture's name alone counts.
    one = tiny_model.predict(folder / "a.png", NAME, roi=tmp_path / "roi")
    assert float(rows["a.png"]["score"]) == pytest.approx(one.score, abs=1e-5)
    with pytest.raises(DataError, match="no region of interest c.png"):
        tiny_model.predict(folder / "c.png", NAME, roi=tmp_path / "roi")
    with pytest.raises(DataError, match="image 0: .* from memory"):
        tiny_model.predict(noise(), NAME, roi=tmp_path / "roi")


def test_a_run_is_not_resumed_with_another_region(tiny_model, mask, folder, tmp_path):
    run(tiny_model, folder, tmp_path / "out", roi=mask)
    Image.fromarray(~ring()).save(tmp_path / "other.png")
    with pytest.raises(ConfigError, match="roi = "):
        run(tiny_model, folder, tmp_path / "out", roi=tmp_path / "other.png", resume=True)
    again = run(tiny_model, folder, tmp_path / "out", roi=mask, resume=True)
    assert again.resumed == 3


def test_pictures_are_compared_with_each_other_within_it(tiny_model, mask, tmp_path):
    for at in range(9):
        noise(at).save(tmp_path / f"{at}.png")
    faulty = noise(9)
    faulty.paste((250, 20, 20), (0, 0, 25, 110))
    faulty.save(tmp_path / "outside.png")
    run(tiny_model, tmp_path, tmp_path / "out", roi=mask, mutual=9, maps="npy")
    scores = {row["path"]: float(row["score"]) for row in rows_of(tmp_path / "out")}
    assert scores["outside.png"] < 0.45
    assert not np.load(tmp_path / "out" / "maps" / "outside.png.npy")[:, :30].any()
