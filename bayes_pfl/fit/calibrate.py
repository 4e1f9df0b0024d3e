"""Normal images through the model: a calibration. Engine of ``bayes-pfl calibrate``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sized
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bayes_pfl.checkpoints.fingerprint import fingerprint
from bayes_pfl.data.decoding import decode
from bayes_pfl.data.image_files import find_images
from bayes_pfl.detect.class_names import check_class_name
from bayes_pfl.detect.inputs import ImageLike, batched, load_pixels
from bayes_pfl.detect.scorer import ScoredImage, Scorer
from bayes_pfl.detect.settings import ScoringSettings
from bayes_pfl.errors import ConfigError, DataError
from bayes_pfl.fit.calibration import MIN_IMAGES, CalibratedCheckpoint, Calibration, settings_of
from bayes_pfl.fit.conformal import PixelRates, check_rate, score_threshold, upward_z
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.support.progress import NullProgress, Progress

OUTLIER_Z = 6.0
"""Value of ``conformal.upward_z`` from which a score is taken for that of an abnormal image."""
_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class CalibrationOptions(ScoringSettings):
    """How to calibrate; a run that uses the calibration must score its images the same way.

    Attributes:
        fpr: false positive rate of images: share of new normal images that may be labelled
            anomalous.
        pixel_fpr: of pixels; None for the same.
        keep_outliers: keep images that look abnormal, instead of refusing them.

    Raises:
        ConfigError: a value that cannot be used.
    """

    fpr: float = 0.05
    pixel_fpr: float | None = None
    keep_outliers: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rate("fpr", self.fpr)
        check_rate("pixel_fpr", self.of_pixels)

    @property
    def of_pixels(self) -> float:
        """The rate of pixels."""
        return self.fpr if self.pixel_fpr is None else self.pixel_fpr

    def check_count(self, images: int) -> None:
        """Raise DataError where so many images are too few."""
        if images < MIN_IMAGES:
            raise DataError(
                f"{images} normal images are too few to calibrate on: give {MIN_IMAGES} at least"
            )
        check_rate("fpr", self.fpr, images)
        check_rate("pixel_fpr", self.of_pixels, images)


_DEFAULTS = CalibrationOptions()


def calibrate(
    model: BayesPFLNetwork,
    images: Iterable[ImageLike],
    class_name: str,
    options: CalibrationOptions = _DEFAULTS,
    *,
    checkpoint: str | None = None,
    progress: Progress | None = None,
) -> Calibration:
    """Thresholds from normal images: paths, Pillow images, arrays or tensors, of any sizes.

    Args:
        checkpoint: name of the model, for the file.

    Raises:
        ConfigError: an option that cannot be used.
        DataError: too few images, unreadable ones, or some that look abnormal.
    """
    run = _Calibration(model, class_name, options)
    if isinstance(images, Sized):
        options.check_count(len(images))
    progress = progress or NullProgress()
    side = model.backbone.image_size
    loaded = ((str(at), load_pixels(image, at, side)) for at, image in enumerate(images))
    for batch in batched(loaded, options.batch_size):
        scored = run.scorer([item.pixels for _, item in batch], [class_name] * len(batch))
        for (at, item), one in zip(batch, scored, strict=True):
            run.add(os.fspath(item.path) if item.path else f"image {at}", one)
        progress.advance(len(batch), {})
    return run.finished(checkpoint)


def calibrate_folder(
    model: BayesPFLNetwork,
    folder: str | os.PathLike[str],
    class_name: str,
    options: CalibrationOptions = _DEFAULTS,
    *,
    checkpoint: str | None = None,
    progress: Progress | None = None,
) -> tuple[Calibration, list[tuple[str, str]]]:
    """As :func:`calibrate`, with every image below a folder.

    Returns:
        The calibration; paths and reasons of files that could not be read and were left out.
    """
    folder = Path(folder)
    paths = find_images(folder)
    run, skipped = _Calibration(model, class_name, options), []
    options.check_count(len(paths))
    progress = progress or NullProgress()
    progress.start("calibration", len(paths))
    side, size = model.backbone.image_size, options.batch_size
    for batch in decode(paths, side, batch_size=size, workers=options.workers):
        skipped += [(str(item.path), item.error) for item in batch if item.pixels is None]
        found = run.scorer.decoded(batch, [class_name] * len(batch))
        for item, scored in zip(batch, found, strict=True):
            if scored is not None:
                run.add(str(item.path), scored)
        progress.advance(len(batch), {})
    return run.finished(checkpoint), skipped


class _Calibration:
    """Scores and counts of pixels, taken in batch by batch."""

    def __init__(
        self, model: BayesPFLNetwork, class_name: str, options: CalibrationOptions
    ) -> None:
        check_class_name(model, class_name)
        self.model, self.class_name, self.options = model, class_name, options
        self.scorer = Scorer(model, options, spread=False)
        self.scores: list[float] = []
        self.names: list[str] = []
        self.pixels = PixelRates()

    def add(self, name: str, scored: ScoredImage) -> None:
        """Take in an image by its name."""
        if not scored.finite or scored.map is None:
            raise ConfigError(f"the score of {name} is not finite: use bfloat16 or float32")
        self.scores.append(scored.score)
        self.names.append(name)
        self.pixels.add(scored.map.clamp(0, 1).numpy())

    def finished(self, checkpoint: str | None) -> Calibration:
        """The calibration of all that was added."""
        options, count = self.options, len(self.scores)
        options.check_count(count)
        if not options.keep_outliers:
            refuse_outliers(self.names, self.scores)
        settings = settings_of(self.model, self.class_name, options)
        return Calibration(
            checkpoint=CalibratedCheckpoint(checkpoint, fingerprint(self.model)),
            settings=settings,
            n=count,
            fpr=float(options.fpr),
            scores=tuple(sorted(self.scores)),
            threshold=score_threshold(self.scores, options.fpr),
            pixel_fpr=float(options.of_pixels),
            pixel_threshold=self.pixels.threshold(options.of_pixels),
        )


def refuse_outliers(names: list[str], scores: list[float], limit: float = OUTLIER_Z) -> None:
    """Raise DataError naming the images whose scores lie far above the others'.

    One abnormal image among n normal ones can lift the threshold over every anomaly.
    """
    z = upward_z(scores)
    found = sorted(np.flatnonzero(z > limit), key=lambda at: -z[at])
    if found:
        outliers = [f"{names[at]} (score {scores[at]:.3f}, z {z[at]:.0f})" for at in found]
        named = ", ".join(outliers[:_NAMED])
        more = f" and {len(outliers) - _NAMED} more" if len(outliers) > _NAMED else ""
        raise DataError(
            f"{len(outliers)} of {len(scores)} images look abnormal compared with the others, "
            f"whose median score is {np.median(scores):.3f}: {named}{more}; look at them and take "
            "out those with a fault, or keep them all with --keep-outliers (keep_outliers)"
        )
