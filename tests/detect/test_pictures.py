"""Large pictures in tiles: the merged map and scores are those of the views."""

import numpy as np
import pytest
from PIL import Image

from bayes_pfl.detect import full_maps

NAME, SIDE = "metal nut", 48


def noise(width, height, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values)


def test_the_merged_map_is_that_of_the_same_area_alone(tiny_model):
    # So narrow that it is not looked at as a whole.
    picture = noise(480, 96)
    merged = tiny_model.predict(picture, NAME, tile=96).anomaly_map
    for left in (0, 72, 144):
        alone = tiny_model.predict(picture.crop((left, 0, left + 96, 96)), NAME).anomaly_map
        own = slice(24 if left else 0, 72)  # where no neighbour reaches
        np.testing.assert_allclose(
            merged[:, left + own.start : left + own.stop], alone[:, own], atol=1e-4
        )


def test_a_uniform_picture_has_no_seam(tiny_model):
    merged = tiny_model.predict(
        Image.new("RGB", (500, 110), (90, 120, 60)), NAME, tile=96, smoothing=False
    ).anomaly_map
    one = tiny_model.predict(
        Image.new("RGB", (96, 96), (90, 120, 60)), NAME, smoothing=False
    ).anomaly_map
    assert one.min() - 1e-4 <= merged.min() and merged.max() <= one.max() + 1e-4
    # A tile's own pattern changes from cell to cell; a seam would add a step between two pixels.
    steps = np.abs(np.diff(merged, axis=1)).max()
    assert steps <= np.abs(np.diff(one, axis=1)).max() + 2 / 24 * np.ptp(one)


def test_the_score_is_that_of_the_most_anomalous_view(tiny_model):
    picture = noise(150, 130, seed=1)
    result = tiny_model.predict(picture, NAME, tile=96)
    views = [picture] + [
        picture.crop((left, top, left + 96, top + 96)) for top in (0, 34) for left in (0, 54)
    ]
    wanted = max(tiny_model.predict(views, NAME), key=lambda view: view.score)
    assert result.score == pytest.approx(wanted.score, abs=1e-6)
    assert result.interval == pytest.approx(wanted.interval, abs=1e-6)
    assert result.anomaly_map.shape == result.uncertainty_map.shape == (130, 150)


def test_pictures_that_are_no_larger_than_a_tile_are_as_ever(tiny_model):
    picture = noise(96, 90)
    with_tiles, without = (tiny_model.predict(picture, NAME, tile=t) for t in (96, None))
    assert with_tiles.score == without.score
    np.testing.assert_array_equal(with_tiles.anomaly_map, without.anomaly_map)


@pytest.mark.parametrize("size", [(97, 96), (1, 700), (700, 1), (33, 200)])
def test_any_sides_give_a_map_of_the_picture_s_own_size(tiny_model, size):
    result = tiny_model.predict(noise(*size), NAME, tile=96)
    assert result.anomaly_map.shape == size[::-1]
    assert 0 <= result.score <= 1 and 0 < result.anomaly_map.max() <= 1


def test_neither_batches_nor_the_place_of_the_map_change_anything(tiny_model, monkeypatch):
    images = [noise(150, 130, seed) for seed in range(3)]
    wanted = tiny_model.predict(images, NAME, tile=96, batch_size=16)
    monkeypatch.setattr(full_maps, "IN_MEMORY", 0)
    found = tiny_model.predict(images[::-1], NAME, tile=96, batch_size=3)[::-1]
    for a, b in zip(wanted, found, strict=True):
        assert a.score == pytest.approx(b.score, abs=1e-5)
        np.testing.assert_allclose(a.anomaly_map, b.anomaly_map, atol=1e-4)
