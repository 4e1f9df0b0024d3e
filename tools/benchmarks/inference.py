"""Time and memory of prediction compared with the image tower, and the error of a precision."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from bayes_pfl.detect.settings import ScoringSettings
from bayes_pfl.metrics import pixel_metrics
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.predict.folder import predict_folder
from bayes_pfl.predict.images import predict_stream
from bayes_pfl.predict.settings import FolderSettings
from bayes_pfl.support.environment import environment
from bayes_pfl.support.precision import half_dtype
from benchmarks.memory import peak_bytes
from benchmarks.subjects import (
    CLASS_NAME,
    BenchmarkedModel,
    bare_tower,
    noise_pictures,
    rendered_pictures,
)
from benchmarks.timing import interleaved, medians


@dataclass(frozen=True)
class InferenceSettings:
    """How to run.

    Attributes:
        repeats: timed rounds, after one that is not.
        accuracy_images: rendered pictures on which a precision is compared with float32; 0: none.
        files: pictures in a folder that is predicted from decoding to the table; 0: none.
        workers: processes that decode those.
    """

    samples: int | None = None
    precision: str = "float32"
    batch_size: int = 1
    compile: bool = False
    repeats: int = 5
    accuracy_images: int = 8
    files: int = 0
    workers: int = 0


def benchmark_inference(subject: BenchmarkedModel, settings: InferenceSettings) -> dict[str, Any]:
    """Seconds per image of the bare image tower and of `predict`, in turns.

    The tower gets images that are normalised and on the device; `predict` gets pictures in memory,
    at the model's size, and gives finished results with both maps on the CPU.

    Returns:
        {"backbone_seconds", "predict_seconds", "overhead", "images_per_second" (medians per image),
        "peak_memory_bytes" (while predicting, weights included; None where unknown),
        "backbone_float32_seconds", "ratio_to_float32_backbone" (these two in another precision),
        "accuracy" (likewise: see :func:`precision_price`), "end_to_end" (with files), "settings",
        "seconds_per_batch", "environment"}
    """
    half_dtype(settings.precision)  # refused before any work
    model = subject.model()
    works = _works(model, settings)
    taken = interleaved(works, settings.repeats, model.device)
    seconds = {name: value / settings.batch_size for name, value in medians(taken).items()}
    report: dict[str, Any] = {
        "backbone_seconds": seconds["backbone"],
        "predict_seconds": seconds["predict"],
        "overhead": seconds["predict"] / seconds["backbone"],
        "images_per_second": 1 / seconds["predict"],
        "peak_memory_bytes": peak_bytes(works["predict"], model.device),
    }
    if "backbone_float32" in seconds:
        report["backbone_float32_seconds"] = seconds["backbone_float32"]
        report["ratio_to_float32_backbone"] = seconds["predict"] / seconds["backbone_float32"]
        if settings.accuracy_images:
            report["accuracy"] = precision_price(model, settings)
    if settings.files:
        report["end_to_end"] = end_to_end(model, settings)
    return report | _circumstances(model, settings, taken)


def _works(model: BayesPFLNetwork, settings: InferenceSettings) -> dict[str, Callable[[], object]]:
    size, count = model.backbone.image_size, settings.batch_size
    pictures = noise_pictures(count, size)
    images = torch.stack([model.transform(Image.fromarray(p)) for p in pictures]).to(model.device)
    scoring = ScoringSettings(
        samples=settings.samples,
        precision=settings.precision,
        batch_size=count,
        compile=settings.compile,
    )
    results = predict_stream(model, itertools.cycle(pictures), CLASS_NAME, scoring)
    works: dict[str, Callable[[], object]] = {
        "backbone": bare_tower(model, images, settings.precision, settings.compile),
        "predict": lambda: list(itertools.islice(results, count)),
    }
    if _is_reduced(settings.precision):
        works["backbone_float32"] = bare_tower(model, images, "float32", settings.compile)
    return works


def _is_reduced(precision: str) -> bool:
    """Whether this precision is not float32."""
    return precision not in ("float32", "fp32")


def precision_price(model: BayesPFLNetwork, settings: InferenceSettings) -> dict[str, Any]:
    """Largest change of map and score compared with float32, and the pixel AUROC of both.

    Measured on rendered defects, on smoothed maps. AUROC means something for trained heads only.
    """
    rendered = rendered_pictures(settings.accuracy_images, model.backbone.image_size)
    pictures, masks, names = (list(part) for part in zip(*rendered, strict=True))
    exact, other = (
        list(
            predict_stream(
                model,
                pictures,
                names,
                ScoringSettings(samples=settings.samples, precision=precision),
            )
        )
        for precision in ("float32", settings.precision)
    )
    pairs = list(zip(exact, other, strict=True))
    auroc = [
        pixel_metrics(np.stack([r.anomaly_map for r in results]), np.stack(masks))["auroc"]
        for results in (exact, other)
    ]
    return {
        "images": len(pictures),
        "largest_map_change": max(
            float(np.abs(a.anomaly_map - b.anomaly_map).max()) for a, b in pairs
        ),
        "largest_score_change": max(abs(a.score - b.score) for a, b in pairs),
        "float32_pixel_auroc": auroc[0],
        "pixel_auroc": auroc[1],
        "pixel_auroc_change": auroc[1] - auroc[0],
    }


def end_to_end(model: BayesPFLNetwork, settings: InferenceSettings) -> dict[str, Any]:
    """A folder of PNG files to the written predictions.csv, without maps and overlays."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "images"
        folder.mkdir()
        for index, (image, _, _) in enumerate(rendered_pictures(settings.files, 256)):
            Image.fromarray(image).save(folder / f"{index:05d}.png")
        summary = predict_folder(
            model,
            folder,
            Path(place) / "out",
            class_name=CLASS_NAME,
            settings=FolderSettings(
                samples=settings.samples,
                precision=settings.precision,
                batch_size=settings.batch_size,
                maps="none",
                overlays=False,
                workers=settings.workers,
                compile=settings.compile,
            ),
        )
    return {
        "files": settings.files,
        "seconds": summary.seconds,
        "images_per_second": summary.images_per_second,
    }


def _circumstances(
    model: BayesPFLNetwork, settings: InferenceSettings, taken: dict[str, list[float]]
) -> dict[str, Any]:
    return {
        "settings": {
            "backbone": model.config.backbone.name,
            "image_size": model.backbone.image_size,
            "samples": model.draw(settings.samples).count,
            "precision": settings.precision,
            "batch_size": settings.batch_size,
            "compile": settings.compile,
            "repeats": settings.repeats,
        },
        "seconds_per_batch": taken,
        "environment": environment(model.device.type),
    }
