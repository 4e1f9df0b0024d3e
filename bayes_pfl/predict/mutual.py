"""The pictures of a folder compared with each other: no picture needs to be known as normal.

After MuSc (ICLR 2024), with three changes that keep the time linear in the number of pictures: the
references are a seeded draw of the folder; a pass over them gives the scale, by their median; then
every picture is scored by itself, as with a profile. A fault that recurs in a third of the pictures
looks normal to it, and a folder of several things needs a class name for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bayes_pfl.data.decoding import decode
from bayes_pfl.data.roi_files import below
from bayes_pfl.detect.references import References
from bayes_pfl.detect.scorer import Scorer
from bayes_pfl.detect.settings import check_whole
from bayes_pfl.errors import ConfigError, DataError
from bayes_pfl.fit.decision import Decision, ReferencePictures
from bayes_pfl.fit.normal_pictures import NormalPicture, tile_of_profile
from bayes_pfl.fit.references import FEWEST_MUTUAL, ReferenceOptions, fit_references
from bayes_pfl.fit.tile_references import with_tiles
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.predict.inputs import InputImages
from bayes_pfl.predict.settings import FolderSettings
from bayes_pfl.support.progress import Progress

_MOST = 256


def by_mutual_scoring(
    model: BayesPFLNetwork,
    inputs: InputImages,
    settings: FolderSettings,
    rule: Decision,
    count: int,
    progress: Progress,
) -> tuple[FolderSettings, Decision, dict[str, Any]]:
    """What a run that compares its images with each other needs, and what summaries say.

    Args:
        count: pictures drawn of each class name.

    Returns:
        The settings, with the side of the tiles that the drawn pictures call for; the decision; the
        entry of summaries.

    Raises:
        ConfigError: a count that cannot be used, or a profile.
        DataError: a class name with too few pictures that can be read, or without tiles although
            another has some.
    """
    check_whole("mutual", count, FEWEST_MUTUAL, _MOST)
    if rule.profile is not None or rule.calibration is not None:
        raise ConfigError(
            "mutual with a profile or calibration: the folder itself, or known normal pictures; "
            "give one of them"
        )
    names = sorted(set(inputs.names))
    drawn = {name: _drawn(model, inputs, settings, name, count) for name in names}
    everything = [picture for pictures in drawn.values() for picture in pictures]
    side = model.backbone.image_size
    settings = replace(settings, tile=tile_of_profile(everything, settings, side))
    scorer = Scorer(model, settings)
    references: dict[str, References] = {}
    shown: dict[str, ReferencePictures] = {}
    for name in names:
        references[name], shown[name] = _references(scorer, drawn[name], name, progress)
    digests = {name: sorted(one.digests) for name, one in references.items()}
    text = f"mutual: {count} drawn of {len(inputs)} by seed {settings.seed}"
    changed = replace(rule, references=references, compared_with=text, pictures=shown)
    return (
        settings,
        changed,
        {
            "drawn": count,
            "seed": settings.seed,
            "pictures": len(inputs),
            "digests": digests,
        },
    )


def _references(
    scorer: Scorer, pictures: Sequence[NormalPicture], name: str, progress: Progress
) -> tuple[References, ReferencePictures]:
    """What the images of a class name are compared with, and the pictures behind it."""
    settings = scorer.settings
    progress.start("references", len(pictures))
    fitted = fit_references(
        scorer,
        [picture.pixels for picture in pictures],
        name,
        ReferenceOptions(mutual=True),
        [picture.name for picture in pictures],
        lambda done: progress.advance(done, {}),
        [picture.inside for picture in pictures] if settings.roi else None,
    )
    encoded = fitted.encoded
    shown = ReferencePictures(encoded.names, encoded.pictures.__getitem__)
    cut = settings.tiles(scorer.model)
    if cut is None:
        return fitted.references, shown
    found, own = with_tiles(scorer, fitted, pictures, cut, name, progress)
    if found.tiles is None:
        raise DataError(
            f"tile = {settings.tile}: none of the {len(pictures)} drawn pictures of {name!r} is "
            "larger than that; leave --tile out, or score them by themselves"
        )
    return found, shown._replace(tile=lambda number, tile: own[number].tile(cut, tile))


def _drawn(
    model: BayesPFLNetwork,
    inputs: InputImages,
    settings: FolderSettings,
    name: str,
    count: int,
) -> list[NormalPicture]:
    """Up to ``count`` pictures of a class name that could be read, drawn by the seed.

    Raises:
        DataError: too few.
    """
    places = [at for at, other in enumerate(inputs.names) if other == name]
    order = np.random.default_rng(settings.seed).permutation(len(places)).tolist()
    found: list[NormalPicture] = []
    roi = below(settings.interest, inputs.folder)
    for start in range(0, len(order), count):
        chosen = [places[at] for at in order[start : start + count]]
        drawn = [inputs.pictures[at] for at in chosen]
        side, size = model.backbone.image_size, settings.batch_size
        batches = decode(
            drawn,
            side,
            batch_size=size,
            workers=settings.workers,
            roi=roi,
            by_parts=settings.tile is not None,
        )
        items = [item for batch in batches for item in batch]
        for at, item in zip(chosen, items, strict=True):
            if item.pixels is not None and len(found) < count:
                found.append(NormalPicture.of(inputs.title(at), item, item.picture.read))
        if len(found) == count:
            break
    if len(found) < FEWEST_MUTUAL:
        raise DataError(
            f"{len(found)} pictures of {name!r} that can be read: too few to be compared with each "
            f"other, {FEWEST_MUTUAL} at least; leave --mutual out, or fit a profile"
        )
    return found
