"""Profiles in the app: fitted from dropped pictures, kept, and chosen from."""

from __future__ import annotations

import csv
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bayes_pfl.app.fitting import FITTED, NONE, FitRequest, Profiles, fit_dropped
from bayes_pfl.app.inspection import AppSettings, InspectionRequest, Inspector
from bayes_pfl.app.run_files import RunFiles
from bayes_pfl.errors import ConfigError, DataError
from bayes_pfl.fit.profile_files import load_profile
from bayes_pfl.report.runs import read_run
from tests.fit.test_references import spotted, texture

HOSTILE = "<img src=x onerror=alert(1)>.png"


@pytest.fixture(scope="module")
def dropped(tmp_path_factory):
    """Sound pictures in folders of their own, as uploads are, one with a name used twice."""
    folder, paths = tmp_path_factory.mktemp("uploads"), []
    for seed in range(5):
        path = folder / str(seed) / ("same.png" if seed < 2 else f"{seed}.png")
        path.parent.mkdir()
        Image.fromarray(texture(seed)).save(path)
        paths.append(str(path))
    return paths


def inspector(checkpoint, **limits):
    return Inspector(AppSettings((str(checkpoint),), device="cpu", **limits))


def wanted(own, **changes):
    return FitRequest(own.settings.checkpoints[0], "part", samples=2, **changes)


def test_a_fit_is_that_of_the_command(checkpoint_dir, dropped, tmp_path):
    own, broken = inspector(checkpoint_dir), tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    found = fit_dropped(own, [*dropped, str(broken)], wanted(own), tmp_path / "own")
    assert [path for path, _ in found.skipped] == ["broken.png"]
    assert "not an image" in found.skipped[0][1]
    profile = load_profile(tmp_path / "own" / "profile")
    assert profile.class_name == "part" and profile.missing == 14
    names = {picture.name for picture in profile.pictures}
    assert names == {"same.png", "2 same.png", "2.png", "3.png", "4.png"}
    with zipfile.ZipFile(tmp_path / "own" / "profile.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    assert load_profile(tmp_path / "unpacked" / "profile").sha256 == profile.sha256
    assert {path.name for path in (tmp_path / "own").iterdir()} == {"profile", "profile.zip"}
    assert not own.alone().locked()


@pytest.mark.parametrize(
    ("limits", "reason"),
    [({"max_files": 2}, "5 images: 2 at once"), ({"max_seconds": 0.0}, "more than 0 seconds"),
     ({"max_pixels": 9}, "no picture could be read: same.png: .*pixels")],
)  # fmt: skip
def test_fits_have_limits(checkpoint_dir, dropped, tmp_path, limits, reason):
    own = inspector(checkpoint_dir, **limits)
    with pytest.raises((ConfigError, DataError), match=reason):
        fit_dropped(own, dropped, wanted(own), tmp_path / "own")
    assert not own.alone().locked() and not (tmp_path / "own" / "dropped").exists()


@pytest.fixture(scope="module")
def shelf(checkpoint_dir, dropped, tmp_path_factory):
    """Profiles: one given, one saved, one fitted by a visitor."""
    base = tmp_path_factory.mktemp("profiles")
    own = inspector(checkpoint_dir)
    for name in ("given", "shelf/nut", "own"):
        fit_dropped(own, dropped, wanted(own), base / name)
    (base / "shelf" / "nut" / "profile").rename(base / "shelf" / "bolt M8")
    return Profiles(base / "given" / "profile", base / "shelf"), base / "own" / "profile"


def test_profiles_are_chosen_by_name(shelf, tmp_path):
    profiles, fitted = shelf
    assert profiles.names(fitted) == [NONE, "profile", FITTED, "bolt M8"]
    assert profiles.names(tmp_path) == [NONE, "profile", "bolt M8"]
    paths = [profiles.path_of(name, fitted) for name in profiles.names(fitted)]
    assert paths == [None, profiles.given, fitted, profiles.folder / "bolt M8"]
    for name in ("nut", "../own/profile", "bolt M8/", str(fitted), "", "\0"):
        with pytest.raises(ConfigError, match="not on offer"):
            profiles.path_of(name, tmp_path)
    with pytest.raises(ConfigError, match="not on offer"):
        profiles.path_of(FITTED, tmp_path)


def test_new_profiles_stay_in_their_folder(shelf):
    profiles, _ = shelf
    assert profiles.place_for("Nut 5.2_a-b") == profiles.folder / "Nut 5.2_a-b"
    for name in ("..", ".hidden", "a/b", "a\\b", "/etc", "a\0", "a\n", "a ", "b" * 65, NONE):
        with pytest.raises(ConfigError, match="give letters, digits"):
            profiles.place_for(name)
    for name in ("bolt M8", "profile"):
        with pytest.raises(ConfigError, match="is taken"):
            profiles.place_for(name)
    with pytest.raises(ConfigError, match="--profiles FOLDER"):
        Profiles(None, None).place_for("a")


def test_table_and_page_of_an_inspection(checkpoint_dir, shelf, tmp_path):
    profiles, fitted = shelf
    own, paths = inspector(checkpoint_dir), []
    for place, pixels in (("a/" + HOSTILE, texture(90)), ("b/" + HOSTILE, spotted(91))):
        path = tmp_path / place
        path.parent.mkdir()
        Image.fromarray(pixels).save(path)
        paths.append(str(path))
    (tmp_path / "broken.png").write_bytes(b"nothing")
    paths.append(str(tmp_path / "broken.png"))
    asked = InspectionRequest(own.settings.checkpoints[0], "", 2, 0.5, profile=fitted)
    out = tmp_path / "out"
    out.mkdir()
    files = RunFiles(out, own, asked, len(paths))
    assert files.finish(0.0) == []
    items = list(own.inspect(paths, asked))
    for item in items:
        files.add(item)
    table, page = files.finish(1.0)
    with Path(table).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [HOSTILE, f"2/{HOSTILE}", "broken.png"]
    for row, item in zip(rows, items[:2], strict=False):
        assert float(row["score"]) == pytest.approx(item.result.score, abs=1e-6)
        assert row["label"] == str(item.result.label) and row["class_name"] == "part"
    assert "not an image" in rows[2]["error"]
    made, text = read_run(out), page.read_text(encoding="utf-8")
    assert made.threshold == 0.5 and dict(made.head)["Profile"] == "profile"
    assert "<img src=x" not in text and str(tmp_path) not in text
    assert len(set(re.findall(r"data:image/webp;base64,[^\"]+", text))) >= 2
    near = np.array([bool(entry.near) for entry in made.entries])
    assert (near == [bool(item.near) for item in items]).all()
