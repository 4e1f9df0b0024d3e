"""A folder of images, the pool in this process, and a store of objects."""

from __future__ import annotations

import csv
import importlib.util
import pickle
import time
from contextlib import nullcontext

import pytest

from bayes_pfl.fit.fit import FitOptions, fit_folder
from bayes_pfl.fit.profile_files import save_profile
from bayes_pfl.predict.folder import predict_folder
from tests.helpers.folders import arguments

POOL = {"actors": "actors", "cpus_per_actor": "cpus", "gpus_per_actor": "gpus"}

if not importlib.util.find_spec("ray"):
    collect_ignore_glob = ["*.py"]  # these need the extra [ray]


@pytest.fixture
def folder(tmp_path):
    from tests.predict.ray.runs import images_in

    return images_in(tmp_path / "in put", 12)


@pytest.fixture
def profile(tiny_model, tmp_path):
    """The folder of a profile that has thresholds."""
    from tests.predict.ray.runs import images_in

    normal = images_in(tmp_path / "normal", 20, bad=0)
    options = FitOptions(fpr=0.2, keep_outliers=True)
    fitted = fit_folder(tiny_model, normal, "metal nut", options)
    return save_profile(fitted.profile, tmp_path / "profile")


@pytest.fixture
def alone(monkeypatch, tiny_model):
    """The pool without Ray: one worker in this process, asked for part after part.

    The model is not loaded anew by each, which would take most of the time.
    """
    from bayes_pfl.predict.ray import engine
    from bayes_pfl.predict.ray import worker as worker_module
    from bayes_pfl.predict.ray.pool import Pool, counts_in
    from bayes_pfl.predict.ray.worker import PartScorer

    def scored_parts(job, parts, pool, actors):
        worker = PartScorer(pickle.loads(pickle.dumps(job)))  # as it comes to another process
        for part in parts:
            answer = worker(part.combine_chunks()).to_pylist()[0]
            yield answer["part"], counts_in(answer)

    monkeypatch.setattr(engine, "scored_parts", scored_parts)
    monkeypatch.setattr(engine, "connected", nullcontext)
    for module in (engine, worker_module):
        monkeypatch.setattr(module, "load_checkpoint", lambda *_, **__: tiny_model)
    monkeypatch.setattr(Pool, "size", lambda self: self.actors or 2)


@pytest.fixture
def run_ray(checkpoint_dir):
    from bayes_pfl.predict.ray import predict_ray
    from bayes_pfl.predict.ray.pool import Pool

    def call(source, out, **options):
        least = {"class_name": "metal nut", "threshold": 0.5, "batch_size": 4, "device": "cpu"}
        pool = {name: options.pop(key) for key, name in POOL.items() if key in options}
        given = arguments(**least | options)
        return predict_ray(str(checkpoint_dir), source, out, pool=Pool(**pool), **given)

    return call


@pytest.fixture
def plain_rows(tiny_model, tmp_path):
    """Rows of the engine of one process."""

    def call(folder, **options):
        out = tmp_path / "plain"
        least = {"class_name": "metal nut", "threshold": 0.5, "maps": "none"}
        predict_folder(
            tiny_model,
            folder,
            out,
            **arguments(**least | {"overlays": False, "report": False} | options),
        )
        with (out / "predictions.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    return call


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
