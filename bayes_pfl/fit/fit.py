"""Normal pictures through the model: a profile. Engine of ``bayes-pfl fit``."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bayes_pfl.checkpoints.fingerprint import fingerprint
from bayes_pfl.data.decoding import Decoded, decode
from bayes_pfl.data.pages import find_pictures
from bayes_pfl.detect.class_names import check_class_name
from bayes_pfl.detect.inputs import ImageLike, Loaded, batched, load_pixels
from bayes_pfl.detect.references import picture_digest
from bayes_pfl.detect.scorer import Scorer
from bayes_pfl.detect.standards import MEMORY_SPREAD
from bayes_pfl.errors import ConfigError, DataError
from bayes_pfl.fit.calibrate import CalibrationOptions, calibrate_batches
from bayes_pfl.fit.calibration import (
    CalibratedCheckpoint,
    Calibration,
    images_for_thresholds,
    settings_of,
)
from bayes_pfl.fit.conformal import PixelRates, score_threshold, upward_z
from bayes_pfl.fit.profile import Profile, ReferencePicture, no_pictures
from bayes_pfl.fit.references import FittedReferences, ReferenceOptions, fit_references
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.model.scoring import deploy_scores
from bayes_pfl.support.progress import NullProgress, Progress
from bayes_pfl.support.run_names import page_title

_NAMED = 5
_STRANGER_Z = 8.0  # of ``conformal.upward_z``; the farthest of 25 cookies has 5


@dataclass(frozen=True, kw_only=True)
class FitOptions(CalibrationOptions):
    """How to fit; a run that uses the profile must score its images the same way.

    Attributes:
        rotations, aligned: see :class:`bayes_pfl.fit.references.ReferenceOptions`.
        words_only: thresholds for scores by words; no patches are kept.

    Raises:
        ConfigError: a value that cannot be used.
    """

    rotations: bool = False
    aligned: bool = False
    words_only: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.words_only and (self.rotations or self.aligned):
            raise ConfigError("rotations and aligned are about patches: words_only keeps none")

    @property
    def references(self) -> ReferenceOptions:
        """How the references are made."""
        return ReferenceOptions(self.rotations, self.aligned)


_DEFAULTS = FitOptions()


@dataclass(frozen=True)
class Fitted:
    """A profile, and what was left out of it.

    Attributes:
        skipped: paths and pages, and reasons, of pictures that could not be read.
        copies: names of pictures that are in the profile already, as copies.
        remarks: what else lies in the folder and is not read, one line each.
    """

    profile: Profile
    skipped: list[tuple[str, str]]
    copies: list[str]
    remarks: list[str] = field(default_factory=list)


def fit_profile(
    model: BayesPFLNetwork,
    images: Iterable[ImageLike],
    class_name: str = "object",
    options: FitOptions = _DEFAULTS,
    *,
    checkpoint: str | None = None,
    progress: Progress | None = None,
) -> Profile:
    """A profile from normal images: paths, Pillow images, arrays or tensors, of any sizes.

    Args:
        checkpoint: name of the model, for the profile.

    Raises:
        ConfigError: an option that cannot be used.
        DataError: no images, unreadable ones, or some that look abnormal.
    """
    side = model.backbone.image_size
    loaded = [load_pixels(image, at, side, options.window) for at, image in enumerate(images)]
    names = [item.path or f"image {at}" for at, item in enumerate(loaded)]
    pixels = [item.pixels for item in loaded]
    return _fitted(model, pixels, names, class_name, options, checkpoint, progress).profile


def fit_folder(
    model: BayesPFLNetwork,
    folder: str | os.PathLike[str],
    class_name: str = "object",
    options: FitOptions = _DEFAULTS,
    *,
    before: Profile | None = None,
    checkpoint: str | None = None,
    progress: Progress | None = None,
) -> Fitted:
    """As :func:`fit_profile`, with every image below a folder, and every page of each.

    Args:
        before: a profile whose pictures are taken too: the result is that of one fit of all.

    Raises:
        ConfigError, DataError: as :func:`fit_profile`; a profile that was made otherwise.
    """
    listed = find_pictures(folder, options.window)
    names, pixels = _pictures_of(before, model, class_name, options) if before else ([], [])
    decoded = [
        item
        for batch in decode(
            listed.pictures,
            model.backbone.image_size,
            batch_size=options.batch_size,
            workers=options.workers,
        )
        for item in batch
    ]
    for item in decoded:
        if item.pixels is not None:
            names.append(_inside(item, Path(folder)))
            pixels.append(item.pixels)
    found = _fitted(model, pixels, names, class_name, options, checkpoint, progress)
    found.skipped.extend((item.title, item.error) for item in decoded if item.pixels is None)
    found.remarks.extend(listed.remarks)
    return found


def _inside(item: Decoded, folder: Path) -> str:
    return page_title(item.path.relative_to(folder).as_posix(), item.picture.page)


def _pictures_of(
    before: Profile, model: BayesPFLNetwork, class_name: str, options: FitOptions
) -> tuple[list[str], list[np.ndarray]]:
    if before.pixels is None:
        raise no_pictures(before)
    before.check(model, settings_of(model, class_name, options))
    if before.options != options.references:
        raise ConfigError(
            "the profile was made with other rotations or aligned: an update keeps both"
        )
    numbers = range(len(before.pictures))
    return [p.name for p in before.pictures], [before.pixels(number) for number in numbers]


def _fitted(
    model: BayesPFLNetwork,
    pixels: Sequence[np.ndarray],
    names: Sequence[str],
    class_name: str,
    options: FitOptions,
    checkpoint: str | None,
    progress: Progress | None,
) -> Fitted:
    check_class_name(model, class_name)
    if not pixels:
        raise DataError("no picture could be read: give one normal picture at least")
    progress = progress or NullProgress()
    progress.start("fit", len(pixels))
    if options.words_only:
        return _by_words(model, pixels, names, class_name, options, checkpoint, progress)
    scorer = Scorer(model, options)

    def fit(pictures: Sequence[np.ndarray], labels: Sequence[str]) -> FittedReferences:
        return fit_references(
            scorer,
            pictures,
            class_name,
            options.references,
            labels,
            lambda done: progress.advance(done, {}),
        )

    found = fit(pixels, names)
    near = found.near_copies()
    copies = [found.encoded.names[at] for at in near]
    if near:
        # By digest: two folders may hold different pictures of one name.
        left_out = {found.encoded.digests[at] for at in near}
        kept = [at for at, one in enumerate(pixels) if picture_digest(one) not in left_out]
        pixels, names = [pixels[at] for at in kept], [names[at] for at in kept]
        found = fit(pixels, names)
    if not options.keep_outliers:
        _refuse_strangers(found)
    equal = list((Counter(names) - Counter(found.encoded.names)).elements())
    return Fitted(
        _profile(model, found, pixels, options, checkpoint, class_name),
        [],
        sorted(copies) + sorted(equal),
    )


def _profile(
    model: BayesPFLNetwork,
    found: FittedReferences,
    pixels: Sequence[np.ndarray],
    options: FitOptions,
    checkpoint: str | None,
    class_name: str,
) -> Profile:
    by_digest = {picture_digest(one): one for one in pixels}
    own = [by_digest[digest] for digest in found.encoded.digests]
    several = len(own) > 1
    rates = PixelRates()
    scores: list[float] = []
    peaks: list[float] = []
    for score, one in found.left_out() if several else ():
        scores.append(score)
        rates.add(one)
        peaks.append(float(one.max()))
    words = [float(deploy_scores(one).score) for one in found.encoded.words]
    rows = zip(
        found.encoded.names,
        found.encoded.digests,
        scores if several else [None],
        words,
        found.memory_scores() if several else [None],
        strict=True,
    )
    checked = CalibratedCheckpoint(checkpoint, fingerprint(model))
    settings = settings_of(model, class_name, options)
    calibration = None
    if len(own) >= images_for_thresholds(options.fpr, options.of_pixels):
        calibration = Calibration(
            checked,
            settings,
            len(own),
            float(options.fpr),
            tuple(sorted(scores)),
            score_threshold(scores, options.fpr),
            float(options.of_pixels),
            rates.threshold(options.of_pixels),
            tuple(sorted(peaks)),
        )
    return Profile(
        checked,
        settings,
        options.references,
        float(options.fpr),
        float(options.of_pixels),
        tuple(ReferencePicture(*row) for row in rows),
        found.references,
        calibration,
        own.__getitem__,
    )


def _by_words(
    model: BayesPFLNetwork,
    pixels: Sequence[np.ndarray],
    names: Sequence[str],
    class_name: str,
    options: FitOptions,
    checkpoint: str | None,
    progress: Progress,
) -> Fitted:
    """A profile of words alone: its thresholds."""
    side = model.backbone.image_size
    loaded = (
        Loaded(one, (side, side), name, None) for one, name in zip(pixels, names, strict=True)
    )
    batches = batched(loaded, options.batch_size)
    found, scores = calibrate_batches(model, batches, class_name, options, checkpoint, progress)
    rows = scores.items()
    pictures = tuple(ReferencePicture(name, "", score, score, None) for name, score in rows)
    profile = Profile(
        found.checkpoint,
        found.settings,
        ReferenceOptions(),
        float(options.fpr),
        float(options.of_pixels),
        pictures,
        None,
        found,
    )
    return Fitted(profile, [], [])


def _refuse_strangers(found: FittedReferences) -> None:
    """Raise DataError naming pictures that lie far from all others: of another thing, or faulty."""
    far = np.array(found.memory_scores())
    if len(far) < 4:
        return
    z = upward_z(far, MEMORY_SPREAD / 2 * float(np.median(far)))
    strange = sorted(np.flatnonzero(z > _STRANGER_Z), key=lambda at: -z[at])
    if strange:
        named = ", ".join(
            f"{found.encoded.names[at]} (distance {far[at]:.3f}, z {z[at]:.0f})"
            for at in strange[:_NAMED]
        )
        more = f" and {len(strange) - _NAMED} more" if len(strange) > _NAMED else ""
        raise DataError(
            f"{len(strange)} of {len(far)} pictures stand out of the others, whose median distance "
            f"is {np.median(far):.3f}: {named}{more}; look at them and take out those of another "
            "thing or with a fault, or keep them all with --keep-outliers (keep_outliers)"
        )
