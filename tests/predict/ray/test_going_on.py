"""Prediction on Ray: runs that were stopped go on, and are not mixed with others."""

import json
import os

import pytest

from bayes_pfl.errors import ConfigError
from bayes_pfl.predict.ray import engine
from bayes_pfl.predict.ray.parts import part_name, read_part, write_part
from bayes_pfl.predict.ray.storage import Place
from tests.predict.ray.runs import (
    Parts,
    assert_same_rows,
    images_in,
    interrupt,
    paint,
    rows_of,
    stopped,
)


def test_stopped_run_goes_on(alone, run_ray, plain_rows, folder, tmp_path, monkeypatch):
    out = tmp_path / "out"
    stopped(run_ray, folder, out)
    kept = {row["path"]: row for row in rows_of(out)}
    assert len(kept) == 4
    good = [path for path in kept if not path.startswith("bad")]
    for path in good:  # to be seen: they are not read again
        status = (folder / path).stat()
        (folder / path).write_bytes(b"x" * status.st_size)
        os.utime(folder / path, ns=(status.st_atime_ns, status.st_mtime_ns))
    steps = Parts()
    summary = run_ray(folder, out, part_images=4, resume=True, progress=steps)
    assert summary.resumed == len(good) == steps.done[0] and sum(steps.done) == 14
    found = rows_of(out)
    assert [row["path"] for row in found] == [row["path"] for row in plain_rows(folder)]
    assert [row for row in found if row["path"] in good] == [kept[path] for path in good]
    assert summary.failed == 2  # tried again


def test_second_resume_has_nothing_to_do(alone, run_ray, tmp_path, monkeypatch):
    folder, out = images_in(tmp_path / "in", 6, bad=0), tmp_path / "out"
    first = run_ray(folder, out)
    before = {path: path.read_bytes() for path in (out / "predictions").iterdir()}
    monkeypatch.setattr(engine, "connected", lambda: pytest.fail("a pool was asked for"))
    again = run_ray(folder, out, resume=True)
    assert again.resumed == again.images == 6 and again.highest == first.highest
    assert {path: path.read_bytes() for path in (out / "predictions").iterdir()} == before


def test_files_that_came_or_went(alone, run_ray, plain_rows, folder, tmp_path):
    out = tmp_path / "out"
    run_ray(folder, out, part_images=4)
    (folder / "kind 0/00003.png").unlink()
    paint(folder / "new.png", 77)
    paint(folder / "bad 1.png", 78)  # what has failed may change
    summary = run_ray(folder, out, resume=True)
    assert (summary.images, summary.dropped, summary.failed, summary.resumed) == (14, 1, 1, 11)
    assert_same_rows(rows_of(out), plain_rows(folder))


def test_a_run_that_starts_again_leaves_no_maps_of_the_former_one(alone, run_ray, folder, tmp_path):
    out = tmp_path / "out"
    run_ray(folder, out, maps="npy")
    (folder / "kind 0/00003.png").unlink()
    run_ray(folder, out, maps="png16", overwrite=True)
    maps = {path.relative_to(out / "maps").as_posix() for path in out.rglob("maps/**/*.*")}
    scored = {f"{row['path']}.png" for row in rows_of(out) if not row["error"]}
    assert maps == scored and "kind 0/00003.png.png" not in maps


def test_changed_file_is_refused(alone, run_ray, folder, tmp_path):
    run_ray(folder, tmp_path / "out")
    before = rows_of(tmp_path / "out")
    paint(folder / "kind 0/00000.png", 99)
    with pytest.raises(ConfigError, match="1 images have changed since.*kind 0/00000.png.*restore"):
        run_ray(folder, tmp_path / "out", resume=True)
    assert rows_of(tmp_path / "out") == before
    assert run_ray(folder, tmp_path / "out", overwrite=True).resumed == 0


def test_other_settings_are_refused(alone, run_ray, folder, tmp_path):
    stopped(run_ray, folder, tmp_path / "out")
    for options, words in (
        ({"seed": 1}, "seed = 1, but it was begun with 0"),
        ({"samples": 1}, "samples = 1, but it was begun with 3"),
        ({"class_name": "screw"}, "class_name = 'screw', but it was begun with 'metal nut'"),
        ({"threshold": 0.4}, "threshold = 0.4, but"),
        ({"maps": "npy"}, "maps = 'npy', but it was begun with 'none'"),
    ):
        with pytest.raises(ConfigError, match=words):
            run_ray(folder, tmp_path / "out", resume=True, **options)


def test_other_weights_and_other_folders_are_refused(alone, run_ray, folder, tmp_path, monkeypatch):
    out = tmp_path / "out"
    stopped(run_ray, folder, out)
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="folder = .*elsewhere"):
        run_ray(tmp_path / "elsewhere", out, resume=True)
    (tmp_path / "elsewhere").rename(folder)
    header = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps(header | {"checkpoint_sha256": "0"}))
    with pytest.raises(ConfigError, match="checkpoint_sha256 = .* begun with '0'"):
        run_ray(folder, out, resume=True)


def test_results_are_not_overwritten_unasked(alone, run_ray, folder, tmp_path):
    run_ray(folder, tmp_path / "out", part_images=7)
    with pytest.raises(ConfigError, match="2 parts of an earlier run; go on with --resume"):
        run_ray(folder, tmp_path / "out")
    with pytest.raises(ConfigError, match="exclude each other"):
        run_ray(folder, tmp_path / "out", resume=True, overwrite=True)
    (tmp_path / "out/run.json").write_text("{")
    with pytest.raises(ConfigError, match="run.json: damaged; start again with --overwrite"):
        run_ray(folder, tmp_path / "out", resume=True)
    (tmp_path / "out/run.json").unlink()
    with pytest.raises(ConfigError, match="parts without run.json"):
        run_ray(folder, tmp_path / "out", resume=True)


def test_damaged_part_is_done_again(alone, run_ray, plain_rows, folder, tmp_path):
    run_ray(folder, tmp_path / "out", part_images=4)
    part = tmp_path / "out" / part_name(0, 1)
    part.write_bytes(part.read_bytes()[:-9])
    assert run_ray(folder, tmp_path / "out", resume=True).resumed == 14 - 4 - 2
    assert_same_rows(rows_of(tmp_path / "out"), plain_rows(folder))


def test_rows_of_a_worker_that_outlived_its_run_are_not_double(
    alone, run_ray, plain_rows, folder, tmp_path
):
    out, place = tmp_path / "out", Place(str(tmp_path / "out"))

    def write_late():
        write_part(place, part_name(0, 3), read_part(place, part_name(0, 0)))

    stopped(run_ray, folder, out)
    late = Parts(write_late)
    with pytest.raises(KeyboardInterrupt):  # the part is there when this run is resumed ...
        late.act = lambda: (write_late(), interrupt())
        run_ray(folder, out, part_images=4, resume=True, progress=late)
    assert len(rows_of(out)) > len({row["path"] for row in rows_of(out)})
    run_ray(folder, out, part_images=4, resume=True)
    assert_same_rows(rows_of(out), plain_rows(folder))
    run_ray(folder, out, resume=True, progress=Parts(write_late, after=0))  # ... or comes later
    assert_same_rows(rows_of(out), plain_rows(folder))
