"""Memory of long runs: very many small images through a tiny model with random weights.

It measures what grows with the number of images, so model and images are tiny: the figures say
nothing about the time of a real model.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from bayes_pfl.checkpoints.load import build_model
from bayes_pfl.config import BackboneConfig, ModelConfig
from bayes_pfl.data.records import Sample
from bayes_pfl.detect.settings import ScoringSettings
from bayes_pfl.errors import ConfigError
from bayes_pfl.evaluate.datasets import EvaluationData
from bayes_pfl.evaluate.request import EvaluationRequest
from bayes_pfl.evaluate.run import run_benchmark
from bayes_pfl.evaluate.scoring import EvaluationSettings
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.predict.folder import predict_folder
from bayes_pfl.predict.images import predict_stream
from bayes_pfl.predict.settings import FolderSettings
from benchmarks.memory import peak_mb, reset_peak
from benchmarks.subjects import CLASS_NAME

PARTS = ("stream", "folder", "evaluate")
_SIDE, _PATCH, _WIDTH = 32, 8, 32
_PICTURES = 200
_BATCH = 50
_CATEGORIES = 4
_FIRST_SHARE = 0.1


@dataclass(frozen=True)
class SoakSettings:
    """How much of each part.

    Attributes:
        images: for predict_stream over a generator, and for predict over a folder.
        evaluated: for evaluate.
        minutes: of each part, at most.
        report: whether predict writes its page.
        parts: of :data:`PARTS`.
    """

    images: int = 100_000
    evaluated: int = 20_000
    minutes: float = 5.0
    report: bool = False
    parts: tuple[str, ...] = PARTS

    def __post_init__(self) -> None:
        if unknown := [part for part in self.parts if part not in PARTS]:
            raise ConfigError(f"part {unknown[0]!r} is not known: give some of {', '.join(PARTS)}")


class _TimeUp(KeyboardInterrupt):
    """The minutes of the part are over."""


class Meter:
    """Progress that reads the memory after a tenth of the images and at the end."""

    def __init__(self, total: int, minutes: float) -> None:
        self.total, self.done = total, 0
        self.early: float | None = None
        reset_peak()
        self._begun = time.perf_counter()
        self._until = self._begun + 60 * minutes

    def start(self, title: str, steps: int) -> None:
        """Nothing."""

    def advance(self, done: int, values: dict[str, float]) -> None:
        """Count the images; stop when the time is over."""
        self.done += done
        if self.early is None and self.done >= _FIRST_SHARE * self.total:
            self.early = peak_mb()
        if time.perf_counter() > self._until:
            raise _TimeUp

    def report(self) -> dict[str, Any]:
        """Images, seconds and peak memory of the part."""
        seconds = time.perf_counter() - self._begun
        return {
            "images": self.done,
            "of": self.total,
            "seconds": seconds,
            "images_per_second": self.done / seconds,
            "peak_mb_after_a_tenth": self.early,
            "peak_mb": peak_mb(),
        }


def soak(settings: SoakSettings, tell: Callable[[str, dict[str, Any]], None]) -> dict[str, Any]:
    """Run every part; returns the report of each, by name.

    Args:
        tell: called with the name and the report of each part when it is finished.
    """
    found: dict[str, Any] = {"settings": asdict(settings)}
    with tempfile.TemporaryDirectory() as place:
        model = tiny_model(Path(place))
        parts = {"stream": _stream, "folder": _folder, "evaluate": _evaluate}
        for name in settings.parts:
            total = settings.evaluated if name == "evaluate" else settings.images
            work = Path(place) / name
            work.mkdir()
            found[name] = parts[name](model, work, total, settings)
            tell(name, found[name])
    return found


def tiny_model(place: Path) -> BayesPFLNetwork:
    """A model on a CLIP of 32 px and two layers, random weights; ``place`` gets its config."""
    vision = {"image_size": _SIDE, "patch_size": _PATCH, "layers": 2, "width": _WIDTH}
    text = {"context_length": 77, "vocab_size": 49408, "width": _WIDTH, "heads": 2, "layers": 1}
    config = {
        "embed_dim": _WIDTH,
        "vision_cfg": vision | {"head_width": 16},
        "text_cfg": text,
    }
    content = {"model_cfg": config, "preprocess_cfg": {}}
    (place / "open_clip_config.json").write_text(json.dumps(content), encoding="utf-8")
    backbone = BackboneConfig(f"local-dir:{place}", layers=(1, 2), random_weights=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_model(ModelConfig(backbone=backbone)).eval()


def _stream(
    model: BayesPFLNetwork, place: Path, total: int, settings: SoakSettings
) -> dict[str, Any]:
    meter = Meter(total, settings.minutes)
    images = itertools.islice(pictures(), total)
    results = predict_stream(
        model, images, CLASS_NAME, ScoringSettings(samples=0, batch_size=_BATCH)
    )
    with contextlib.suppress(_TimeUp):
        for _ in results:
            meter.advance(1, {})
    return meter.report()


def _folder(
    model: BayesPFLNetwork, place: Path, total: int, settings: SoakSettings
) -> dict[str, Any]:
    for _ in _files(place / "images", total):
        pass
    meter = Meter(total, settings.minutes)
    with contextlib.suppress(_TimeUp):
        predict_folder(
            model,
            place / "images",
            place / "out",
            class_name=CLASS_NAME,
            progress=meter,
            settings=FolderSettings(
                samples=0, batch_size=_BATCH, maps="none", overlays=False, report=settings.report
            ),
        )
    return meter.report()


def _evaluate(
    model: BayesPFLNetwork, place: Path, total: int, settings: SoakSettings
) -> dict[str, Any]:
    mask = np.zeros((_SIDE, _SIDE), np.uint8)
    mask[8:16, 8:16] = 255
    Image.fromarray(mask).save(place / "mask.png")
    samples = []
    for index, path in enumerate(_files(place / "images", total)):
        category, label = f"category {index * _CATEGORIES // total}", index % 2
        parts = (place / "mask.png") if label else None
        samples.append(Sample(path, category, CLASS_NAME, label, parts))
    out = place / "out"
    request = EvaluationRequest(
        checkpoints=("tiny",),
        data=(EvaluationData("soak", tuple(samples)),),
        out=out,
        settings=EvaluationSettings(samples=0, batch_size=_BATCH, skip_unreadable=True),
        cache=out / "cache",
    )
    meter = Meter(total, settings.minutes)
    with contextlib.suppress(_TimeUp):
        run_benchmark(request, meter, load=lambda _: model)
    return meter.report()


def pictures() -> Iterator[np.ndarray]:
    """uint8 (S, S, 3) without end, made as they are asked for."""
    generator = np.random.default_rng(0)
    while True:
        yield generator.integers(0, 256, (_SIDE, _SIDE, 3), dtype=np.uint8)


def _files(folder: Path, total: int) -> Iterator[Path]:
    """``total`` names of a few hundred files, made as they are asked for."""
    first: list[Path] = []
    for index, picture in enumerate(itertools.islice(pictures(), min(total, _PICTURES))):
        path = folder / "0000" / f"{index:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
        first.append(path)
        yield path
    for index in range(len(first), total):
        path = folder / f"{index // 1000:04d}" / f"{index:06d}.png"
        path.parent.mkdir(exist_ok=True)
        os.link(first[index % len(first)], path)
        yield path
