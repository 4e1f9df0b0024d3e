"""Prediction on Ray: workers that die or differ, and settings that are refused."""

import sys

import pyarrow as pa
import pytest

from bayes_pfl.errors import CheckpointError, ConfigError, DataError
from bayes_pfl.predict.ray import engine
from bayes_pfl.predict.ray.parts import counts_of
from bayes_pfl.predict.ray.worker import MOST_ATTEMPTS
from tests.predict.ray.runs import Parts


def test_part_that_killed_a_worker_is_decoded_apart(alone, run_ray, folder, tmp_path, monkeypatch):
    from bayes_pfl.predict.ray import worker

    seen = []
    plain = worker.decode
    monkeypatch.setattr(
        worker, "decode", lambda *x, workers, **k: seen.append(workers) or plain(*x, **k)
    )
    monkeypatch.setattr(engine.ClusterRun, "_remove_marks", lambda self: None)
    marks = tmp_path / "out/.attempts"
    marks.mkdir(parents=True)
    (marks / "part-000-0000001.parquet").write_text("1")
    run_ray(folder, tmp_path / "out", part_images=5)
    assert seen == [0, 1, 0] and not list(marks.iterdir())
    (marks / "part-000-0000001.parquet").write_text(str(MOST_ATTEMPTS))
    with pytest.raises(ConfigError, match="5 workers died over the part that begins with 'kind"):
        run_ray(folder, tmp_path / "out", part_images=5, overwrite=True)


def test_worker_with_other_weights_is_refused(alone, run_ray, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "fingerprint", lambda model: "0" * 64)
    with pytest.raises(CheckpointError, match="another checkpoint here than where"):
        run_ray(folder, tmp_path / "out")


def test_folder_that_a_worker_does_not_see(alone, run_ray, folder, tmp_path):
    away = Parts(lambda: folder.rename(tmp_path / "away"))
    with pytest.raises(DataError, match="no such folder on this machine"):
        run_ray(folder, tmp_path / "out", part_images=4, progress=away)
    (tmp_path / "away").rename(folder)
    assert run_ray(folder, tmp_path / "out", resume=True).images == 14


def test_tallies_of_parts_add_up():
    table = {
        "path": list("abcdef"),
        "page": [None, 2, 3, *[None] * 3],
        "score": [0.1, 0.9, None, 0.5, 0.7, 0.3],
    }
    table |= {"label": [0, 1, None, 1, 1, 0], "needs_review": [1, 0, None, 1, 0, 0]}
    table |= {"tile": [480, None, None, 320, 480, None]}
    table |= {"width": [9, 4, None, 4, 6, 4], "height": [4, 9, None, 4, 4, 5]}
    table = pa.table(table | {"error": ["", "", "torn", "", "full", ""]})
    whole, parts = counts_of(table), counts_of(table.slice(0, 2))
    parts.add(counts_of(table.slice(2)))
    assert parts == whole
    assert (whole.images, whole.failed, whole.anomalous, whole.review) == (6, 2, 3, 2)
    assert (whole.tiled, whole.tile_sides) == (3, [320, 480])
    assert (whole.wide, whole.tall) == (2, 2)
    assert whole.highest[0] == ("b, page 2", 0.9)
    assert whole.failures == [("c, page 3", "torn"), ("e", "full")]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"actors": 0}, "actors = 0"),
        ({"cpus_per_actor": 0}, "cpus_per_actor = 0 without GPUs"),
        ({"gpus_per_actor": -1}, "gpus_per_actor = -1"),
        ({"part_images": 0}, "part_images = 0"),
        ({"maps": "jpeg"}, "maps = 'jpeg'"),
        ({"batch_size": 0}, "batch_size = 0"),
    ],
)
def test_settings_are_checked_before_any_work(run_ray, folder, tmp_path, options, words):
    with pytest.raises(ConfigError, match=words):
        run_ray(folder, tmp_path / "out", **options)


def test_without_the_extra_one_line_says_what_is_missing(run, folder, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "bayes_pfl.predict.ray", raising=False)
    monkeypatch.setitem(sys.modules, "ray.data", None)
    command = ["predict", folder, "--class-name", "nut", "--out", tmp_path / "out"]
    code, _, told = run(*command, "--engine", "ray")
    assert code == 2
    assert " ".join(told.split()) == "error: the engine ray needs: pip install 'bayes-pfl[ray]'"


def test_options_of_the_other_engine_are_refused(run, folder, tmp_path):
    rest = ["--class-name", "nut", "--out", tmp_path / "out"]
    code, _, told = run("predict", folder, *rest, "--actors", 2)
    assert code == 2 and "need --engine ray" in told
    code, _, told = run("predict", "s3://bucket/images", *rest)
    assert code == 2 and "s3://bucket/images: a URL needs --engine ray" in told
    code, _, told = run("predict", folder, *rest, "--engine", "ray", "--overlay-uncertainty")
    assert code == 2 and "ray draws no overlays" in told
