"""The strongest regions in a report: at full resolution, few, and bounded."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from tifffile import imwrite

from bayes_pfl.data import pages
from bayes_pfl.detect.regions import Box, Region
from bayes_pfl.report.crops import crops_of, window
from bayes_pfl.report.html import NAME
from bayes_pfl.report.pictures import crops_name, picture_name
from bayes_pfl.report.runs import read_run
from tests.helpers.folders import picture, run
from tests.report.test_report import island

SMALL = Region(100, Box(700, 500, 712, 509), 0.9, 705, 503, 0.7, 0.05)


def opened(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def test_a_small_region_is_shown_pixel_by_pixel():
    large = picture(1, (1600, 1000))
    shown = opened(crops_of(large.crop, large.size, [SMALL]))
    assert shown.shape == (280, 240, 3)
    left, top, right, bottom = window(SMALL, large.size)
    expected = np.asarray(large.crop((left, top, right, bottom))).astype(int)
    framed = np.zeros((240, 240), bool)
    framed[500 - top - 4 : 509 - top + 4, 700 - left - 4 : 712 - left + 4] = True
    assert np.abs(shown[:240] - expected)[~framed].mean() < 3  # WebP loses a little
    assert (shown[240:] < 100).any()  # the caption


def test_large_and_many_regions_stay_within_bounds():
    whole = replace(SMALL, box=Box(0, 0, 1600, 1000), area=1_600_000)
    left, top, right, bottom = window(whole, (1600, 1000))
    assert (right - left, bottom - top) == (480, 480)
    assert left < whole.peak_x < right and top < whole.peak_y < bottom
    shown = opened(crops_of(picture(1, (1600, 1000)).crop, (1600, 1000), [whole] * 9))
    assert shown.shape == (280, 4 * 248 - 8, 3)
    tiny = replace(SMALL, box=Box(1, 0, 3, 2))
    assert opened(crops_of(picture(1, (3, 2)).crop, (3, 2), [tiny])).any()


@pytest.mark.parametrize("box", [Box(0, 0, 5, 5), Box(1590, 990, 1600, 1000), Box(0, 0, 310, 20)])
def test_a_window_holds_its_region_and_lies_in_the_picture(box):
    left, top, right, bottom = window(replace(SMALL, box=box), (1600, 1000))
    assert 0 <= left <= box.left and box.right <= right <= 1600
    assert 0 <= top <= box.top and box.bottom <= bottom <= 1000


def test_reports_show_the_regions_of_striking_pictures(tiny_model, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    names = ["large.png", "<b>small.png"]
    for name, size in zip(names, ((1300, 900), (60, 40)), strict=True):
        picture(1, size).save(folder / name)
    scores = {name: tiny_model.predict(folder / name, "metal nut").score for name in names}
    limit = float(np.median(tiny_model.predict(folder / names[0], "metal nut").anomaly_map))
    options = {"report": True, "map_threshold": limit}
    run(tiny_model, folder, tmp_path / "out", threshold=min(scores.values()), **options)
    pictures = tmp_path / "out" / "report" / "pictures"
    for name in names:
        assert opened((pictures / crops_name(picture_name(name))).read_bytes()).shape[0] == 280
    columns = island((tmp_path / "out" / NAME).read_text())["columns"]
    assert all(entry.startswith("data:image/webp") for entry in columns["crops"])
    run(tiny_model, folder, tmp_path / "none", threshold=max(scores.values()) + 1, **options)
    high = {name for name in names if scores[name] >= 0.5}
    shown = {entry.name for entry in read_run(tmp_path / "none").entries if entry.crops}
    assert shown == high


def test_of_a_page_too_large_to_be_decoded_its_parts_are_read(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "MAX_PIXELS", 10_000)
    monkeypatch.setattr(pages.Picture, "read", lambda *_: pytest.fail("decoded at once"))
    large = np.asarray(picture(3, (400, 300)))
    (tmp_path / "in").mkdir()
    imwrite(tmp_path / "in" / "a.tif", large, photometric="rgb", tile=(64, 64))
    options = {"threshold": 0.0, "map_threshold": 0.0, "report": True, "tile": 96}
    assert run(tiny_model, tmp_path / "in", tmp_path / "out", **options).failed == 0
    (file,) = (tmp_path / "out" / "report" / "pictures").glob("*.crops.webp")
    inside = np.s_[20:160, 20:220]  # of the frame
    expected = np.asarray(Image.fromarray(large).resize((240, 180), Image.Resampling.BICUBIC))
    assert np.abs(opened(file.read_bytes())[inside] - expected[inside]).mean() < 4
