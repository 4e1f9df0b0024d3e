"""Prediction on Ray: the scores of one process, whatever is lost on the way, from any store."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bayes_pfl import checkpoints
from bayes_pfl.class_names import ClassNames
from bayes_pfl.errors import CheckpointError, ConfigError, DataError
from bayes_pfl.prediction import predict_folder

pytest.importorskip("ray.data", reason="needs the extra [ray]")
pq = pytest.importorskip("pyarrow.parquet")
import pyarrow as pa  # noqa: E402

from bayes_pfl.cluster import engine, predict_ray  # noqa: E402
from bayes_pfl.cluster import run as cluster_run  # noqa: E402
from bayes_pfl.cluster.listing import list_images  # noqa: E402
from bayes_pfl.cluster.parts import Tally, part_name, read_part, write_part  # noqa: E402
from bayes_pfl.cluster.pool import Pool, tally_in  # noqa: E402
from bayes_pfl.cluster.storage import Place  # noqa: E402
from bayes_pfl.cluster.worker import MOST_ATTEMPTS, PartScorer  # noqa: E402

FIGURES = ["score", "uncertainty", "text_score", "map_score", "score_low", "score_high"]
EXACT = ["path", "class_name", "label", "needs_review", "width", "height", "error"]


def paint(path, index=0, size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = np.random.default_rng(index).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC).save(path, "PNG")


def images_in(folder, count, bad=2):
    for index in range(count):
        paint(folder / f"kind {index % 3}" / f"{index:05d}.png", index)
    for index in range(bad):
        (folder / f"bad {index}.png").write_bytes(b"no image" * index)
    return folder


@pytest.fixture
def folder(tmp_path):
    return images_in(tmp_path / "in put", 12)


@pytest.fixture
def alone(monkeypatch, tiny_model):
    """The pool without Ray: one worker in this process, asked for part after part.

    The model is not loaded anew by each, which would take most of the time.
    """
    from contextlib import nullcontext

    def scored_parts(job, parts, pool, actors):
        worker = PartScorer(job)
        for part in parts:
            answer = worker(part.combine_chunks()).to_pylist()[0]
            yield answer["part"], tally_in(answer)

    monkeypatch.setattr(cluster_run, "scored_parts", scored_parts)
    monkeypatch.setattr(cluster_run, "connected", nullcontext)
    monkeypatch.setattr(checkpoints, "load_checkpoint", lambda *_, **__: tiny_model)
    monkeypatch.setattr(Pool, "size", lambda self: self.actors or 2)


@pytest.fixture
def run_ray(checkpoint_dir):
    def call(source, out, **options):
        least = {"class_name": "metal nut", "threshold": 0.5, "batch_size": 4, "device": "cpu"}
        return predict_ray(str(checkpoint_dir), source, out, **least | options)

    return call


@pytest.fixture
def plain_rows(tiny_model, tmp_path):
    """Rows of the engine of one process."""

    def call(folder, **options):
        out = tmp_path / "plain"
        least = {"class_name": "metal nut", "threshold": 0.5, "maps": "none"}
        predict_folder(tiny_model, folder, out, overlays=False, report=False, **least | options)
        with (out / "predictions.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    return call


def rows_of(out):
    table = pq.read_table(out / "predictions")
    return sorted(table.to_pylist(), key=lambda row: row["path"].split("/"))


def assert_same_rows(found, expected, tolerance=1e-4):
    assert len(found) == len(expected) > 0
    expected = sorted(expected, key=lambda row: row["path"].split("/"))
    for one, other in zip(found, expected, strict=True):
        for name in EXACT:
            value = "" if one[name] is None else one[name]
            assert str(value) == other[name], (one["path"], name)
        for name in FIGURES:
            value = float(other[name]) if other[name] else None
            assert one[name] == pytest.approx(value, abs=tolerance), (one["path"], name)


class Parts:
    """Progress that counts, and acts when a part is done."""

    def __init__(self, act=None, after=1):
        self.steps, self.done, self.act, self.after = 0, [], act, after

    def start(self, title, steps):
        self.steps = steps

    def advance(self, done, values):
        self.done.append(done)
        # The first report is of what was done before.
        if self.act and len(self.done) == self.after + 1:
            self.act()


def interrupt():
    raise KeyboardInterrupt


# The rows ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", [False, True], ids=["path", "url"])
def test_rows_are_those_of_one_process(alone, run_ray, plain_rows, folder, tmp_path, url):
    out = tmp_path / "out"
    where = (folder.as_uri().replace("%20", " "), out.as_uri()) if url else (folder, out)
    summary = run_ray(*where, part_images=5)
    found = rows_of(out)
    assert_same_rows(found, plain_rows(folder))
    assert (summary.images, summary.failed) == (14, 2)
    assert [path for path, _ in summary.failures] == ["bad 0.png", "bad 1.png"]
    scores = [row["score"] for row in found if row["score"] is not None]
    assert summary.anomalous == sum(score >= 0.5 for score in scores)
    assert [score for _, score in summary.highest] == sorted(scores, reverse=True)[:5]
    for row in found:
        status = (folder / row["path"]).stat()
        assert (row["size"], row["mtime_ns"]) == (status.st_size, status.st_mtime_ns)
    assert json.loads((out / "summary.json").read_text())["images"] == 14
    sha256 = json.loads((out / "run.json").read_text())["checkpoint_sha256"]
    part = pq.read_schema(next((out / "predictions").iterdir()))
    assert part.metadata[b"checkpoint_sha256"].decode() == sha256
    assert sorted(path.name for path in out.iterdir()) == [
        "predictions",
        "run.json",
        "summary.json",
    ]


def test_names_by_folder_and_mean_prompt(alone, run_ray, plain_rows, folder, tmp_path):
    options = {"class_name": ClassNames(default="screw|bolt"), "samples": 0}
    run_ray(folder, tmp_path / "out", **options)
    assert_same_rows(rows_of(tmp_path / "out"), plain_rows(folder, **options))


@pytest.mark.parametrize("kind", ["png16", "npy"])
def test_maps_are_those_of_one_process(alone, run_ray, plain_rows, folder, tmp_path, kind):
    run_ray(folder, tmp_path / "out", maps=kind, batch_size=8)
    plain_rows(folder, maps=kind)
    expected = sorted(p for p in (tmp_path / "plain/maps").rglob("*") if p.is_file())
    assert len(expected) == 12
    for path in expected:
        other = tmp_path / "out" / path.relative_to(tmp_path / "plain")
        if kind == "npy":
            np.testing.assert_allclose(np.load(other), np.load(path), atol=1e-5)
        else:
            one, two = (np.asarray(Image.open(p)).astype(int) for p in (other, path))
            assert abs(one - two).max() <= 1


def test_maps_below_the_images_are_not_taken_for_images(alone, run_ray, folder):
    assert run_ray(folder, folder / "out", maps="png16").images == 14
    assert run_ray(folder, folder / "out", maps="png16", overwrite=True).images == 14


def test_pool_of_one_image(alone, run_ray, tmp_path):
    paint(tmp_path / "in/a.png")
    assert run_ray(tmp_path / "in", tmp_path / "out", actors=4).succeeded == 1


# Going on ----------------------------------------------------------------------------------------


def stopped(run_ray, folder, out, **options):
    with pytest.raises(KeyboardInterrupt, match="4 of 14 images are done"):
        run_ray(folder, out, part_images=4, progress=Parts(interrupt), **options)


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
    monkeypatch.setattr(cluster_run, "connected", lambda: pytest.fail("a pool was asked for"))
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
        ({"seed": 1}, "seed = 1 where it was begun with 0"),
        ({"samples": 1}, "samples = 1 where it was begun with 3"),
        ({"class_name": "screw"}, "class_name = 'screw' where it was begun with 'metal nut'"),
        ({"threshold": 0.4}, "threshold = 0.4 where"),
        ({"maps": "npy"}, "maps = 'npy' where it was begun with 'none'"),
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
    with pytest.raises(ConfigError, match="run.json: damaged; begin anew with --overwrite"):
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


# Stores ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def s3():
    """An object store in this process, with the options to reach it."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0, verbose=False)
    pytest.importorskip("s3fs")
    server.start()
    host, port = server.get_host_and_port()
    yield {"key": "key", "secret": "secret", "endpoint_url": f"http://{host}:{port}"}
    server.stop()


@pytest.fixture
def bucket(s3, folder):
    """URL of a bucket with the images of `folder` below images/; what is not to be listed, too."""
    import s3fs

    fs = s3fs.S3FileSystem(**s3, skip_instance_cache=True)
    name = f"bucket-{time.monotonic_ns()}"
    fs.mkdir(name)
    fs.put(f"{folder}/", f"{name}/images/", recursive=True)
    fs.pipe_file(f"{name}/images/.hidden/a.png", b"")
    fs.pipe_file(f"{name}/images/readme.txt", b"")
    return f"s3://{name}", fs


def test_from_a_store_to_a_store(alone, run_ray, plain_rows, folder, bucket, s3, tmp_path):
    url, fs = bucket
    where = f"{url}/images", f"{url}/images/out"
    stop = Parts(interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_ray(*where, part_images=4, maps="png16", storage_options=s3, progress=stop)
    summary = run_ray(*where, maps="png16", storage_options=s3, resume=True)
    assert (summary.images, summary.failed, summary.out) == (14, 2, where[1])
    fs.invalidate_cache()
    fs.get(f"{where[1]}/predictions", str(tmp_path / "got/predictions"), recursive=True)
    found = rows_of(tmp_path / "got")
    assert_same_rows(found, plain_rows(folder))
    for row in found:
        info = fs.info(f"{where[0]}/{row['path']}")
        assert row["etag"] == info["ETag"].strip('"') and row["size"] == info["size"]
    assert len(fs.find(f"{where[1]}/maps")) == 12
    assert not fs.exists(f"{where[1]}/.attempts")
    # An object that was replaced by one of the same size is told by its tag.
    key = f"{where[0]}/{found[-1]['path']}"
    fs.pipe_file(key, b"y" * fs.info(key)["size"])
    with pytest.raises(ConfigError, match="1 images have changed since"):
        run_ray(*where, maps="png16", storage_options=s3, resume=True)


def test_object_that_vanishes_is_a_row(alone, run_ray, bucket, s3, tmp_path, monkeypatch):
    url, fs = bucket
    listed = cluster_run.list_images

    def then_remove(source, out):
        table = listed(source, out)
        fs.rm_file(f"{url}/images/kind 0/00003.png")
        return table

    monkeypatch.setattr(cluster_run, "list_images", then_remove)
    summary = run_ray(f"{url}/images", tmp_path / "out", storage_options=s3)
    assert ("kind 0/00003.png", "could not be fetched: no such file") in summary.failures
    assert summary.failed == 3


def test_store_that_fails_ends_the_run(alone, run_ray, bucket, s3, tmp_path, monkeypatch):
    monkeypatch.setattr(PartScorer, "_fetch", lambda *_: "connection refused")
    with pytest.raises(DataError, match=r"none of 14 files could be fetched \(connection refused"):
        run_ray(f"{bucket[0]}/images", tmp_path / "out", part_images=14, storage_options=s3)


def test_keys_that_lead_out_of_their_folder_are_left_alone(bucket, s3, folder, tmp_path):
    url, fs = bucket
    fs.put_file(str(folder / "kind 0/00000.png"), f"{url}/odd/../../a.png")
    with pytest.raises(DataError, match="no images"):
        list_images(Place(f"{url}/odd", s3), Place(str(tmp_path)))
    with pytest.raises(ValueError, match="leads out of its folder"):
        Place(str(tmp_path / "out")).write("maps/../../a.png", b"")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("memory://images", "lives in one process"),
        ("nosuch://images", "no such store here .*s3:// needs s3fs"),
    ],
)
def test_places_that_cannot_be_used(run_ray, tmp_path, url, words):
    with pytest.raises(ConfigError, match=words):
        run_ray(url, tmp_path / "out")


def test_store_that_is_empty_or_missing(s3, bucket, tmp_path):
    out = Place(str(tmp_path))
    with pytest.raises(DataError, match="nothing does not exist"):
        list_images(Place(f"{bucket[0]}/nothing", s3), out)
    bucket[1].pipe_file(f"{bucket[0]}/texts/a.txt", b"")
    with pytest.raises(DataError, match="no images; files that end in .png"):
        list_images(Place(f"{bucket[0]}/texts", s3), out)
    with pytest.raises(DataError, match="does not exist|cannot be listed"):
        list_images(Place("s3://no-such-bucket-here", s3), out)


def test_output_that_cannot_be_written(alone, run_ray, folder, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(ConfigError, match="out: (cannot be written|out of reach)"):
        run_ray(folder, tmp_path / "out")


# Workers -----------------------------------------------------------------------------------------


def test_part_that_killed_a_worker_is_decoded_apart(alone, run_ray, folder, tmp_path, monkeypatch):
    from bayes_pfl.cluster import worker

    seen = []
    plain = worker.decode
    monkeypatch.setattr(
        worker, "decode", lambda *x, workers, **k: seen.append(workers) or plain(*x, **k)
    )
    monkeypatch.setattr(cluster_run.ClusterRun, "_remove_marks", lambda self: None)
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
    table = {"path": list("abcdef"), "score": [0.1, 0.9, None, 0.5, 0.7, 0.3]}
    table |= {"label": [0, 1, None, 1, 1, 0], "needs_review": [1, 0, None, 1, 0, 0]}
    table = pa.table(table | {"error": ["", "", "torn", "", "full", ""]})
    whole, parts = Tally.of(table), Tally.of(table.slice(0, 2))
    parts.add(Tally.of(table.slice(2)))
    assert parts == whole
    assert (whole.images, whole.failed, whole.anomalous, whole.review) == (6, 2, 3, 2)
    assert whole.highest[0] == ("b", 0.9) and whole.failures == [("c", "torn"), ("e", "full")]


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


# Ray ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster():
    """Ray on this machine, with two cores, for the tests that need it; it ends with them."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"USAGE_STATS_ENABLED": "0", "BACKEND_LOG_LEVEL": "fatal"}.items():
            patch.setenv(f"RAY_{name}", value)
        ray.init(
            address="local",
            num_cpus=2,
            object_store_memory=100 * 2**20,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
        )
        raylets = descendants("raylet")
        assert raylets
        yield
        ray.shutdown()
        deadline = time.monotonic() + 20
        while left := [pid for pid in raylets if Path(f"/proc/{pid}").exists() and running(pid)]:
            assert time.monotonic() < deadline, left
            time.sleep(0.1)


def running(pid):
    return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"


def descendants(word, ancestor=None):
    """Processes below this one whose command line holds a word."""
    found, parents = [], {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rsplit(") ", 1)[1].split()[1])
            if word in words:
                found.append(int(entry.name))

    def below(pid):
        while pid > 1 and pid != (ancestor or os.getpid()):
            pid = parents.get(pid, 0)
        return pid == (ancestor or os.getpid())

    return [pid for pid in found if pid != os.getpid() and below(pid)]


def survives_a_kill(run_ray, plain_rows, folder, out, count, part_images):
    killed = []

    def kill():
        killed.append(descendants("ray::MapWorker")[0])
        os.kill(killed[0], signal.SIGKILL)

    progress = Parts(kill)
    summary = run_ray(folder, out, actors=2, part_images=part_images, progress=progress)
    assert killed and progress.done[0] == 0 and len(progress.done) - 1 == -(-count // part_images)
    assert sum(progress.done) == summary.images == count
    assert_same_rows(rows_of(out), plain_rows(folder))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")
def test_worker_that_is_killed_costs_nothing(cluster, run_ray, plain_rows, tmp_path):
    folder = images_in(tmp_path / "in", 98)
    survives_a_kill(run_ray, plain_rows, folder, tmp_path / "out", 100, part_images=5)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")
def test_two_thousand_images_and_a_kill(cluster, run_ray, plain_rows, tmp_path):
    folder = images_in(tmp_path / "in", 1990, bad=10)
    survives_a_kill(run_ray, plain_rows, folder, tmp_path / "out", 2000, part_images=50)


@pytest.mark.slow
def test_error_of_a_worker_is_told_as_it_was(cluster, run_ray, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "fingerprint", lambda model: "0" * 64)
    with pytest.raises(CheckpointError, match="^[^\n]*another checkpoint here than where[^\n]*$"):
        run_ray(folder, tmp_path / "out")


@pytest.mark.slow
def test_command_with_a_ray_of_its_own(checkpoint_dir, bucket, s3, tmp_path):
    url, fs = bucket
    environment = os.environ | {
        "AWS_ACCESS_KEY_ID": s3["key"],
        "AWS_SECRET_ACCESS_KEY": s3["secret"],
        "FSSPEC_S3_ENDPOINT_URL": s3["endpoint_url"],
    }
    arguments = ["predict", f"{url}/images", "--class-name", "nut", "--out", f"{url}/out"]
    arguments += ["--checkpoint", str(checkpoint_dir), "--engine", "ray", "--device", "cpu"]
    command = [sys.executable, "-m", "bayes_pfl.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, env=environment)
    assert done.returncode == 1, done.stderr
    assert "12 images scored, 2 failed" in done.stdout
    fs.invalidate_cache()
    assert fs.exists(f"{url}/out/summary.json") and fs.ls(f"{url}/out/predictions")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")
def test_terminated_command_ends_cleanly_and_goes_on(checkpoint_dir, tmp_path):
    folder, out = images_in(tmp_path / "in", 400, bad=0), tmp_path / "out"
    arguments = ["predict", folder, "--class-name", "nut", "--out", out, "--engine", "ray"]
    arguments += ["--checkpoint", checkpoint_dir, "--part-images", 4]
    command = [sys.executable, "-m", "bayes_pfl.cli", *map(str, arguments)]
    before = set(descendants("ray"))
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running_command:
        deadline = time.monotonic() + 180
        while not list(out.glob("predictions/*.parquet")) and time.monotonic() < deadline:
            time.sleep(0.05)
        running_command.send_signal(signal.SIGTERM)
        _, told = running_command.communicate(timeout=60)
    assert running_command.returncode == 143
    assert "go on with --resume" in told and "Traceback" not in told
    assert set(descendants("ray")) <= before
    assert 0 < len(rows_of(out)) < 400
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    paths = [row["path"] for row in rows_of(out)]
    assert len(paths) == len(set(paths)) == 400
