"""`bayes-pfl serve` under load: rate, latency, and whether each answer is that of `predict`."""

from __future__ import annotations

import csv
import http.client
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bayes_pfl.checkpoints.load import load_checkpoint
from bayes_pfl.errors import ConfigError
from bayes_pfl.export.folder import export_detector
from bayes_pfl.fit.fit import FitOptions, fit_folder
from bayes_pfl.fit.profile_files import save_profile
from bayes_pfl.predict.folder import predict_folder
from bayes_pfl.predict.settings import FolderSettings
from bayes_pfl.rendering import TEST_CATEGORIES, render
from bayes_pfl.support.environment import environment
from benchmarks.malformed import malformed_requests

_CATEGORY, _SIDE = TEST_CATEGORIES[0], 256
_BESIDE = 8  # clients that go on while malformed requests are sent
_COMPARED = ("score", "uncertainty", "score_low", "score_high", "memory_score", "p_value", "label")
_BATCH, _PROCESSOR = "bayes_pfl_batch_pictures", "process_cpu_seconds_total"
_ROUNDED = 1e-6  # of predictions.csv


@dataclass(frozen=True)
class ServeBenchmark:
    """What is asked of the service.

    Attributes:
        pictures: rendered, half of them with a defect; each round sends each of them once.
        normal: pictures of the profile.
        clients: of each round, with one connection each.
        seconds: after which a round sends no more.
        export: the service runs an export of the profile in place of PyTorch.
        batch_size: of the service.

    Raises:
        ConfigError: no pictures, or too few for a profile with thresholds.
    """

    checkpoint: str
    pictures: int = 200
    normal: int = 24
    clients: tuple[int, ...] = (1, 8, 32)
    samples: int | None = None
    seconds: float = 60.0
    export: bool = False
    batch_size: int = 8

    def __post_init__(self) -> None:
        if self.pictures < 1 or self.normal < 20 or self.seconds <= 0:
            raise ConfigError(
                f"--pictures {self.pictures}, --normal {self.normal}, --seconds {self.seconds}: "
                "1, 20 and more than 0 at least"
            )


@dataclass
class Round:
    """Answers to one round, as they come."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    largest: float = 0.0


def benchmark_serve(settings: ServeBenchmark) -> dict[str, Any]:
    """Send pictures from several clients at once to a service in a process of its own.

    Every answer is compared with the row of the same picture that `predict` has written. In the
    last round malformed requests are sent besides.

    Returns:
        {"rounds": [{"clients", "answers", "statuses" (0: the connection broke), "wrong",
        "largest_difference", "images_per_second", "p50_seconds", "p95_seconds",
        "pictures_per_batch", "processor_seconds_per_image" (0 where the system does not tell)}],
        "malformed": {kind: status}, "survived", "settings", "environment"}.
    """
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        detector, expected = _prepared(place, settings)
        files = {name: (place / "photos" / name).read_bytes() for name in expected}
        with _service(detector, settings) as address:
            rounds = [_round(address, files, expected, n, settings) for n in settings.clients]
            beside = threading.Thread(
                target=lambda: rounds.append(_round(address, files, expected, _BESIDE, settings))
            )
            beside.start()
            malformed = {}
            for kind, request in malformed_requests().items():
                malformed[kind] = request(address)
            beside.join()
            survived = _get(address, "/health")[0] == 200
    return {
        "rounds": rounds,
        "malformed": malformed,
        "survived": survived,
        "settings": asdict(settings),
        "environment": environment("cpu"),
    }


def _prepared(place: Path, settings: ServeBenchmark) -> tuple[Path, dict[str, dict[str, str]]]:
    """The folder of a detector, and the rows of `predict` by the names of the pictures."""
    for folder, count in (("normal", settings.normal), ("photos", settings.pictures)):
        (place / folder).mkdir()
        for at in range(count):
            defect = "random" if folder == "photos" and at % 2 else None
            seed = 0 if folder == "normal" else 1
            image = render(_CATEGORY, seed, at, size=_SIDE, defect=defect).image
            Image.fromarray(image).save(place / folder / f"{at:05}.png")
    model = load_checkpoint(settings.checkpoint, device="cpu")
    options = FitOptions(samples=settings.samples, keep_outliers=True)
    profile = fit_folder(
        model, place / "normal", options=options, checkpoint=settings.checkpoint
    ).profile
    detector = save_profile(profile, place / "part")
    asked = FolderSettings(samples=settings.samples, maps="none", overlays=False, report=False)
    predict_folder(model, place / "photos", place / "out", settings=asked, profile=profile)
    with (place / "out" / "predictions.csv").open(newline="", encoding="utf-8") as file:
        expected = {row["path"]: row for row in csv.DictReader(file)}
    if settings.export:
        detector = place / "deployed"
        export_detector(model, detector, profile=profile)
    return detector, expected


@contextmanager
def _service(detector: Path, settings: ServeBenchmark) -> Iterator[str]:
    """Within, the service runs; gives its address."""
    command = [sys.executable, "-m", "bayes_pfl.cli.main", "serve", str(detector), "--port", "0"]
    command += ["--batch-size", str(settings.batch_size)]
    if not settings.export:
        command += ["--device", "cpu"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert running.stdout is not None
        address = running.stdout.readline().partition("/docs")[0]
        if not address:
            raise ConfigError("the service did not start; see above")
        yield address.removeprefix("http://")
    finally:
        running.terminate()
        running.wait(60)


def _round(
    address: str,
    files: dict[str, bytes],
    expected: dict[str, dict[str, str]],
    clients: int,
    settings: ServeBenchmark,
) -> dict[str, Any]:
    """Each picture once, from several clients."""
    found, lock, waiting = Round(), threading.Lock(), iter(list(files.items()))
    before, began = _figures(address), time.perf_counter()

    def ask() -> None:
        connection = http.client.HTTPConnection(address, timeout=60)
        while time.perf_counter() - began < settings.seconds:
            with lock:
                if (item := next(waiting, None)) is None:
                    break
            name, body = item
            sent = time.perf_counter()
            status, answer = _asked(connection, body)
            spent = time.perf_counter() - sent
            with lock:
                found.statuses[status] += 1
                if status == 200:
                    found.seconds.append(spent)
                    _compare(found, name, json.loads(answer), expected[name])
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken, after = time.perf_counter() - began, _figures(address)

    def grown(name: str) -> float:
        return after.get(name, 0.0) - before.get(name, 0.0)

    half, most = np.quantile(found.seconds or [np.nan], (0.5, 0.95)).tolist()
    return {
        "clients": clients,
        "answers": sum(found.statuses.values()),
        "statuses": dict(found.statuses),
        "wrong": found.wrong,
        "largest_difference": found.largest,
        "images_per_second": len(found.seconds) / taken,
        "p50_seconds": half,
        "p95_seconds": most,
        "pictures_per_batch": grown(f"{_BATCH}_sum") / max(1.0, grown(f"{_BATCH}_count")),
        "processor_seconds_per_image": grown(_PROCESSOR) / max(1, len(found.seconds)),
    }


def _asked(connection: http.client.HTTPConnection, body: bytes) -> tuple[int, bytes]:
    """Status and answer; 0 where the connection broke."""
    try:
        connection.request("POST", "/predict", body)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        connection.close()  # the next request opens it again
        return 0, b""


def _compare(found: Round, name: str, answer: dict[str, Any], row: dict[str, str]) -> None:
    """Note how far an answer lies from the row of its picture."""
    pairs = [(answer[key], row[key]) for key in _COMPARED]
    pairs.append((answer["region_count"], row["regions"]))
    apart = [abs(float(a) - float(b)) for a, b in pairs if a is not None and b]
    missing = any((a is None) != (b == "") for a, b in pairs)
    found.largest = max(found.largest, *apart)
    if missing or max(apart) > 1e-4 + _ROUNDED:
        found.wrong.append(name)


def _get(address: str, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, response.read().decode()


def _figures(address: str) -> dict[str, float]:
    """What the service says of itself, by name."""
    lines = _get(address, "/metrics")[1].splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}
