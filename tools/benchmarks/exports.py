"""An export against PyTorch: how far both differ, and how many files a second each makes."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
from PIL import Image

from bayes_pfl.checkpoints.load import load_checkpoint
from bayes_pfl.detect.scorer import Scorer
from bayes_pfl.errors import ConfigError
from bayes_pfl.export.check import compare
from bayes_pfl.export.folder import RUNTIMES, export_detector
from bayes_pfl.export.manifest import MANIFEST
from bayes_pfl.export.precision import Precision
from bayes_pfl.export.runtime import ExportedScorer
from bayes_pfl.export.standalone.detector import Detector
from bayes_pfl.fit.fit import FitOptions, fit_profile
from bayes_pfl.fit.profile import Profile
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.predict.folder import predict_folder
from bayes_pfl.predict.settings import FolderSettings
from bayes_pfl.rendering import TEST_CATEGORIES, TRAIN_CATEGORIES, render
from bayes_pfl.support.environment import environment
from benchmarks.timing import medians

_CATEGORY = TEST_CATEGORIES[0]
_SIDE = 256
_CALIBRATED = 16


@dataclass(frozen=True)
class ExportSettings:
    """What is compared.

    Attributes:
        files: rendered PNG files of each timed run.
        normal: normal pictures of a profile; 0 for words alone.
        compared: rendered pictures whose scores and maps are compared.
        precisions: of the exports; int8 is calibrated on rendered pictures of other categories.
        repeats: timed runs of each, after one that is not.

    Raises:
        ConfigError: no files, or an unknown precision.
    """

    checkpoint: str
    samples: int | None = None
    files: int = 32
    normal: int = 0
    compared: int = 12
    batch_size: int = 8
    repeats: int = 3
    precisions: Sequence[Precision] = ("float32",)

    def __post_init__(self) -> None:
        for precision in set(self.precisions) - set(get_args(Precision)):
            raise ConfigError(f"--precisions {precision}: {', '.join(get_args(Precision))}")
        if min(self.files, self.compared) < 1:
            raise ConfigError(f"--files {self.files}, --compared {self.compared}: 1 at least")


def benchmark_export(settings: ExportSettings) -> dict[str, Any]:
    """Differences from PyTorch, and images/s from files to predictions.csv, without maps.

    The runs take turns. Seconds of processor time are given as well, which other work on the
    machine changes less. OpenVINO reads the same file as ONNX Runtime.

    Returns:
        {"exports": {precision: {"seconds", "model_bytes", "price"}}, "differences": {name:
        {"score", "map", "pictures"}}, "images_per_second", "processor_seconds_per_image":
        {"pytorch" or name: median}, "settings", "environment"}; names are such as
        "onnxruntime int8".
    """
    model = load_checkpoint(settings.checkpoint, device="cpu")
    profile = _profile(model, settings)
    with tempfile.TemporaryDirectory() as place:
        exports: dict[str, Any] = {}
        detectors: dict[str, Detector] = {}
        for precision in settings.precisions:
            folder = Path(place, precision)
            exports[precision] = _exported(model, profile, settings, precision, folder)
            detectors |= {
                f"{name} {precision}": _opened(folder, Path(place, f"{name}-{precision}"), name)
                for name in RUNTIMES.values()
            }
        asked = FolderSettings(
            samples=settings.samples,
            maps="none",
            overlays=False,
            report=False,
            batch_size=settings.batch_size,
        )
        references = {profile.class_name: profile.references} if profile else {}
        scorer = Scorer(model, asked, spread=False, references=references)
        name = profile.class_name if profile else "object"
        pictures = [Image.fromarray(_rendered(1000 + at)) for at in range(settings.compared)]
        differences = {
            runtime: compare(one, scorer, name, pictures)._asdict()
            for runtime, one in detectors.items()
        }
        speeds = _speeds(model, profile, asked, detectors, settings, Path(place))
    return {
        "exports": exports,
        "differences": differences,
        **speeds,
        "settings": asdict(settings),
        "environment": environment("cpu"),
    }


def _exported(
    model: BayesPFLNetwork,
    profile: Profile | None,
    settings: ExportSettings,
    precision: Precision,
    folder: Path,
) -> dict[str, Any]:
    calibrate = None
    if precision == "int8":
        calibrate = folder.with_name("calibrate")
        calibrate.mkdir()
        for at, category in enumerate(list(TRAIN_CATEGORIES)[:_CALIBRATED]):
            picture = render(category, 0, at, size=model.backbone.image_size).image
            Image.fromarray(picture).save(calibrate / f"{at}.png")
    started = time.perf_counter()
    done = export_detector(
        model,
        folder,
        profile=profile,
        samples=settings.samples,
        precision=precision,
        calibrate=calibrate,
        accept_drop=100,
    )
    return {
        "seconds": time.perf_counter() - started,
        "model_bytes": done.sizes[1],
        "price": done.price._asdict() if done.price else None,
    }


def _profile(model: BayesPFLNetwork, settings: ExportSettings) -> Profile | None:
    if not settings.normal:
        return None
    normal = [
        Image.fromarray(render(_CATEGORY, 0, at, size=_SIDE).image) for at in range(settings.normal)
    ]
    return fit_profile(model, normal, "object", FitOptions(samples=settings.samples))


def _rendered(index: int) -> Any:
    category = TEST_CATEGORIES[index % len(TEST_CATEGORIES)]
    return render(category, 0, index, size=_SIDE, defect="random").image


def _opened(folder: Path, place: Path, runtime: str) -> Detector:
    """The detector of a folder, run by a runtime."""
    shutil.copytree(folder, place)
    manifest = json.loads((folder / MANIFEST).read_text())
    (place / MANIFEST).write_text(json.dumps({**manifest, "runtime": runtime}))
    return Detector(place, torch.get_num_threads())


def _speeds(
    model: BayesPFLNetwork,
    profile: Profile | None,
    asked: FolderSettings,
    detectors: dict[str, Detector],
    settings: ExportSettings,
    place: Path,
) -> dict[str, Any]:
    photos = place / "photos"
    photos.mkdir()
    for at in range(settings.files):
        Image.fromarray(_rendered(at)).save(photos / f"{at:05d}.png")
    scorers: dict[str, Callable[..., Scorer]] = {"pytorch": Scorer}
    scorers |= {name: partial(ExportedScorer, one) for name, one in detectors.items()}
    wall: dict[str, list[float]] = {name: [] for name in scorers}
    processor: dict[str, list[float]] = {name: [] for name in scorers}
    for turn in range(settings.repeats + 1):
        for name, make in scorers.items():
            start, busy = time.perf_counter(), time.process_time()
            predict_folder(
                model,
                photos,
                place / f"out-{name}",
                class_name=None if profile else "object",
                profile=profile,
                settings=asked,
                overwrite=True,
                make_scorer=make,
            )
            if turn:
                wall[name].append(settings.files / (time.perf_counter() - start))
                processor[name].append((time.process_time() - busy) / settings.files)
    return {
        "images_per_second": medians(wall),
        "processor_seconds_per_image": medians(processor),
    }
