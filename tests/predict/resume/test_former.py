"""A run into a folder with the results of another: none of them stays next to the new rows."""

from __future__ import annotations

import json

import pytest

from bayes_pfl.predict.former import remove_pictures
from tests.helpers.killing import files_of, same
from tests.predict.resume.stops import JOURNAL, Stop, entries

ALL = {"maps": "png16", "overlays": True, "report": True, "map_threshold": 0.2}
ALL |= {"formats": ("labelme", "masks", "coco"), "threshold": 0.0}
FEWER = {"maps": "npy", "overlays": True, "report": False, "class_name": "bolt"}


@pytest.fixture
def former(predict, tmp_path):
    """The folder of a finished run with every kind of file."""
    predict(**ALL)
    return tmp_path / "out"


def pictures_of(out):
    return {path: data for path, data in files_of(out).items() if "/" in path}


def test_another_run_leaves_nothing_of_the_former_one(predict, former, folder, tmp_path):
    own = former / "maps" / "of the city.png"
    own.write_bytes(b"the user's")
    for name in ("00.png", "07.png"):
        (folder / name).unlink()
    (folder / "03.png").rename(folder / "deeper.png")
    predict(**FEWER)
    assert own.read_bytes() == b"the user's"
    own.unlink()
    predict("fresh", **FEWER)
    left = pictures_of(former)
    assert left.pop("report/pictures/settings.json")
    same(left, pictures_of(tmp_path / "fresh"))
    assert sorted(path.name for path in former.iterdir() if path.is_dir()) == [
        "maps",
        "overlays",
        "report",
    ]


@pytest.mark.parametrize("damaged", [3, 9])
def test_it_goes_also_where_the_journal_is_damaged(predict, former, folder, damaged):
    lines = (former / JOURNAL).read_bytes().splitlines(keepends=True)
    (former / JOURNAL).write_bytes(b"".join([*lines[:damaged], b"{\n", *lines[damaged:]]))
    for path in folder.glob("0[1-9].png"):
        path.unlink()
    predict(overwrite=True, maps="png16", overlays=True)
    assert sorted(path for path in pictures_of(former) if "report" not in path) == [
        "maps/00.png.png",
        "overlays/00.png.png",
    ]


def test_a_run_that_goes_on_removes_the_files_of_images_that_are_gone(predict, folder, tmp_path):
    settings = {"maps": "png16", "overlays": True}
    with pytest.raises(KeyboardInterrupt):
        predict(progress=Stop(6), **settings)
    (folder / "02.png").unlink()
    assert predict(resume=True, **settings).dropped == 1
    predict("fresh", **settings)
    assert sorted(pictures_of(tmp_path / "out")) == sorted(pictures_of(tmp_path / "fresh"))


@pytest.mark.parametrize(
    "entry",
    [
        {"path": "../../in/00"},
        {"path": "{in}/00"},
        {"path": "a\0b"},
        {"path": "a", "page": "../../00.png"},
        {"path": 3},
        {"journal": "bayes-pfl prediction"},
    ],
)
def test_a_journal_leads_to_no_file_outside(tmp_path, folder, entry):
    entry = json.loads(json.dumps(entry).replace("{in}", str(folder)))
    before = files_of(folder)
    remove_pictures(tmp_path / "out", [entry])
    assert files_of(folder) == before and len(before) == 10


def test_the_journal_of_the_new_run_is_its_own(predict, former):
    predict(**FEWER)
    assert {entry["class_name"] for entry in entries(former)} == {"bolt"}
