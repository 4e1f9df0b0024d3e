"""Folders of images where something goes wrong: the row at fault is told, all others are kept."""

import errno
import os
import sys
from pathlib import Path

import pytest

from bayes_pfl.data.pages import Picture
from bayes_pfl.errors import ConfigError, DataError
from tests.helpers.folders import Counting, rows_of, run, save


def test_an_interrupted_run_leaves_no_table_and_no_thread(tiny_model, tmp_path):
    import threading

    folder = save(tmp_path / "in", [f"{k}.png" for k in range(30)])
    before = threading.active_count()  # other tests may have left some

    with pytest.raises(KeyboardInterrupt):
        run(tiny_model, folder, tmp_path / "out", batch_size=2, progress=Counting(stop=3))
    names = [path.name for path in (tmp_path / "out").iterdir()]
    assert names == ["predictions.journal.jsonl"]
    assert threading.active_count() == before


def test_a_map_that_cannot_be_written_costs_its_row_alone(tiny_model, tmp_path):
    folder = save(tmp_path / "in", ["a.png", "b.png"])
    (tmp_path / "out/maps/a.png.png/blocked").mkdir(parents=True)
    summary = run(tiny_model, folder, tmp_path / "out", maps="png16")
    first, second = rows_of(tmp_path / "out")
    assert first["error"].startswith("map not written: ") and float(first["score"]) > 0
    assert second["error"] == ""
    assert (summary.failed, summary.succeeded) == (1, 1)


def test_a_picture_that_cannot_be_drawn_costs_its_row_alone(tiny_model, tmp_path, monkeypatch):
    def fail(image, anomaly_map, *, title, **options):
        if title == "a.png":
            raise ValueError("no font\nhere")
        return image

    monkeypatch.setattr("bayes_pfl.predict.output.overlay", fail)
    folder = save(tmp_path / "in", ["a.png", "b.png"])
    run(tiny_model, folder, tmp_path / "out", overlays=True)
    errors = [row["error"] for row in rows_of(tmp_path / "out")]
    assert errors == ["overlay not written: no font here", ""]


def test_a_name_as_long_as_can_be(tiny_model, tmp_path):
    name = "n" * 251 + ".png"
    folder = save(tmp_path / "in", [name])
    run(tiny_model, folder, tmp_path / "out", maps="png16")
    (row,) = rows_of(tmp_path / "out")
    assert row["path"] == name and float(row["score"]) > 0
    assert not row["error"]
    (written,) = (tmp_path / "out" / "maps").iterdir()
    assert len(written.name) == 255 and written.name.startswith("n" * 200)


def test_linked_files_out_of_reach_are_rows(tiny_model, tmp_path):
    folder = save(tmp_path / "in", ["a.png"])
    try:
        (folder / "broken.png").symlink_to(folder / "gone.png")
    except OSError:
        pytest.skip("links are not allowed here")
    assert run(tiny_model, folder, tmp_path / "out").failed == 1
    assert "no such file" in rows_of(tmp_path / "out")[1]["error"]


def test_files_without_permission_are_rows(tiny_model, tmp_path, monkeypatch):
    opened = Path.open

    def forbidden(path, *arguments, **options):  # root may read whatever its mode is
        if path.name == "secret.png":
            raise PermissionError(errno.EACCES, "not for you")
        return opened(path, *arguments, **options)

    folder = save(tmp_path / "in", ["a.png", "secret.png"])
    monkeypatch.setattr(Path, "open", forbidden)
    assert run(tiny_model, folder, tmp_path / "out").failed == 1
    assert rows_of(tmp_path / "out")[1]["error"] == "cannot be read: not for you"


def test_all_files_bad_is_still_a_table(tiny_model, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").touch()
    summary = run(tiny_model, tmp_path / "in", tmp_path / "out", maps="png16", overlays=True)
    assert (summary.succeeded, summary.failed, summary.highest) == (0, 1, [])
    assert len(rows_of(tmp_path / "out")) == 1


def test_an_overflow_is_a_row_with_its_reason(tiny_model, tiny_config, tmp_path):
    from bayes_pfl import BayesPFL

    model = BayesPFL(tiny_config, tiny_model.backbone).eval()
    model.log_scale_image.data.fill_(float("nan"))
    folder = save(tmp_path / "in", ["a.png"])
    assert run(model, folder, tmp_path / "out", overlays=True).failed == 1
    assert "not finite" in rows_of(tmp_path / "out")[0]["error"]
    assert rows_of(tmp_path / "out")[0]["score"] == ""


def crash(path):
    os._exit(9)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs workers that fork")
def test_a_crashing_decoder_costs_its_file_alone(tiny_model, tmp_path, monkeypatch):
    folder = save(tmp_path / "in", ["a.png", "b.png", "c.png", "d.png", "e.png"])
    read = Picture.read
    monkeypatch.setattr(
        Picture,
        "read",
        lambda picture: (crash if picture.path.stem == "c" else read)(picture),
    )
    run(tiny_model, folder, tmp_path / "out", workers=1, batch_size=2)
    errors = {row["path"]: row["error"] for row in rows_of(tmp_path / "out")}
    assert list(errors) == ["a.png", "b.png", "c.png", "d.png", "e.png"]
    assert "crashed" in errors.pop("c.png") and not any(errors.values())


def test_folders_that_cannot_be_read(tiny_model, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(DataError, match="gone does not exist"):
        run(tiny_model, tmp_path / "gone", out)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=r"no images; .*\.png .*\.webp"):
        run(tiny_model, tmp_path, out)
    assert not out.exists()


def test_outputs_that_cannot_be_written(tiny_model, tmp_path):
    folder = save(tmp_path / "in", ["a.png"])
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file: cannot be written .it is a file.*choose"):
        run(tiny_model, folder, tmp_path / "file")
    with pytest.raises(ConfigError, match="below: cannot be written"):
        run(tiny_model, folder, tmp_path / "file" / "below")
    (tmp_path / "out" / "predictions.csv").mkdir(parents=True)
    with pytest.raises(ConfigError, match="out: cannot be written"):
        run(tiny_model, folder, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["predictions.csv"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"maps": "tiff"}, "maps = 'tiff': use one of png16, npy, none"),
        ({"workers": -1}, "workers = -1"),
        ({"batch_size": 0}, "batch_size = 0"),
        ({"samples": -1}, "samples = -1"),
        ({"precision": "int8"}, "precision = 'int8'"),
        ({"class_name": ""}, "class name is empty"),
        ({"class_name": "nut " * 100}, "shorten it"),
    ],
)
def test_settings_that_cannot_be_used_cost_nothing(tiny_model, tmp_path, options, told):
    folder = save(tmp_path / "in", ["a.png"])
    with pytest.raises((ConfigError, DataError), match=told):
        run(tiny_model, folder, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
