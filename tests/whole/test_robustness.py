"""Every kind of bad input that docs/robustness.md lists: one line, never a traceback or a lie."""

from __future__ import annotations

import csv

import pytest

from bayes_pfl.predict.folder import predict_folder
from bayes_pfl.predict.settings import FolderSettings
from tests.bad_input import images, sections, table
from tests.bad_input.case import World
from tests.helpers.paths import ROOT

PAGE = ROOT / "docs" / "robustness.md"
CASES = [case for cases in sections().values() for case in cases]


@pytest.fixture(scope="module")
def rows(tiny_model, tmp_path_factory):
    """One run over all the bad images: rows of its table by path."""
    folder = tmp_path_factory.mktemp("bad images")
    images.write_all(folder)
    out = tmp_path_factory.mktemp("out")
    settings = FolderSettings(samples=0, maps="none", overlays=False, report=False)
    summary = predict_folder(tiny_model, folder, out, class_name="nut", settings=settings)
    assert summary.images == len(images.FILES) + len(images.REFERENCES)
    with (out / "predictions.csv").open(encoding="utf-8", newline="") as file:
        return {row["path"]: row for row in csv.DictReader(file)}


@pytest.fixture
def world(tmp_path, run, tiny_model, checkpoint_dir, clip_dir, rows):
    return World(tmp_path, run, tiny_model, checkpoint_dir, clip_dir, rows)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind)
def test_what_the_user_sees(case, world):
    case.check(world)


def test_the_page_lists_these_kinds_and_no_others():
    assert len(CASES) == len({case.kind for case in CASES}) > 40
    page = PAGE.read_text(encoding="utf-8")
    for title, cases in sections().items():
        wanted = f"\n## {title}\n"
        assert wanted in page
        part = page.split(wanted)[1].split("\n## ")[0]
        assert table(cases) in part, f"python -m tests.bad_input prints the table of {title!r}"
        assert part.count("\n| ") == len(cases) + 1
