"""Copies at full resolution beside a report: complete, bounded, and removed with their run."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image

from bayes_pfl.detect.regions import Box
from bayes_pfl.report.pictures import picture_name
from bayes_pfl.report.runs import read_run
from bayes_pfl.report.zoom import FOLDER, TILE, ZoomFolder, last_file, zoom_path
from tests.helpers.folders import picture, run

NAME = picture_name("a.png")
LONG = (4200, 1100)


def tiles_of(folder, level, size):
    """The tiles of a level put together, int (h, w, 3)."""
    page = Image.new("RGB", size)
    for path in folder.glob(f"{level}-*.jpg"):
        _, column, row = map(int, path.stem.split("-"))
        with Image.open(path) as tile:
            page.paste(tile, (column * TILE, row * TILE))
    return np.asarray(page).astype(int)


def test_every_level_shows_the_whole_picture(tmp_path):
    large = picture(1, LONG)
    asked = []

    def cut(box):
        asked.append(box)
        return large.crop(box)

    assert ZoomFolder(tmp_path).write(NAME, cut, LONG) is None
    assert asked == [Box(0, 0, 4200, 1024), Box(0, 1024, 4200, 1100)]  # a band of it at a time
    folder = tmp_path / zoom_path(NAME)
    assert len(list(folder.iterdir())) == 10 + 3 + 2 + 1 and (folder / last_file(LONG)).is_file()
    for level, size in enumerate([LONG, (2100, 550), (1050, 275), (525, 138)]):
        wanted = np.asarray(large.resize(size, Image.Resampling.BOX)).astype(int)
        assert np.abs(tiles_of(folder, level, size) - wanted).mean() < 4


@pytest.mark.parametrize("size", [(4096, 3), (1, 1), (500, 700)])
def test_a_picture_of_4096_pixels_a_side_is_one_file(tmp_path, size):
    assert ZoomFolder(tmp_path).write(NAME, Image.new("RGB", size).crop, size) is None
    (path,) = (tmp_path / zoom_path(NAME)).iterdir()
    with Image.open(path) as copy:
        assert (path.name, copy.size) == ("0-0-0.jpg", size)


def test_copies_are_bounded_and_removed_with_their_run(tmp_path):
    small, asked = Image.new("RGB", (9, 9)), {"size": (9, 9)}
    copies = ZoomFolder(tmp_path, max_bytes=1)
    for name in (NAME, picture_name("b.png")):
        assert copies.write(name, small.crop, **asked) is None
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == [zoom_path(NAME)[-24:]]
    own = tmp_path / zoom_path(NAME) / "own.txt"
    own.write_text("")
    again = ZoomFolder(tmp_path, max_bytes=1)
    again.prepare(resume=True)
    assert again.used > 1
    again.prepare(resume=False)
    assert list((tmp_path / FOLDER).rglob("*")) == [own.parent, own]
    wide = ZoomFolder(tmp_path)
    assert wide.write(NAME, small.crop, (2**15 + 1, 1)) is None and wide.used == 0
    assert "not written" in wide.write("no/such.webp/\0", small.crop, **asked)


def test_runs_keep_the_pictures_that_are_asked_for(tiny_model, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    sizes = {"large.png": (1300, 900), "<b>middle.png": (500, 400), "small.png": (300, 200)}
    for name, size in sizes.items():
        picture(1, size).save(folder / name)
    options = {"report": True, "overlays": False, "threshold": 1.1}
    wanted = {"all": {"large.png", "<b>middle.png"}, "anomalous": set(), "none": set()}
    for zoom, names in wanted.items():
        run(tiny_model, folder, tmp_path / "out", zoom=zoom, overwrite=True, **options)
        entries = read_run(tmp_path / "out").entries
        with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
            high = {row["path"] for row in csv.DictReader(file) if float(row["score"]) >= 0.5}
        names = high - {"small.png"} if zoom == "anomalous" else names
        assert {entry.name for entry in entries if entry.zoom} == names
        assert {entry.zoom for entry in entries} - {""} == {
            zoom_path(picture_name(n)) for n in names
        }
