"""Pages and frames in runs: each is an image of its own, with its row, files, card and key."""

import numpy as np
import pytest
from PIL import Image

from bayes_pfl.data.pages import read_pages
from bayes_pfl.data.records import DatasetWarning
from bayes_pfl.errors import ConfigError
from bayes_pfl.fit.fit import FitOptions, fit_folder
from bayes_pfl.fit.profile_files import load_profile, save_profile
from bayes_pfl.report.runs import read_run
from tests.helpers.dicom import write_dicom
from tests.helpers.folders import Counting, picture, rows_of, run
from tests.helpers.stacks import cut, damage, stack

ALL = {"maps": "png16", "overlays": True, "report": True}


def by_key(out):
    return {(row["path"], row["page"]): row for row in rows_of(out)}


def test_each_page_is_an_image_of_its_own(tiny_model, tmp_path):
    folder, alone, out = tmp_path / "in", tmp_path / "alone", tmp_path / "out"
    stack(folder / "b/s.tif", 12)
    picture(20).save(folder / "a.png")
    for page in range(12):
        alone.mkdir(exist_ok=True)
        picture(page).save(alone / f"{page + 1:02d}.png")
    summary = run(tiny_model, folder, out, **ALL)
    assert (summary.images, summary.failed) == (13, 0)
    rows = rows_of(out)
    keys = [("a.png", "")] + [("b/s.tif", str(page)) for page in range(1, 13)]
    assert [(row["path"], row["page"]) for row in rows] == keys
    run(tiny_model, alone, tmp_path / "single")
    for row, wanted in zip(rows[1:], rows_of(tmp_path / "single"), strict=True):
        assert float(row["score"]) == pytest.approx(float(wanted["score"]), abs=2e-6)
        file = f"b/s.tif.page{int(row['page']):05}.png"
        with Image.open(out / "maps" / file) as anomaly_map:
            assert anomaly_map.size == (40, 30)
        assert (out / "overlays" / file).is_file()
    assert (out / "maps/a.png.png").is_file() and len(list(out.glob("maps/b/*"))) == 12
    entries = read_run(out).entries
    names = [entry.name for entry in entries]
    assert names[:3] == ["a.png", "b/s.tif, page 1", "b/s.tif, page 2"]
    assert len({entry.picture for entry in entries}) == len({entry.link for entry in entries}) == 13
    assert all((out / entry.picture).is_file() for entry in entries)
    assert all(" page " in name or name == "a.png" for name, _ in summary.highest)


def test_what_is_wrong_with_a_page_stays_with_it(tiny_model, tmp_path):
    damage(stack(tmp_path / "in/a.tif", 4), 2)
    cut(stack(tmp_path / "in/b.tif", 4), 3)
    summary = run(tiny_model, tmp_path / "in", tmp_path / "out")
    rows = by_key(tmp_path / "out")
    assert len(rows) == 7 and summary.failed == 2
    failed = {key for key, row in rows.items() if row["error"]}
    assert failed == {("a.tif", "2"), ("b.tif", "3")}
    assert rows["a.tif", "2"]["error"].startswith("damaged or cut short (")
    assert rows["b.tif", "3"]["error"] == "damaged or cut short before this page"
    assert [name for name, _ in summary.failures] == ["a.tif, page 2", "b.tif, page 3"]


def test_a_run_that_stopped_within_a_stack_goes_on_there(tiny_model, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    stack(folder / "a.tif", 6)
    stack(folder / "b.tif", 2, first=6)
    options = {**ALL, "batch_size": 2}
    with pytest.raises(KeyboardInterrupt, match="4 of 8 images are done"):
        run(tiny_model, folder, out, progress=Counting(4), **options)
    (out / "overlays/a.tif.page00003.png").unlink()
    summary = run(tiny_model, folder, out, resume=True, **options)
    assert (summary.images, summary.resumed) == (8, 3)
    run(tiny_model, folder, tmp_path / "whole", **options)
    assert rows_of(out) == rows_of(tmp_path / "whole")
    assert (out / "overlays/a.tif.page00003.png").is_file()
    stack(folder / "b.tif", 3, first=6)
    with pytest.raises(ConfigError, match="2 images have changed .*'b.tif, page 1'"):
        run(tiny_model, folder, out, resume=True, **options)


def test_pages_are_compared_with_each_other(tiny_model, tmp_path):
    stack(tmp_path / "in/a.tif", 9)
    summary = run(tiny_model, tmp_path / "in", tmp_path / "out", mutual=9)
    assert summary.mutual["pictures"] == 9 and not summary.failed


def test_one_path_gives_one_result_and_says_that_there_are_more(tiny_model, tmp_path):
    path = stack(tmp_path / "a.tif", 3)
    with pytest.warns(DatasetWarning, match="several pages, of which the first .*read_pages"):
        result = tiny_model.predict(path, "nut", samples=2)
    pages = tiny_model.predict(list(read_pages(path)), "nut", samples=2)
    assert [page.score for page in pages][0] == pytest.approx(result.score, abs=1e-6)
    assert len({page.score for page in pages}) == 3


def test_a_profile_is_fitted_on_every_page(tiny_model, tmp_path):
    stack(tmp_path / "in/a.tif", 4)
    damage(stack(tmp_path / "in/b.tif", 2, first=4), 2)
    (tmp_path / "in/c.npy").touch()
    found = fit_folder(tiny_model, tmp_path / "in", "nut", FitOptions(keep_outliers=True))
    names = {one.name for one in found.profile.pictures}
    assert names == {f"a.tif, page {page}" for page in range(1, 5)} | {"b.tif, page 1"}
    ((skipped, reason),) = found.skipped
    assert skipped.endswith("b.tif, page 2") and "damaged or cut short" in reason
    assert "files of kinds that are not read (.npy): 1" in found.remarks[0]


def test_a_window_is_part_of_a_run_and_of_a_profile(tiny_model, tmp_path):
    folder, options = tmp_path / "in", {"window": (100.0, 80.0)}
    folder.mkdir()
    for number in range(3):
        values = np.asarray(picture(number).convert("L")).astype(np.uint8)
        write_dicom(folder / f"{number}.dcm", values, WindowCenter=128, WindowWidth=256)
    run(tiny_model, folder, tmp_path / "own")
    given = run(tiny_model, folder, tmp_path / "out", **options)
    assert given.settings["window"] == (100.0, 80.0)
    scores = [[row["score"] for row in rows_of(tmp_path / out)] for out in ("own", "out")]
    assert scores[0] != scores[1]
    assert run(tiny_model, folder, tmp_path / "out", resume=True, **options).resumed == 3
    made = fit_folder(tiny_model, folder, "metal nut", FitOptions(**options)).profile
    profile = load_profile(save_profile(made, tmp_path / "profile"))
    run(tiny_model, folder, tmp_path / "with", profile=profile, **options)
    with pytest.raises(ConfigError, match=r"window = None, but it was made with \(100.0, 80.0\)"):
        run(tiny_model, folder, tmp_path / "without", profile=profile)
    seen = tiny_model.predict(str(folder / "0.dcm"), "nut", samples=0, **options)
    shown = np.asarray(seen.overlay(max_side=40))
    assert not np.array_equal(
        shown,
        np.asarray(
            tiny_model.predict(str(folder / "0.dcm"), "nut", samples=0).overlay(max_side=40)
        ),
    )


@pytest.mark.parametrize("window", [(1, 0), (1, -2), (float("nan"), 1), (1,), "40,400", [40, 400]])
def test_windows_that_cannot_be_used(window):
    with pytest.raises(ConfigError, match="window = .*: give two numbers"):
        FitOptions(window=window)
