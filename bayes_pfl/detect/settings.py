"""The settings that shape a run's scores: one object, from the command line down to the model."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from numbers import Integral
from typing import Any

from bayes_pfl.config import MAX_SAMPLES, MAX_WORKERS
from bayes_pfl.data.dicom import Window
from bayes_pfl.data.roi import Roi
from bayes_pfl.data.roi_files import AnyRoi, RoiFolder, RoiLike, read_roi, roi_summary
from bayes_pfl.data.tiles import DEFAULT_OVERLAP, TileSettings
from bayes_pfl.errors import ConfigError
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.support.parsing import short
from bayes_pfl.support.precision import half_dtype


@dataclass(frozen=True, kw_only=True)
class ScoringSettings:
    """How images are scored. Jobs with further settings extend this class.

    Attributes:
        samples: Monte Carlo samples R; 0 for the mean prompt, whose text is encoded once per class
            name; None for the checkpoint's.
        precision: float32 (exact), bfloat16 or float16; or fp32, bf16, fp16.
        seed: of the random draws, below 2^64: the same seed gives the same scores.
        smoothing: of the maps; scores are computed from the maps before smoothing.
        batch_size: images scored at once; scores do not depend on it.
        workers: processes that decode files; 0 decodes in a thread of this process.
        compile: whether the image tower goes through torch.compile: for long runs.
        tile: side in pixels of the windows that large pictures are looked at in, besides as a
            whole; "auto" for each picture by its size; None for none.
        overlap: of neighbouring windows, as a share of their side, from 0 to 0.75.
        window: (centre, width) of the values of DICOM files; None for the files' own.
        roi: region of interest: a mask picture, a JSON file of polygons, or a folder of these by
            the pictures' names. It is read at once; pictures are cropped to the rectangle around
            it, and what lies outside of it does not count. None for whole pictures.

    Raises:
        ConfigError: a value that cannot be used.
        DataError: a region of interest that cannot be read.
    """

    samples: int | None = None
    precision: str = "float32"
    seed: int = 0
    smoothing: bool = True
    batch_size: int = 8
    workers: int = 0
    compile: bool = False
    tile: int | str | None = None
    overlap: float = DEFAULT_OVERLAP
    window: Window | None = None
    roi: RoiLike | None = None

    def __post_init__(self) -> None:
        if self.samples is not None:
            check_whole("samples", self.samples, 0, MAX_SAMPLES)
        check_whole("seed", self.seed, 0, 2**64 - 1)
        check_whole("batch_size", self.batch_size, 1)
        check_whole("workers", self.workers, 0, MAX_WORKERS)
        half_dtype(self.precision)  # raises for an unknown name
        TileSettings("auto" if self.tile is None else self.tile, self.overlap, 1)
        if self.window is not None:
            check_window(self.window)
        object.__setattr__(self, "roi", read_roi(self.roi))

    @property
    def interest(self) -> AnyRoi | None:
        """The region of interest, which has been read."""
        return self.roi if isinstance(self.roi, Roi | RoiFolder) else None

    def as_dict(self) -> dict[str, Any]:
        """All settings, ready for JSON."""
        return asdict(self) | {"roi": roi_summary(self.interest)}

    def sample_count(self, model: BayesPFLNetwork) -> int:
        """R of a run with this model."""
        return model.config.scoring.samples if self.samples is None else self.samples

    def tiles(self, model: BayesPFLNetwork) -> TileSettings | None:
        """How large pictures are cut; None if they are not."""
        if self.tile is None:
            return None
        return TileSettings(self.tile, self.overlap, model.backbone.image_size)


def check_window(window: Any) -> None:
    """Raise ConfigError unless this is a finite centre and a width above 0."""
    numbers = isinstance(window, tuple) and [isinstance(one, int | float) for one in window]
    if numbers != [True, True] or not all(map(math.isfinite, window)) or window[1] <= 0:
        raise ConfigError(
            f"window = {short(window)}: give two numbers, centre and a width above 0, as in 40,400"
        )


def check_whole(name: str, value: Any, low: int, high: float = math.inf) -> None:
    """Raise ConfigError unless ``value`` is a whole number from ``low`` to ``high``."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not (whole and low <= value <= high):
        most = "" if high == math.inf else f", {high} at most"
        raise ConfigError(f"{name} = {short(value)}: must be a whole number, {low} at least{most}")
