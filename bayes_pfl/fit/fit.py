"""Normal pictures through the model: a profile. Engine of ``bayes-pfl fit``."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from bayes_pfl.data.decoding import PICTURES_AT_ONCE, decode
from bayes_pfl.data.pages import find_pictures
from bayes_pfl.data.roi import PictureRoi
from bayes_pfl.data.roi_files import FOLDER, below
from bayes_pfl.detect.class_names import check_class_name
from bayes_pfl.detect.inputs import ImageLike, batched
from bayes_pfl.detect.name_sensitivity import effect_of_name
from bayes_pfl.detect.scorer import Scorer
from bayes_pfl.detect.standards import MEMORY_SPREAD
from bayes_pfl.errors import ConfigError, DataError
from bayes_pfl.fit.build import build_profile
from bayes_pfl.fit.calibrate import CalibrationOptions, calibrate_batches
from bayes_pfl.fit.calibration import settings_of
from bayes_pfl.fit.conformal import upward_z
from bayes_pfl.fit.normal_pictures import NormalPicture, in_order, normal_picture, tile_of_profile
from bayes_pfl.fit.profile import Profile, ReferencePicture, no_pictures, whole_roi
from bayes_pfl.fit.references import (
    FittedReferences,
    ReferenceOptions,
    fit_references,
    references_of,
)
from bayes_pfl.fit.tile_references import FittedTiles, fit_tiles, temporary_folder
from bayes_pfl.model.network import BayesPFLNetwork
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
        if self.aligned and self.tile is not None:
            raise ConfigError(
                f"aligned with tile = {self.tile}: a tile has no place of its own; leave one out"
            )

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
    pictures = [normal_picture(image, at, side, options) for at, image in enumerate(images)]
    return _fitted(model, pictures, class_name, options, checkpoint, progress).profile


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
    pictures = _pictures_of(before, model, class_name, options) if before else []
    decoded = [
        item
        for batch in decode(
            listed.pictures,
            model.backbone.image_size,
            batch_size=options.batch_size,
            workers=options.workers,
            roi=below(options.interest, Path(folder)),
            by_parts=options.tile is not None,
        )
        for item in batch
    ]
    for item in decoded:
        if item.pixels is not None and item.size is not None:
            name = page_title(item.path.relative_to(folder).as_posix(), item.picture.page)
            pictures.append(NormalPicture.of(name, item, item.picture.read))
    found = _fitted(model, pictures, class_name, options, checkpoint, progress)
    found.skipped.extend((item.title, item.error) for item in decoded if item.pixels is None)
    found.remarks.extend(listed.remarks)
    return found


def _pictures_of(
    before: Profile, model: BayesPFLNetwork, class_name: str, options: FitOptions
) -> list[NormalPicture]:
    if before.pixels is None:
        raise no_pictures(before)
    before.check(model, settings_of(model, class_name, options))
    if before.options != options.references:
        raise ConfigError(
            "the profile was made with other rotations or aligned: an update keeps both"
        )
    if before.settings.tile is not None:
        raise ConfigError(
            f"{before.folder or 'the profile'}: made with tiles, of which it keeps too little for "
            "an update; fit it again, with a folder of all the pictures"
        )
    if before.settings.roi == FOLDER:
        raise ConfigError(
            f"{before.folder or 'the profile'}: made with a folder of regions of interest, which "
            "it does not keep; fit it again, with a folder of all the pictures"
        )
    side, roi = model.backbone.image_size, before.roi
    return [
        NormalPicture(
            picture.name,
            before.pixels(number),
            picture.size or (side, side),
            None,
            PictureRoi.of(roi, picture.whole) if roi and picture.whole else None,
        )
        for number, picture in enumerate(before.pictures)
    ]


def _fitted(
    model: BayesPFLNetwork,
    pictures: Sequence[NormalPicture],
    class_name: str,
    options: FitOptions,
    checkpoint: str | None,
    progress: Progress | None,
) -> Fitted:
    check_class_name(model, class_name)
    if not pictures:
        raise DataError("no picture could be read: give one normal picture at least")
    options = replace(options, tile=tile_of_profile(pictures, options, model.backbone.image_size))
    progress = progress or NullProgress()
    progress.start("fit", len(pictures))
    if options.words_only:
        return _by_words(model, pictures, class_name, options, checkpoint, progress)
    scorer = Scorer(model, options)
    found = fit_references(
        scorer,
        [picture.pixels for picture in pictures],
        class_name,
        options.references,
        [picture.name for picture in pictures],
        lambda done: progress.advance(done, {}),
        [picture.inside for picture in pictures] if options.roi else None,
    )
    if near := found.near_copies():
        found = references_of(scorer, found.encoded.without(near), options.references)
    if not options.keep_outliers:
        _refuse_strangers(found)
    if options.tile is not None:
        found = found.seen_in_tiles()
    names = Counter(picture.name for picture in pictures)
    copies = sorted((names - Counter(found.encoded.names)).elements())
    own = in_order(pictures, found.encoded.digests)
    with temporary_folder() as folder:
        tiles = _tiles(scorer, found, own, class_name, options, Path(folder), progress)
        profile = build_profile(model, found, tiles, own, class_name, options, checkpoint, progress)
    return Fitted(profile, [], copies)


def _tiles(
    scorer: Scorer,
    found: FittedReferences,
    own: Sequence[NormalPicture],
    class_name: str,
    options: FitOptions,
    folder: Path,
    progress: Progress,
) -> FittedTiles | None:
    settings = options.tiles(scorer.model)
    if settings is None:
        return None
    return fit_tiles(
        scorer,
        own,
        settings,
        class_name,
        found.references,
        options.references,
        folder,
        progress,
    )


def _by_words(
    model: BayesPFLNetwork,
    pictures: Sequence[NormalPicture],
    class_name: str,
    options: FitOptions,
    checkpoint: str | None,
    progress: Progress,
) -> Fitted:
    """A profile of words alone: its thresholds."""
    tiles = options.tiles(model)
    loaded = (picture.loaded(tiles) for picture in pictures)
    batches = batched(loaded, PICTURES_AT_ONCE if tiles else options.batch_size)
    found, scores = calibrate_batches(model, batches, class_name, options, checkpoint, progress)
    pixels = [picture.pixels for picture in pictures]
    in_order = [scores[picture.name] for picture in pictures]
    rows = scores.items()
    known = tuple(ReferencePicture(name, "", score, score, None) for name, score in rows)
    profile = Profile(
        found.checkpoint,
        found.settings,
        ReferenceOptions(),
        float(options.fpr),
        float(options.of_pixels),
        known,
        None,
        found,
        # With tiles the scores are not those of the whole pictures, which are compared.
        name_effect=None
        if tiles
        else effect_of_name(
            model, pixels, class_name, in_order, options, [picture.inside for picture in pictures]
        ),
        roi=whole_roi(options),
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
            f"{len(strange)} of {len(far)} pictures differ much from the others, whose median "
            f"distance is {np.median(far):.3f}: {named}{more}; look at them and take out those of "
            "another thing or with a fault, or keep them all with --keep-outliers (keep_outliers)"
        )
