"""What large pictures cost: the time of tiles, and the memory of a very large one."""

from __future__ import annotations

import itertools
import math
import multiprocessing
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import tifffile
import torch
from PIL import Image

from bayes_pfl.checkpoints.load import load_checkpoint
from bayes_pfl.data.decoding import PICTURES_AT_ONCE
from bayes_pfl.data.tiles import TileSettings
from bayes_pfl.detect.settings import ScoringSettings
from bayes_pfl.fit.fit import FitOptions, fit_profile
from bayes_pfl.fit.profile import Profile
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.predict.folder import predict_folder
from bayes_pfl.predict.images import predict_stream
from bayes_pfl.predict.settings import FolderSettings
from bayes_pfl.support.environment import environment
from benchmarks.large_pictures import RenderedSurface
from benchmarks.memory import status_mb
from benchmarks.timing import interleaved, with_processor_time

_CATEGORY = "plaster"
_BLOCK = 1024  # pixels of a part of the TIFF file
_PAUSE = 0.02  # seconds between two looks at the memory


@dataclass(frozen=True)
class LargeCostSettings:
    """What is measured.

    Attributes:
        size: (W, H) of the pictures whose prediction is timed.
        references: pictures of that size for the profile; 0 to time prediction without it alone.
        samples: prompts to time, each by itself.
        repeats: timed rounds, after one that is not.
        megapixels: of the TIFF file; 0 for none.
    """

    checkpoint: str
    size: tuple[int, int] = (4000, 3000)
    references: int = 3
    samples: tuple[int, ...] = (0, 10)
    repeats: int = 3
    batch_size: int = 8
    megapixels: int = 0
    device: str | None = None


def benchmark_large_cost(settings: LargeCostSettings) -> dict[str, Any]:
    """Seconds of a large picture in tiles, and the memory that a very large one takes.

    Times are of ``predict_stream`` on pictures in memory, from cutting to the finished map, without
    the map of the uncertainty; the ways take turns.

    Returns:
        {"time": [{"samples", "profile", "views", "best_seconds", "median_seconds",
        "seconds_per_megapixel", "tiles_per_second", "processor_seconds_per_tile"}], the last three
        of the best round,
        "memory": of :func:`memory_of_large`, or None, "settings", "environment"}
    """
    model = load_checkpoint(settings.checkpoint, device=settings.device)
    return {
        "time": _times(model, settings) if settings.repeats else [],
        "memory": memory_of_large(settings) if settings.megapixels else None,
        "settings": asdict(settings),
        "environment": environment(model.device.type),
    }


def _times(model: BayesPFLNetwork, settings: LargeCostSettings) -> list[dict[str, Any]]:
    surface = RenderedSurface(_CATEGORY, settings.size, 0)
    normal = [surface.sound(index) for index in range(settings.references)]
    picture = Image.fromarray(surface.sound(settings.references))
    profiles: dict[tuple[int, bool], Profile | None] = {}
    for count in settings.samples:
        profiles[count, False] = None
        if normal:
            options = FitOptions(
                tile="auto", samples=count, batch_size=settings.batch_size, keep_outliers=True
            )
            profiles[count, True] = fit_profile(model, normal, "object", options)
    spent: dict[str, list[float]] = {str(key): [] for key in profiles}
    works = {
        str(key): with_processor_time(
            _prediction(model, picture, key[0], profile, settings), spent[str(key)]
        )
        for key, profile in profiles.items()
    }
    taken = interleaved(works, settings.repeats, model.device)
    tiling = TileSettings("auto", FitOptions().overlap, model.backbone.image_size)
    views = len(tiling.tiling(settings.size).tiles(settings.size)) + 1
    megapixels = settings.size[0] * settings.size[1] / 1e6
    rows = []
    for samples, with_profile in profiles:
        key = str((samples, with_profile))
        seconds = [value / PICTURES_AT_ONCE for value in taken[key]]
        best = min(seconds)
        rows.append(
            {
                "samples": samples,
                "profile": with_profile,
                "views": views,
                "best_seconds": best,
                "median_seconds": median(seconds),
                "seconds_per_megapixel": best / megapixels,
                "tiles_per_second": views / best,
                "processor_seconds_per_tile": min(spent[key]) / PICTURES_AT_ONCE / views,
            }
        )
    return rows


def _prediction(
    model: BayesPFLNetwork,
    picture: Image.Image,
    samples: int,
    profile: Profile | None,
    settings: LargeCostSettings,
) -> Callable[[], object]:
    """As many pictures as are scored together."""
    scoring = ScoringSettings(samples=samples, batch_size=settings.batch_size, tile="auto")
    pictures = itertools.repeat(picture)
    stream = predict_stream(model, pictures, "object", scoring, profile=profile, uncertainty=False)
    return lambda: list(itertools.islice(stream, PICTURES_AT_ONCE))


def memory_of_large(settings: LargeCostSettings) -> dict[str, Any]:
    """Peak memory of predicting a tiled TIFF file of RGB noise, in a process of its own, with all
    that ``predict`` writes by default.

    The map of so large a picture lies in a temporary file, whose pages count as resident for as
    long as the system leaves them in memory. So what is resident at most ("peak_mb") is more than
    what the process needs, which lies nearer to what belongs to no file ("peak_anonymous_mb").

    Returns:
        {"megapixels", "file_mb", "before_mb", "peak_mb", "peak_anonymous_mb"}; the last three are
        None where the system does not report them, "before_mb" is with the model loaded.
    """
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "images").mkdir()
        file = Path(place) / "images" / "large.tif"
        side = round((settings.megapixels * 1e6) ** 0.5)
        write_large_tiff(file, side)
        alone = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=alone) as pool:
            threads = torch.get_num_threads()
            found = pool.submit(_predict_alone, Path(place), settings, threads).result()
        return {"megapixels": side**2 / 1e6, "file_mb": file.stat().st_size / 2**20, **found}


def write_large_tiff(file: Path, side: int) -> None:
    """Write a tiled TIFF file, a part at a time: RGB noise of ``side`` x ``side`` pixels."""
    tifffile.imwrite(
        file,
        _blocks(math.ceil(side / _BLOCK) ** 2),
        shape=(side, side, 3),
        dtype=np.uint8,
        tile=(_BLOCK, _BLOCK),
        photometric="rgb",
        bigtiff=True,
    )


def _blocks(count: int) -> Iterator[np.ndarray]:
    """Parts of a picture, the same few again and again: how they look changes no cost."""
    rng = np.random.default_rng(0)
    few = [rng.normal(128, 10, (_BLOCK, _BLOCK, 1)).clip(0, 255) for _ in range(4)]
    return itertools.islice(
        itertools.cycle([block.astype(np.uint8).repeat(3, 2) for block in few]), count
    )


def _predict_alone(
    place: Path, settings: LargeCostSettings, threads: int
) -> dict[str, float | None]:
    torch.set_num_threads(threads)
    model = load_checkpoint(settings.checkpoint, device=settings.device)
    before = status_mb("VmRSS")
    watch = _Watch()
    watch.start()
    predict_folder(
        model,
        place / "images",
        place / "out",
        class_name="object",
        settings=FolderSettings(samples=0, tile="auto", batch_size=settings.batch_size),
    )
    return {
        "before_mb": before,
        "peak_mb": status_mb("VmHWM"),
        "peak_anonymous_mb": watch.stopped(),
    }


class _Watch(threading.Thread):
    """Notes the most memory that belonged to no file, of which the system keeps no peak."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._over = threading.Event()
        self._most: float | None = None

    def run(self) -> None:
        """Look again and again."""
        while not self._over.wait(_PAUSE):
            now = status_mb("RssAnon")
            if now is not None:
                self._most = max(now, self._most or 0.0)

    def stopped(self) -> float | None:
        """MB; None where the system does not report it."""
        self._over.set()
        self.join()
        return self._most
