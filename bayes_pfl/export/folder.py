"""The folder of an export: the model, what it is, and a program that runs it without PyTorch."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from importlib import metadata, resources
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from bayes_pfl.detect.class_names import check_class_name
from bayes_pfl.detect.name_sensitivity import NEUTRAL
from bayes_pfl.detect.scorer import Scorer
from bayes_pfl.detect.settings import ScoringSettings
from bayes_pfl.errors import ConfigError
from bayes_pfl.export import standalone
from bayes_pfl.export.check import Agreement, check_agreement
from bayes_pfl.export.graph import DetectorGraph
from bayes_pfl.export.manifest import FORMAT, ROI, VERSION, description, write_manifest
from bayes_pfl.export.model_file import require_export_packages, write_onnx, write_openvino
from bayes_pfl.export.precision import Precision, calibration_views, halve_weights, quantise
from bayes_pfl.export.price import DEFAULT_DROP, Price, checked_price
from bayes_pfl.export.standalone.detector import Detector
from bayes_pfl.fit.decision import resolve_decision
from bayes_pfl.fit.profile import Profile
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.support.files import raising_not_written, write_atomically
from bayes_pfl.support.progress import NullProgress, Progress
from bayes_pfl.support.version import __version__

REQUIREMENTS = "requirements.txt"
PROGRAM = ("predict.py", "detector.py", "pictures.py", "interest.py", "regions.py")
"""What runs the model in the folder."""

Format = Literal["onnx", "openvino"]
RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino"}
"""What runs the model of a format: the name of its package."""

_OWN_PICTURES = 2  # of a profile, that the check looks at


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        agreement: with PyTorch, see :func:`bayes_pfl.export.check.check_agreement`.
        price: of less than float32; else None.
        sizes: bytes of the model in float32, and of the one that was written.
        calibrated_on: the pictures of int8, in words; else None.
    """

    folder: Path
    class_name: str
    agreement: Agreement
    price: Price | None = None
    sizes: tuple[int, int] = (0, 0)
    calibrated_on: str | None = None


def export_detector(
    model: BayesPFLNetwork,
    out: Path,
    *,
    class_name: str | None = None,
    profile: Profile | None = None,
    samples: int | None = None,
    seed: int | None = None,
    checkpoint: str | None = None,
    format: Format = "onnx",
    precision: Precision = "float32",
    calibrate: Path | None = None,
    accept_drop: float = DEFAULT_DROP,
    progress: Progress | None = None,
) -> Exported:
    """Write a detector of one class name as a folder that runs without PyTorch.

    Args:
        model: on the CPU.
        out: a folder that is empty, or does not exist.
        class_name: None for the profile's, or "object".
        profile: brings references, thresholds, tiles, and the samples and the seed.
        samples, seed: of the run's draws; None for the profile's, or the checkpoint's and 0.
        checkpoint: name of the model, for the manifest.
        format: onnx, for ONNX Runtime; or openvino, its own form.
        precision: of less than float32 the price is measured, on rendered pictures.
        calibrate: folder of normal pictures, for int8; None for those of the profile.
        accept_drop: points of AUROC that it may cost.
        progress: of two steps: the model is written, and compared with PyTorch.

    Raises:
        ConfigError: the extra ``[export]`` is missing; a folder that is not empty or cannot be
            written; a profile that does not fit; an export that does not agree with PyTorch, or
            costs too much, of which nothing is kept; int8 without pictures.
        DataError: an unusable class name; a folder without pictures.
    """
    if calibrate is not None and precision != "int8":
        raise ConfigError(f"--calibrate with precision {precision}: it is for int8; leave it out")
    runtime, progress = RUNTIMES[format], progress or NullProgress()
    require_export_packages(runtime)
    if profile is not None and profile.settings.roi is not None and profile.roi is None:
        raise ConfigError(
            "each picture of the profile had a region of interest of its own: an export takes one "
            "for all; fit it with --roi FILE"
        )
    name = class_name or (profile.class_name if profile else NEUTRAL)
    settings = _settings(model, profile, samples, seed)
    rule = resolve_decision(model, name, settings, profile=profile)
    check_class_name(model, name)
    scorer = Scorer(model, settings, spread=False, references=rule.references)
    views, calibrated_on = (
        calibration_views(scorer, calibrate, profile) if precision == "int8" else ((), None)
    )
    graph = DetectorGraph(model, name, settings, rule.references.get(name)).eval()
    progress.start("export", 2)
    with _new_folder(out):
        model_file, full = _write_model(graph, out, format, precision, views)
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "bayes_pfl_version": __version__,
            "made_with": _versions("torch", "onnx", "onnxscript", *_packages(runtime)),
            "runtime": runtime,
            "model": model_file.name,
            "roi": _write_roi(profile, out),
            "calibrated_on": calibrated_on,
            **description(scorer, graph, name, rule, checkpoint, precision),
        }
        _write_program(out, runtime)
        write_manifest(out, manifest)
        progress.advance(1, {})
        detector, exact = Detector(out), precision == "float32"
        found = check_agreement(detector, scorer, name, _own_pictures(profile), exact=exact)
        price = None if exact else checked_price(detector, scorer, name, accept_drop)
        paid = price._asdict() if price else None
        write_manifest(out, {**manifest, "agreement": found._asdict(), "price": paid})
        progress.advance(1, {})
    return Exported(out, name, found, price, (full, _bytes(out)), calibrated_on)


def _write_model(
    graph: DetectorGraph,
    out: Path,
    format: Format,
    precision: Precision,
    views: Iterable[np.ndarray],
) -> tuple[Path, int]:
    """Write the model; returns its file, and its bytes in float32.

    Args:
        views: for int8, see :func:`bayes_pfl.export.precision.quantise`.
    """
    file = write_onnx(graph, out)
    full = _bytes(out)
    if precision == "int8":
        quantise(file, views, {name: one.numpy() for name, one in graph.example(1).items()})
    if format == "openvino":
        return write_openvino(file, half=precision == "float16"), full
    if precision == "float16":
        halve_weights(file)
    return file, full


def _write_program(out: Path, runtime: str) -> None:
    for file in PROGRAM:
        text = resources.files(standalone).joinpath(file).read_text("utf-8")
        write_atomically(out / file, text)
    pins = [f"{name}=={version}\n" for name, version in _versions(*_packages(runtime)).items()]
    write_atomically(out / REQUIREMENTS, "".join(pins))


def _own_pictures(profile: Profile | None) -> list[np.ndarray]:
    """Pictures of the profile for the check, uint8 (S, S, 3)."""
    if profile is None or profile.references is None or profile.pixels is None:
        return []
    return [profile.pixels(at) for at in range(min(_OWN_PICTURES, len(profile.pictures)))]


def _bytes(folder: Path) -> int:
    """Of the files of the model."""
    return sum(path.stat().st_size for path in folder.glob("model.*"))


def _settings(
    model: BayesPFLNetwork, profile: Profile | None, samples: int | None, seed: int | None
) -> ScoringSettings:
    if model.device.type != "cpu":
        raise ConfigError(f"a model on {model.device} cannot be exported: load it with device cpu")
    if profile is None:
        plain = ScoringSettings(samples=samples, seed=seed or 0)
        return replace(plain, samples=plain.sample_count(model))
    made = profile.settings
    if made.precision != "float32":
        raise ConfigError(
            f"the profile was made in {made.precision}, an export computes in float32: its "
            "thresholds would not hold; fit it again with --precision float32"
        )
    return replace(
        profile.scoring(),
        samples=made.samples if samples is None else samples,
        seed=made.seed if seed is None else seed,
    )


@contextlib.contextmanager
def _new_folder(out: Path) -> Iterator[None]:
    """Within, an empty folder is filled; of a failure nothing is left in it.

    Raises:
        ConfigError: it is not empty, or cannot be written.
    """
    with raising_not_written(out, "choose another folder, on a disk with room", ConfigError):
        there = out.is_dir()
        if there and any(out.iterdir()):
            raise ConfigError(f"{out}: is not empty; choose another folder")
        out.mkdir(parents=True, exist_ok=True)
        try:
            yield
        except BaseException:
            shutil.rmtree(out, ignore_errors=True)
            if there:
                out.mkdir()
            raise


def _packages(runtime: str) -> tuple[str, ...]:
    """What the program needs."""
    return "numpy", "pillow", runtime


def _versions(*packages: str) -> dict[str, str]:
    return {name: metadata.version(name) for name in packages}


def _write_roi(profile: Profile | None, out: Path) -> str | None:
    """Write the mask of a region of interest; returns the name of its file."""
    if profile is None or profile.roi is None:
        return None
    Image.fromarray(profile.roi.mask).save(out / ROI)
    return ROI
