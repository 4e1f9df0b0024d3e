"""What normal pictures cost: the fit of a profile, prediction with it, and a folder by itself."""

from __future__ import annotations

import itertools
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from PIL import Image

from bayes_pfl.checkpoints.load import load_checkpoint
from bayes_pfl.detect.settings import ScoringSettings
from bayes_pfl.errors import ConfigError
from bayes_pfl.fit.fit import FitOptions, fit_folder
from bayes_pfl.fit.profile import Profile
from bayes_pfl.fit.profile_files import save_profile
from bayes_pfl.fit.references import DRAWN_MUTUAL
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.predict.folder import predict_folder
from bayes_pfl.predict.images import predict_stream
from bayes_pfl.predict.settings import FolderSettings
from bayes_pfl.rendering import TEST_CATEGORIES, render
from bayes_pfl.support.environment import environment
from benchmarks.memory import peak_mb
from benchmarks.timing import interleaved, medians, with_processor_time

_CATEGORY = TEST_CATEGORIES[0]
_FITTED_SIDE, _MUTUAL_SIDE = 256, 64


@dataclass(frozen=True)
class ProfileSettings:
    """How much of each part.

    Attributes:
        pictures: that a profile is fitted to.
        mutual: numbers of pictures of folders that are compared with themselves; empty for none.
        repeats: timed rounds of prediction, after one that is not.

    Raises:
        ConfigError: a folder with fewer pictures than are drawn of it.
    """

    checkpoint: str
    pictures: int = 100
    mutual: tuple[int, ...] = (1000, 4000)
    samples: int | None = None
    batch_size: int = 8
    repeats: int = 5
    device: str | None = None

    def __post_init__(self) -> None:
        if small := [count for count in self.mutual if count < DRAWN_MUTUAL]:
            raise ConfigError(
                f"--mutual {small[0]}: {DRAWN_MUTUAL} are drawn, give as many or more"
            )


def benchmark_profiles(settings: ProfileSettings) -> dict[str, Any]:
    """Seconds of a fit, of prediction with the profile and without, and of folders by themselves.

    Pictures are rendered: of 256 px for the fit, of 64 px for the folders. A fit is from decoding
    to the saved profile. Prediction is as in :mod:`benchmarks.inference`. Each folder is predicted
    in a process of its own, whose peak memory is all that it ever held, from decoding to the
    written predictions.csv, without maps, overlays and report; its seconds hold the draw too.
    Seconds of processor time are given as well, which other work on the machine changes less, and
    folders cannot take turns as batches do.

    Returns:
        {"fit_seconds", "plain_seconds", "profile_seconds" (medians per image), "ratio",
        "processor_ratio", "mutual": [{"pictures", "seconds_per_picture",
        "processor_seconds_per_picture", "peak_mb"}], "settings", "seconds_per_batch",
        "environment"}
    """
    model = load_checkpoint(settings.checkpoint, device=settings.device)
    with tempfile.TemporaryDirectory() as place:
        folder = _rendered(Path(place) / "normal", settings.pictures, _FITTED_SIDE)
        began = time.perf_counter()
        profile = _fitted(model, folder, Path(place) / "profile", settings)
        fit_seconds = time.perf_counter() - began
    works = {"plain": None, "profile": profile}
    processor: dict[str, list[float]] = {name: [] for name in works}
    turns = {
        name: with_processor_time(_prediction(model, one, settings), processor[name])
        for name, one in works.items()
    }
    taken = interleaved(turns, settings.repeats, model.device)
    seconds = {name: value / settings.batch_size for name, value in medians(taken).items()}
    return {
        "fit_seconds": fit_seconds,
        "plain_seconds": seconds["plain"],
        "profile_seconds": seconds["profile"],
        "ratio": seconds["profile"] / seconds["plain"],
        "processor_ratio": median(processor["profile"]) / median(processor["plain"]),
        "mutual": [_by_itself(count, settings) for count in settings.mutual],
        "settings": asdict(settings),
        "seconds_per_batch": taken,
        "environment": environment(model.device.type),
    }


def _fitted(model: BayesPFLNetwork, folder: Path, out: Path, settings: ProfileSettings) -> Profile:
    options = FitOptions(
        samples=settings.samples, batch_size=settings.batch_size, keep_outliers=True
    )
    found = fit_folder(model, folder, options=options).profile
    save_profile(found, out)
    return found


def _prediction(
    model: BayesPFLNetwork, profile: Profile | None, settings: ProfileSettings
) -> Callable[[], object]:
    """One batch of prediction, on pictures in memory at the model's size."""
    count, side = settings.batch_size, model.backbone.image_size
    pictures = [render(_CATEGORY, 1, at, size=side).image for at in range(count)]
    scoring = ScoringSettings(samples=settings.samples, batch_size=count)
    name = "object"  # the profile's, so that both score the same words
    stream = predict_stream(model, itertools.cycle(pictures), name, scoring, profile=profile)
    return lambda: list(itertools.islice(stream, count))


def _by_itself(count: int, settings: ProfileSettings) -> dict[str, Any]:
    """Seconds and peak memory of a folder, in a new process."""
    with tempfile.TemporaryDirectory() as place:
        _rendered(Path(place) / "images", count, _MUTUAL_SIDE)
        alone = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=alone) as pool:
            threads = torch.get_num_threads()
            wall, processor, peak = pool.submit(_mutual, Path(place), settings, threads).result()
    return {
        "pictures": count,
        "seconds_per_picture": wall / count,
        "processor_seconds_per_picture": processor / count,
        "peak_mb": peak,
    }


def _mutual(
    place: Path, settings: ProfileSettings, threads: int
) -> tuple[float, float, float | None]:
    """Seconds, seconds of processor time, and peak memory in MB."""
    torch.set_num_threads(threads)
    model = load_checkpoint(settings.checkpoint, device=settings.device)
    began, before = time.perf_counter(), time.process_time()
    predict_folder(
        model,
        place / "images",
        place / "out",
        mutual=DRAWN_MUTUAL,
        settings=FolderSettings(
            samples=settings.samples,
            batch_size=settings.batch_size,
            maps="none",
            overlays=False,
            report=False,
        ),
    )
    return time.perf_counter() - began, time.process_time() - before, peak_mb()


def _rendered(folder: Path, count: int, side: int) -> Path:
    """A folder of rendered pictures without a fault."""
    folder.mkdir()
    for at in range(count):
        image = render(_CATEGORY, 0, at, size=side).image
        Image.fromarray(image).save(folder / f"{at:05d}.png")
    return folder
