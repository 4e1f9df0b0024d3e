"""TIFF files too large to be decoded at once: a profile of them, in tiles, and pictures compared
with it, as if they had been decoded."""

import io

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from bayes_pfl.data import pages
from bayes_pfl.data.pages import Picture, large_page
from bayes_pfl.data.records import DatasetWarning
from bayes_pfl.data.roi import Roi
from bayes_pfl.data.tiles import TileSettings
from bayes_pfl.detect.inputs import load_pixels
from bayes_pfl.fit.fit import FitOptions, fit_folder
from bayes_pfl.fit.normal_pictures import normal_picture
from tests.fit.test_tiles import NAME, SIZE, TILE, large, spotted
from tests.helpers.folders import rows_of, run

CUT = TileSettings(TILE, 0.25, 48)
MASK = np.zeros(SIZE[::-1], bool)
MASK[10:140, 20:190] = True
MASK[:40, :60] = False


def written(folder, pictures):
    folder.mkdir()
    for at, picture in enumerate(pictures):
        values = np.asarray(picture.convert("RGB"))
        tifffile.imwrite(folder / f"{at}.tif", values, photometric="rgb", tile=(64, 32))
    return folder


@pytest.fixture
def by_parts(monkeypatch):
    """From now on each TIFF file is too large to be decoded at once."""
    return lambda: monkeypatch.setattr(pages, "MAX_PIXELS", 1)


@pytest.fixture
def sound(tmp_path):
    return written(tmp_path / "sound", [large(seed) for seed in range(4)])


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("roi", [None, Roi(MASK)], ids=["all", "roi"])
def test_a_profile_is_that_of_decoded_pictures(tiny_model, sound, by_parts, roi, workers):
    options = FitOptions(fpr=0.3, tile=TILE, roi=roi, workers=workers)
    wanted = fit_folder(tiny_model, sound, NAME, options).profile
    by_parts()
    found = fit_folder(tiny_model, sound, NAME, options)
    assert not found.skipped
    tiles, known = found.profile.references.tiles, wanted.references.tiles
    assert torch.equal(tiles.memory.vectors, known.memory.vectors)
    assert torch.equal(tiles.memory.cells, known.memory.cells)
    assert tiles.scale.memory == known.scale.memory
    # The view of the whole is made of averages, not bicubic.
    assert found.profile.calibration.threshold == pytest.approx(
        wanted.calibration.threshold, abs=0.05
    )
    assert [one.size for one in found.profile.pictures] == [one.size for one in wanted.pictures]


@pytest.mark.parametrize("roi", [None, Roi(MASK)], ids=["all", "roi"])
def test_what_a_report_shows_of_a_normal_picture_is_read_from_the_file(sound, by_parts, roi):
    by_parts()
    options = FitOptions(tile=TILE, roi=roi)
    picture = normal_picture(sound / "2.tif", 0, 48, options)
    left, top, right, bottom = picture.roi.box if roi else (0, 0, *SIZE)
    whole = large(2).convert("RGB").crop((left, top, right, bottom))
    assert picture.size == whole.size and picture.large
    place = CUT.tiling(whole.size).tiles(whole.size)[3]
    box = (place.left, place.top, place.left + TILE, place.top + TILE)
    assert np.array_equal(np.asarray(picture.tile(CUT, 3)), np.asarray(whole.crop(box)))
    shown = Image.open(io.BytesIO(picture.copy()))
    assert shown.size == whole.size
    assert np.abs(np.asarray(shown, int) - np.asarray(whole)).mean() < 8  # it is compressed


def test_a_file_is_predicted_and_drawn_in_python(tiny_model, sound, tmp_path, by_parts):
    fitted = fit_folder(tiny_model, sound, NAME, FitOptions(fpr=0.3, tile=TILE)).profile
    faulty = written(tmp_path / "new", [spotted(91)]) / "0.tif"
    wanted = tiny_model.predict(faulty, profile=fitted)
    by_parts()
    found = tiny_model.predict(faulty, profile=fitted)
    assert found.label == 1 and found.score == pytest.approx(wanted.score, abs=0.02)
    assert found.size == SIZE and found.anomaly_map.shape == SIZE[::-1]
    assert np.abs(found.anomaly_map - wanted.anomaly_map).max() < 0.1
    assert found.overlay(max_side=200).size == wanted.overlay(max_side=200).size
    assert [one.box for one in found.regions] == [one.box for one in wanted.regions]


def test_the_folder_itself_is_compared_in_tiles(tiny_model, tmp_path, by_parts):
    folder = written(tmp_path / "new", [*(large(seed) for seed in range(8)), spotted(91)])
    by_parts()
    run(tiny_model, folder, tmp_path / "out", mutual=9, tile=TILE)
    rows = rows_of(tmp_path / "out")
    assert len(rows) == 9 and not any(row["error"] for row in rows)
    assert max(rows, key=lambda row: float(row["score"]))["path"] == "8.tif"


def test_further_pages_are_told_of(tmp_path, by_parts):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for _ in range(2):
            file.write(np.asarray(large(0)), photometric="rgb")
    by_parts()
    with pytest.warns(DatasetWarning, match="holds several pages, of which the first is read"):
        assert load_pixels(tmp_path / "a.tif", 0, 48, tiles=CUT).large


def test_the_content_says_that_a_file_is_a_tiff(sound, tmp_path, by_parts):
    (sound / "0.tif").rename(tmp_path / "7")  # as Ray calls a file that it fetched
    large(0).save(tmp_path / "a.tif", "PNG")
    by_parts()
    assert large_page(Picture(tmp_path / "7")) is not None
    for other in (tmp_path / "a.tif", tmp_path / "missing.tif", tmp_path):
        assert large_page(Picture(other)) is None
