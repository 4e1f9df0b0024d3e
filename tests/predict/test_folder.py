"""Folders of images: what is written, and that it depends on nothing else."""

import json
import os
import sys

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from bayes_pfl.data import decoding
from bayes_pfl.detect.overlays import MAX_SIDE
from bayes_pfl.predict.folder import predict_folder
from bayes_pfl.predict.output import encode_map
from bayes_pfl.predict.rows import Row
from bayes_pfl.predict.settings import FolderSettings
from bayes_pfl.predict.tables import table_of_rows
from bayes_pfl.support.files import mirrored
from tests.helpers.folders import Counting, picture, rows_of, run, save

COLUMNS = ["path", "class_name", "score", "label", "uncertainty", "text_score", "map_score"]
COLUMNS += ["width", "height", "error", "score_low", "score_high", "needs_review", "p_value"]
COLUMNS += ["words_score", "memory_score", "compared_with", "page", "regions", "tile"]


def assert_rows_equal(left, right):
    for a, b in zip(left, right, strict=True):
        for name in COLUMNS:
            if a[name] and (name in ("uncertainty", "map_score") or "score" in name):
                assert float(a[name]) == pytest.approx(float(b[name]), abs=2e-6)
            else:
                assert a[name] == b[name]


@pytest.fixture(scope="module")
def messy(tmp_path_factory):
    """Every kind of image there is, good and bad."""
    folder = tmp_path_factory.mktemp("messy") / "in put"
    save(folder, ["a.png", "line b/c.PNG", "line b/deep/ä ö 漢字.png", "equal.png"])
    image = picture(9)
    image.save(folder / "equal.jpg")
    image.convert("RGBA").save(folder / "rgba.png")
    image.convert("P").save(folder / "palette.png")
    image.convert("L").save(folder / "grey.bmp")
    deep = np.asarray(image.convert("L")).astype(np.uint16) * 257
    Image.fromarray(deep).save(folder / "deep.png")
    cv2.imwrite(str(folder / "deep colour.tif"), np.asarray(image).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(folder / "turned.jpg", exif=exif)
    Image.new("RGB", (1, 1), "red").save(folder / "one.png")
    picture(3, (1, 2000)).save(folder / "tall.png")
    (folder / "empty.png").touch()
    (folder / "text.jpg").write_text("no image")
    cut = (folder / "a.png").read_bytes()
    (folder / "cut.png").write_bytes(cut[: len(cut) // 2])
    (folder / "notes.txt").write_text("not looked at")
    return folder


BAD = {"cut.png", "empty.png", "text.jpg"}


@pytest.fixture(scope="module")
def messy_run(tiny_model, messy, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "new" / "folder"
    progress = Counting()
    summary = predict_folder(
        tiny_model,
        messy,
        out,
        class_name="metal nut",
        checkpoint="tiny",
        progress=progress,
        settings=FolderSettings(batch_size=3, threshold=0.6, map_threshold=0.6),
    )
    assert (progress.steps, progress.done) == (16, 16)
    return summary, out


def test_one_row_per_image_sorted_by_path(messy_run):
    summary, out = messy_run
    rows = rows_of(out)
    assert list(rows[0]) == COLUMNS
    paths = [row["path"] for row in rows]
    assert len(paths) == 16
    assert paths == sorted(paths, key=lambda path: path.split("/"))
    assert "line b/deep/ä ö 漢字.png" in paths and "notes.txt" not in paths


def test_good_rows_equal_predict(tiny_model, messy, messy_run):
    for row in rows_of(messy_run[1]):
        if row["path"] in BAD:
            continue
        result = tiny_model.predict(messy / row["path"], "metal nut")
        for name in ("score", "text_score", "map_score", "uncertainty"):
            assert float(row[name]) == pytest.approx(getattr(result, name), abs=1e-5)
        assert (int(row["width"]), int(row["height"])) == result.size
        low, high = float(row["score_low"]), float(row["score_high"])
        assert (low, high) == pytest.approx(result.interval, abs=1e-5)
        assert row["label"] == str(int(result.score >= 0.6))
        assert row["needs_review"] == row["p_value"] == ""  # of a threshold of the user
        assert (row["class_name"], row["error"]) == ("metal nut", "")


def test_bad_files_are_rows_with_their_reason(messy_run):
    summary, out = messy_run
    bad = {row["path"]: row for row in rows_of(out) if row["error"]}
    assert set(bad) == BAD
    assert "empty (0 bytes)" in bad["empty.png"]["error"]
    assert "not an image" in bad["text.jpg"]["error"]
    assert "cut short" in bad["cut.png"]["error"]
    for row in bad.values():
        assert row["score"] == row["label"] == row["width"] == ""
        assert "\n" not in row["error"] and "/" not in row["error"]
    assert (summary.images, summary.succeeded, summary.failed) == (16, 13, 3)
    assert dict(summary.failures) == {path: row["error"] for path, row in bad.items()}


def test_the_turn_in_the_exif_data_is_taken(messy_run):
    sizes = {row["path"]: (row["width"], row["height"]) for row in rows_of(messy_run[1])}
    assert sizes["turned.jpg"] == ("30", "40")
    assert sizes["tall.png"] == ("1", "2000")


def test_maps_and_overlays_mirror_the_whole_names(tiny_model, messy, messy_run):
    _, out = messy_run
    good = {row["path"] for row in rows_of(out)} - BAD
    for kind in ("maps", "overlays"):
        written = {p.relative_to(out / kind).as_posix() for p in (out / kind).rglob("*.*")}
        assert written == {f"{path}.png" for path in good}
    for path in ("equal.png", "equal.jpg", "line b/deep/ä ö 漢字.png"):
        stored = np.asarray(Image.open(out / "maps" / f"{path}.png"))
        result = tiny_model.predict(messy / path, "metal nut")
        assert stored.dtype == np.uint16 and stored.shape == result.anomaly_map.shape
        np.testing.assert_allclose(stored / 65535, result.anomaly_map, rtol=0, atol=2e-5)
        drawn = np.asarray(Image.open(out / "overlays" / f"{path}.png")).astype(int)
        wanted = np.asarray(result.overlay(threshold=0.6, title=path)).astype(int)
        assert drawn.shape == wanted.shape
        # The folder's overlay comes from the map at the model's size: colours differ by little.
        assert np.abs(drawn - wanted).mean() < 2


def test_summary_tells_how_it_was_made(messy_run):
    summary, out = messy_run
    stored = json.loads((out / "summary.json").read_text())
    assert stored["checkpoint"] == "tiny"
    assert stored["settings"]["samples"] == 3 and stored["settings"]["threshold"] == 0.6
    assert stored["environment"]["device"] == "cpu" and stored["environment"]["packages"]["torch"]
    assert stored["model"]["scoring"]["samples"] == 3
    assert stored["failed"] == 3 and stored["images_per_second"] > 0
    rows = [row for row in rows_of(out) if row["score"]]
    assert stored["anomalous"] == sum(int(row["label"]) for row in rows) == summary.anomalous
    best = sorted((float(row["score"]) for row in rows), reverse=True)[:5]
    assert [score for _, score in stored["highest"]] == pytest.approx(best, abs=1e-6)
    assert summary.predictions == out / "predictions.csv"


def test_nothing_is_left_behind(messy_run):
    _, out = messy_run
    assert {path.name for path in out.iterdir()} == {
        "predictions.csv",
        "predictions.journal.jsonl",
        "regions.csv",
        "summary.json",
        "maps",
        "overlays",
        "report",
        "report.html",
    }
    assert not [path for path in out.rglob(".*")]


@pytest.mark.parametrize("options", [{"workers": 2, "batch_size": 5}, {"batch_size": 1}])
def test_workers_and_batch_size_change_nothing(tiny_model, messy, messy_run, tmp_path, options):
    run(tiny_model, messy, tmp_path, threshold=0.6, map_threshold=0.6, **options)
    assert_rows_equal(rows_of(tmp_path), rows_of(messy_run[1]))
    assert not (tmp_path / "maps").exists() and not (tmp_path / "overlays").exists()


def test_other_files_in_the_folder_change_nothing(tiny_model, messy, messy_run, tmp_path):
    part = save(tmp_path / "part", ["a.png"])
    run(tiny_model, part, tmp_path / "out")
    before = next(row for row in rows_of(messy_run[1]) if row["path"] == "a.png")
    assert float(rows_of(tmp_path / "out")[0]["score"]) == pytest.approx(
        float(before["score"]), abs=2e-6
    )


def test_labels_only_with_a_threshold(tiny_model, tmp_path):
    folder = save(tmp_path / "in", ["a.png"])
    summary = run(tiny_model, folder, tmp_path / "out")
    (row,) = rows_of(tmp_path / "out")
    assert row["label"] == row["needs_review"] == "" and row["score_low"] != ""
    assert summary.anomalous is summary.review is None


def test_npy_maps(tiny_model, tmp_path):
    folder = save(tmp_path / "in", ["a.png"])
    run(tiny_model, folder, tmp_path / "out", maps="npy")
    stored = np.load(tmp_path / "out/maps/a.png.npy")
    result = tiny_model.predict(folder / "a.png", "metal nut")
    assert stored.dtype == np.float32
    np.testing.assert_allclose(stored, result.anomaly_map, rtol=0, atol=1e-5)


def test_large_pictures_are_reduced_for_the_overlay(tiny_model, tmp_path):
    folder = save(tmp_path / "in", ["a.png"], size=(2500, 1500))
    run(tiny_model, folder, tmp_path / "out", overlays=True)
    result = tiny_model.predict(folder / "a.png", "metal nut")
    drawn = Image.open(tmp_path / "out/overlays/a.png.png")
    assert drawn.size == result.overlay(title="a.png").size
    assert drawn.width < 3 * MAX_SIDE


def test_output_inside_the_input_is_not_taken_for_input(tiny_model, tmp_path):
    names = ["a.png", "maps/mine.png", "out/kept.png"]
    folder = save(tmp_path, names)
    for out in ("out", "out", "other"):
        run(tiny_model, folder, folder / out, maps="png16", overlays=True)
        assert [row["path"] for row in rows_of(folder / out)] == names


def test_the_input_folder_can_take_the_output(tiny_model, tmp_path):
    folder = save(tmp_path, ["a.png", "b/c.png"])
    for _ in range(2):
        run(tiny_model, folder, folder, maps="png16", overlays=True)
        assert [row["path"] for row in rows_of(folder)] == ["a.png", "b/c.png"]


ODD_NAMES = [
    "=1+1.png",
    "+a.png",
    "-b.png",
    "@c.png",
    "two\nlines.png",
    "carriage\rreturn.png",
    'quote".png',
    "comma, semicolon;.png",
    " blank .png",
    "tab\t.png",
    "e\u0301.png",
]


@pytest.mark.skipif(sys.platform == "win32", reason="such names are not allowed there")
def test_odd_names_survive(tiny_model, tmp_path):
    folder = save(tmp_path / "in", ODD_NAMES)
    names = list(ODD_NAMES)
    undecodable = os.fsdecode(b"caf\xe9.png")
    try:
        save(folder, [undecodable])
        names.append(undecodable)
    except (OSError, UnicodeError):
        pass  # a file system that takes UTF-8 only
    summary = run(tiny_model, folder, tmp_path / "out", maps="png16", overlays=True, workers=1)
    assert summary.failed == 0
    assert sorted(row["path"] for row in rows_of(tmp_path / "out")) == sorted(names)
    for name in names:
        assert (folder / name).is_file()
        assert (tmp_path / "out" / "maps" / mirrored(name, ".png")).is_file()
    highest = json.loads((tmp_path / "out/summary.json").read_text())["highest"]
    assert {path for path, _ in highest} <= set(names)


def test_text_is_quoted_and_figures_are_not(tmp_path):
    with table_of_rows(tmp_path / "p.csv") as write:
        write(Row("=cmd.png", "wood", score=0.25, label=1, width=3))
    line = (tmp_path / "p.csv").read_text().splitlines()[1]
    assert line == '"=cmd.png","wood",0.25,1,"","","",3,"","","","","","","","","","","",""'


def test_the_table_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), table_of_rows(path) as write:
        write(Row("a.png", "wood"))
        raise KeyboardInterrupt
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_nothing_global_changes(tiny_model, tmp_path):
    folder = save(tmp_path / "in", ["a.png", "b.png"])

    def state():
        return torch.get_rng_state().tolist(), torch.get_num_threads(), os.getcwd()

    before = state()
    run(tiny_model, folder, tmp_path / "out", workers=1, overlays=True)
    assert state() == before


def test_read_ahead_passes_items_and_errors_on():
    def items():
        yield 1
        yield 2
        raise OSError("gone")

    source = decoding.read_ahead(items(), depth=1)
    assert [next(source), next(source)] == [1, 2]
    with pytest.raises(OSError, match="gone"):
        next(source)


@pytest.mark.parametrize("rows", [1, 255, 256, 700])
def test_deep_maps_round_to_the_nearest_step(rows):
    values = np.random.default_rng(0).random((rows, 3), dtype=np.float32)
    values[0] = [0, 1, 0.5]
    import io

    stored = np.asarray(Image.open(io.BytesIO(encode_map(values, "png16"))))
    assert stored[0].tolist() == [0, 65535, 32768]
    np.testing.assert_allclose(stored / 65535, values, rtol=0, atol=0.51 / 65535)
