"""Normal images through the model: a calibration. Engine of ``bayes-pfl calibrate``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bayes_pfl.checkpoints.fingerprint import fingerprint
from bayes_pfl.data.decoding import Decoded, decode
from bayes_pfl.data.pages import find_pictures
from bayes_pfl.data.roi_files import below
from bayes_pfl.detect.class_names import check_class_name
from bayes_pfl.detect.inputs import ImageLike, Loaded, batched, load_pixels
from bayes_pfl.detect.pictures import score_pictures
from bayes_pfl.detect.scorer import Scorer
from bayes_pfl.detect.settings import ScoringSettings
from bayes_pfl.errors import ConfigError, DataError
from bayes_pfl.fit.calibration import CalibratedCheckpoint, Calibration, settings_of
from bayes_pfl.fit.conformal import PixelRates, check_rate, score_threshold, upward_z
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.support.progress import NullProgress, Progress

MIN_IMAGES = 20
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
    if isinstance(images, Sized):
        options.check_count(len(images))
    side = model.backbone.image_size
    side, tiles = model.backbone.image_size, options.tiles(model)
    loaded = (
        load_pixels(image, at, side, options.window, tiles, options.interest)
        for at, image in enumerate(images)
    )
    batches = batched(loaded, options.batch_size)
    return calibrate_batches(model, batches, class_name, options, checkpoint, progress)[0]


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
    pictures = find_pictures(folder, options.window).pictures
    options.check_count(len(pictures))
    progress = progress or NullProgress()
    progress.start("calibration", len(pictures))
    skipped: list[tuple[str, str]] = []

    def batches() -> Iterator[list[Decoded]]:
        for batch in decode(
            pictures,
            model.backbone.image_size,
            batch_size=options.batch_size,
            workers=options.workers,
            tiles=options.tiles(model),
            roi=below(options.interest, Path(folder)),
        ):
            skipped.extend((item.title, item.error) for item in batch if item.pixels is None)
            yield batch

    found, _ = calibrate_batches(model, batches(), class_name, options, checkpoint, progress)
    return found, skipped


def calibrate_batches(
    model: BayesPFLNetwork,
    batches: Iterable[Sequence[Decoded | Loaded]],
    class_name: str,
    options: CalibrationOptions,
    checkpoint: str | None,
    progress: Progress | None,
) -> tuple[Calibration, dict[str, float]]:
    """The calibration on the images that could be read, and the score of each by its name."""
    check_class_name(model, class_name)
    scorer = Scorer(model, options, spread=False)
    scores: list[float] = []
    peaks: list[float] = []
    names: list[str] = []
    pixels = PixelRates()
    for batch in batches:
        found = score_pictures(scorer, batch, [class_name] * len(batch))
        for item, scored in zip(batch, found, strict=True):
            if scored is None:
                continue
            names.append(item.title or f"image {len(names)}")
            if not scored.finite or scored.map is None:
                raise ConfigError(
                    f"the score of {names[-1]} is not finite: use bfloat16 or float32"
                )
            scores.append(scored.score)
            one = scored.map.clamp(0, 1).numpy()
            pixels.add(one, item.roi.inside(one.shape[:2]) if item.roi else None)
            peaks.append(float(one.max()))
        if progress:
            progress.advance(len(batch), {})
    options.check_count(len(scores))
    if not options.keep_outliers:
        refuse_outliers(names, scores)
    calibration = Calibration(
        checkpoint=CalibratedCheckpoint(checkpoint, fingerprint(model)),
        settings=settings_of(model, class_name, options),
        n=len(scores),
        fpr=float(options.fpr),
        scores=tuple(sorted(scores)),
        threshold=score_threshold(scores, options.fpr),
        pixel_fpr=float(options.of_pixels),
        pixel_threshold=pixels.threshold(options.of_pixels),
        peaks=tuple(sorted(peaks)),
    )
    return calibration, dict(zip(names, scores, strict=True))


def refuse_outliers(names: list[str], scores: list[float]) -> None:
    """Raise DataError naming the images whose scores lie far above the others'.

    One abnormal image among n normal ones can lift the threshold over every anomaly.
    """
    z = upward_z(scores)
    found = sorted(np.flatnonzero(z > OUTLIER_Z), key=lambda at: -z[at])
    if found:
        outliers = [f"{names[at]} (score {scores[at]:.3f}, z {z[at]:.0f})" for at in found]
        named = ", ".join(outliers[:_NAMED])
        more = f" and {len(outliers) - _NAMED} more" if len(outliers) > _NAMED else ""
        raise DataError(
            f"{len(outliers)} of {len(scores)} images look abnormal compared with the others, "
            f"whose median score is {np.median(scores):.3f}: {named}{more}; look at them and take "
            "out those with a fault, or keep them all with --keep-outliers (keep_outliers)"
        )
