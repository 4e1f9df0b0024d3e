"""What the program of an export does by itself, compared with the package."""

import numpy as np
import pytest
from PIL import Image

from bayes_pfl.data.images import read_image
from bayes_pfl.data.roi import PictureRoi, Roi
from bayes_pfl.data.tiles import Tile
from bayes_pfl.detect.regions import RegionRule, find_regions
from bayes_pfl.export.standalone.interest import Interest, Spot
from bayes_pfl.export.standalone.pictures import pages_of
from bayes_pfl.export.standalone.regions import regions_of
from tests.helpers.turned import write_turned_tiff


@pytest.mark.parametrize("seed", range(60))
def test_regions_are_those_of_the_package(seed):
    rng = np.random.default_rng(seed)
    values = rng.random(rng.integers(1, 50, 2)).astype(np.float32)
    values = np.round(values, 1 if seed % 3 else 6)  # of equal peaks the first counts
    threshold = float(rng.random())
    least_peak = None if seed % 2 else (1 + threshold) / 2
    ours, theirs = (
        find_regions(values, RegionRule(threshold, region_threshold=least_peak)).regions,
        regions_of(values, threshold, least_peak),
    )
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert tuple(one.box) == tuple(other[name] for name in one.box._fields)
        for name in ("area", "peak", "peak_x", "peak_y"):
            assert getattr(one, name) == other[name]
        assert abs(one.mean - other["mean"]) <= 1e-6


def test_a_region_as_long_as_a_snake_is_one():
    snake = np.zeros((201, 201), np.float32)
    snake[::2] = 1
    snake[1::4, -1] = snake[3::4, 0] = 1
    assert [one["area"] for one in regions_of(snake, 0.5)] == [int(snake.sum())]


@pytest.mark.parametrize("seed", range(40))
def test_a_region_of_interest_is_stretched_as_in_the_package(seed, tmp_path):
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(1, 40, 2)) < rng.choice([0.02, 0.3])
    mask.flat[rng.integers(mask.size)] = True
    Image.fromarray(mask).save(tmp_path / "roi.png")
    size = tuple(rng.integers(30, 200, 2).tolist())
    ours, theirs = PictureRoi.of(Roi(mask), size), Spot(Interest.read(tmp_path / "roi.png"), size)
    assert ours.box == theirs.box and ours.crop_size == theirs.size
    assert np.array_equal(ours.inside((48, 48)), theirs.inside((48, 48)))
    for place in rng.integers(0, theirs.size, (4, 2)).tolist():
        tile = Tile(*place, int(rng.integers(2, 90)))
        assert ours.touches(tile) == theirs.touches(*tile)
        if ours.touches(tile):
            assert np.array_equal(ours.of_tile(tile, 48), theirs.of_tile(*tile, 48))


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pages_lie_as_in_the_package(orientation, compression, tmp_path):
    upright = np.random.default_rng(0).integers(0, 255, (20, 30), np.uint8)
    path = write_turned_tiff(
        tmp_path / "a.tif", upright, upright[::-1], orientation=orientation, compression=compression
    )
    for number, found in pages_of(path):
        assert np.array_equal(np.asarray(found), np.asarray(read_image(path, page=number)))
    assert number == 2
