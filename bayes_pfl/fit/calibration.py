"""What calibration on normal images found, its file, and whether it fits a run.

A calibration belongs to one checkpoint, one class name and the settings that change scores: with
others its guarantee is void, so it is refused there.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bayes_pfl.checkpoints.fingerprint import known_fingerprint
from bayes_pfl.data.dicom import Window
from bayes_pfl.data.tiles import DEFAULT_OVERLAP
from bayes_pfl.detect.regions import PValues
from bayes_pfl.detect.settings import ScoringSettings
from bayes_pfl.errors import ConfigError
from bayes_pfl.fit.conformal import p_values, score_threshold, smallest_rate
from bayes_pfl.fit.review import REVIEW_P
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.support.differences import differences
from bayes_pfl.support.files import raising_not_written, write_atomically
from bayes_pfl.support.parsing import Malformed, read_json
from bayes_pfl.support.typed_json import from_dict

FORMAT, VERSION = "bayes-pfl calibration", 1
_MAX_BYTES = 64 * 2**20


@dataclass(frozen=True)
class CalibratedCheckpoint:
    """The model: its name as it was given, and the SHA-256 of its weights and scoring settings."""

    name: str | None
    sha256: str


@dataclass(frozen=True)
class CalibratedSettings:
    """Settings that change scores or maps; see :meth:`bayes_pfl.BayesPFL.predict`.

    Attributes:
        roi: hash of the region of interest, or "folder" where each picture has its own.
    """

    class_name: str
    samples: int
    precision: str
    smoothing: bool
    image_size: int
    seed: int
    window: Window | None = None
    tile: int | None = None
    overlap: float = DEFAULT_OVERLAP
    roi: str | None = None


@dataclass(frozen=True)
class Calibration:
    """Thresholds with a known false positive rate, from ``n`` normal images.

    Attributes:
        n: normal images, at least 20.
        fpr: a new normal image scores ``threshold`` or more with at most this probability.
        scores: of the normal images, in rising order.
        threshold: see :func:`bayes_pfl.fit.conformal.score_threshold`.
        pixel_fpr: expected share of the pixels of a new normal image at or above
            ``pixel_threshold``, at most.
        pixel_threshold: of the (smoothed) map at the model's size.
        peaks: highest value of each normal image's map at that size, in rising order; empty in
            files of earlier versions.

    Raises:
        ConfigError: values that do not belong together.
    """

    checkpoint: CalibratedCheckpoint
    settings: CalibratedSettings
    n: int
    fpr: float
    scores: tuple[float, ...]
    threshold: float
    pixel_fpr: float
    pixel_threshold: float
    peaks: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if faults := list(_faults(self)):
            raise ConfigError("; ".join(faults))

    @property
    def peak_p_values(self) -> PValues | None:
        """From peaks of regions to their p-values; None in files of earlier versions.

        A map that was resized has no higher peak than at the model's size: p-values of its regions
        are rather too high than too low.
        """
        return partial(p_values, self.peaks) if self.peaks else None

    @property
    def region_threshold(self) -> float | None:
        """What the peak of a region must reach; None in files of earlier versions."""
        return score_threshold(self.peaks, self.region_rate) if self.peaks else None

    @property
    def region_rate(self) -> float:
        """A new normal picture has a region whose peak reaches ``region_threshold`` with at most
        this probability: that of a review, or the lowest that so few pictures can guarantee."""
        return max(REVIEW_P, self.fpr, smallest_rate(self.n))

    def summary_dict(self) -> dict[str, Any]:
        """Everything but the scores and peaks, for summaries."""
        left_out = ("scores", "peaks")
        known = {name: value for name, value in asdict(self).items() if name not in left_out}
        return known | {"region_threshold": self.region_threshold}

    def check(self, model: BayesPFLNetwork, settings: CalibratedSettings) -> None:
        """Refuse a run whose scores are not comparable.

        Raises:
            ConfigError: naming every setting that differs.
        """
        check_fit("calibration", "calibrate", self.checkpoint, self.settings, model, settings)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the file, whole or not at all.

        Raises:
            ConfigError: it cannot be written.
        """
        path = Path(path)
        text = json.dumps({"format": FORMAT, "version": VERSION} | asdict(self), indent=2)
        with raising_not_written(path, "choose another file", ConfigError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, text + "\n")
        return path


def check_fit(
    what: str,
    again: str,
    checkpoint: CalibratedCheckpoint,
    made_with: CalibratedSettings,
    model: BayesPFLNetwork,
    settings: CalibratedSettings,
) -> None:
    """Refuse a run whose scores are not comparable with those of a calibration or profile.

    Args:
        what, again: what it is, and how it is made again.

    Raises:
        ConfigError: naming every setting that differs.
    """
    differing = differences(asdict(made_with), asdict(settings), "made")
    if not differing and known_fingerprint(model) != checkpoint.sha256:
        made = f" ({checkpoint.name})" if checkpoint.name else ""
        differing = [f"other weights or scoring settings than the checkpoint's{made}"]
    if differing:
        raise ConfigError(
            f"the {what} does not fit this run: {'; '.join(differing)}; use the settings "
            f"it was made with, or {again} again"
        )


def load_calibration(path: str | os.PathLike[str]) -> Calibration:
    """Read and check a file of :meth:`Calibration.save`; nothing in it is executed.

    Raises:
        ConfigError: not such a file, damaged, changed by hand, or of a later version.
    """
    path = Path(path)
    mend = "make it with bayes-pfl calibrate"
    try:
        data = read_json(path, _MAX_BYTES)
    except OSError as error:
        raise ConfigError(f"{path}: not readable ({error.strerror}); {mend}") from error
    except Malformed as error:
        raise ConfigError(f"{path}: not a calibration file ({error}); {mend}") from error
    if not isinstance(data, dict) or data.pop("format", None) != FORMAT:
        raise ConfigError(f"{path}: not a calibration file; {mend}")
    if (version := data.pop("version", None)) != VERSION:
        raise ConfigError(f"{path}: format {version!r}, this version reads {VERSION}; upgrade")
    try:
        return from_dict(Calibration, data, str(path))
    except ConfigError as error:
        raise ConfigError(f"{error}; make the file again with bayes-pfl calibrate") from error
    except OverflowError as error:
        raise ConfigError(f"{path}: a number too large; make it again") from error


def _faults(found: Calibration) -> list[str]:
    scores = np.asarray(found.scores, np.float64)
    rates = {"fpr": found.fpr, "pixel_fpr": found.pixel_fpr}
    faults = [
        f"{name} = {rate}: outside (0, 1)" for name, rate in rates.items() if not 0 < rate < 1
    ]
    if found.n != len(scores) or found.n < 2:
        faults.append(f"n = {found.n} with {len(scores)} scores: must agree, 2 or more")
    elif not (np.all(np.diff(scores) >= 0) and scores[0] >= 0 and scores[-1] <= 1):
        faults.append("scores: must rise, within 0 and 1")
    elif not faults:
        try:
            due = score_threshold(scores, found.fpr)
        except ValueError as error:
            return [str(error)]
        if found.threshold != due:
            faults.append(f"threshold = {found.threshold}: scores and fpr give {due}")
    peaks = np.asarray(found.peaks, np.float64)
    if len(peaks) not in (0, found.n):
        faults.append(f"{len(peaks)} peaks: must be n = {found.n}, or none")
    elif len(peaks) and not (np.all(np.diff(peaks) >= 0) and peaks[0] >= 0 and peaks[-1] <= 1):
        faults.append("peaks: must rise, within 0 and 1")
    if not 0 <= found.pixel_threshold <= 1.001:
        faults.append(f"pixel_threshold = {found.pixel_threshold}: must lie within 0 and 1")
    return faults


def settings_of(
    model: BayesPFLNetwork, class_name: str, settings: ScoringSettings
) -> CalibratedSettings:
    """The settings of a run as they are compared: defaults filled in, long names of precisions."""
    long = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
    return CalibratedSettings(
        class_name=class_name,
        samples=settings.sample_count(model),
        precision=long.get(settings.precision, settings.precision),
        smoothing=settings.smoothing,
        image_size=model.backbone.image_size,
        seed=settings.seed,
        window=settings.window,
        tile=settings.tile if isinstance(settings.tile, int) else None,
        overlap=settings.overlap,
        roi=settings.interest.key if settings.interest else None,
    )
