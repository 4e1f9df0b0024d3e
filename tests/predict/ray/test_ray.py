"""Prediction on Ray itself: processes that are killed, and the command."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bayes_pfl.errors import CheckpointError
from bayes_pfl.predict.ray import engine
from tests.predict.ray.runs import Parts, assert_same_rows, images_in, rows_of


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
def test_profile_travels_to_the_workers(cluster, run_ray, plain_rows, folder, profile, tmp_path):
    given = {"profile": profile, "threshold": None}
    run_ray(folder, tmp_path / "out", actors=2, part_images=5, **given)
    assert_same_rows(rows_of(tmp_path / "out"), plain_rows(folder, **given))


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
    command = [sys.executable, "-m", "bayes_pfl.cli.main", *arguments]
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
    command = [sys.executable, "-m", "bayes_pfl.cli.main", *map(str, arguments)]
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
