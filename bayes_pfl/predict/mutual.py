"""The pictures of a folder compared with each other: no picture needs to be known as normal.

After MuSc (ICLR 2024), with three changes that keep the time linear in the number of pictures: the
references are a seeded draw of the folder; a pass over them gives the scale, by their median; then
every picture is scored by itself, as with a profile. A fault that recurs in a third of the pictures
looks normal to it, and a folder of several things needs a class name for each.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from bayes_pfl.data.decoding import Decoded, decode
from bayes_pfl.data.roi_files import below
from bayes_pfl.detect.references import References
from bayes_pfl.detect.scorer import Scorer
from bayes_pfl.detect.settings import check_whole
from bayes_pfl.errors import ConfigError, DataError
from bayes_pfl.fit.decision import Decision, ReferencePictures
from bayes_pfl.fit.references import FEWEST_MUTUAL, ReferenceOptions, fit_references
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
) -> tuple[Decision, dict[str, Any]]:
    """The decision of a run that compares its images with each other, and what summaries say.

    Args:
        count: pictures drawn of each class name.

    Raises:
        ConfigError: a count that cannot be used, or a profile.
        DataError: a class name with too few pictures that can be read.
    """
    check_whole("mutual", count, FEWEST_MUTUAL, _MOST)
    if settings.tile is not None:
        raise ConfigError(
            f"mutual with tile = {settings.tile}: only whole pictures are compared with each "
            "other; leave one of them out"
        )
    if rule.profile is not None or rule.calibration is not None:
        raise ConfigError(
            "mutual with a profile or calibration: the folder itself, or known normal pictures; "
            "give one of them"
        )
    scorer, side = Scorer(model, settings), model.backbone.image_size
    references: dict[str, References] = {}
    shown: dict[str, ReferencePictures] = {}
    names = sorted(set(inputs.names))
    progress.start("references", count * len(names))
    for name in names:
        places = [at for at, other in enumerate(inputs.names) if other == name]
        drawn = _drawn(model, inputs, settings, places, count)
        pictures = [item.pixels for _, item in drawn if item.pixels is not None]
        if len(pictures) < FEWEST_MUTUAL:
            raise DataError(
                f"{len(pictures)} pictures of {name!r} that can be read: too few to be compared "
                f"with each other, {FEWEST_MUTUAL} at least; leave --mutual out, or fit a profile"
            )
        fitted = fit_references(
            scorer,
            pictures,
            name,
            ReferenceOptions(mutual=True),
            [title for title, _ in drawn],
            lambda done: progress.advance(done, {}),
            [item.roi.inside((side, side)) if item.roi else None for _, item in drawn]
            if settings.roi
            else None,
        )
        references[name] = fitted.references
        encoded = fitted.encoded
        shown[name] = ReferencePictures(encoded.names, encoded.pictures.__getitem__)
    digests = {name: sorted(one.digests) for name, one in references.items()}
    text = f"mutual: {count} drawn of {len(inputs)} by seed {settings.seed}"
    changed = replace(rule, references=references, compared_with=text, pictures=shown)
    return changed, {
        "drawn": count,
        "seed": settings.seed,
        "pictures": len(inputs),
        "digests": digests,
    }


def _drawn(
    model: BayesPFLNetwork,
    inputs: InputImages,
    settings: FolderSettings,
    places: list[int],
    count: int,
) -> list[tuple[str, Decoded]]:
    """Up to ``count`` pictures that could be read, drawn by the seed, with their titles."""
    order = np.random.default_rng(settings.seed).permutation(len(places)).tolist()
    found: list[tuple[str, Decoded]] = []
    roi = below(settings.interest, inputs.folder)
    for start in range(0, len(order), count):
        chosen = [places[at] for at in order[start : start + count]]
        drawn = [inputs.pictures[at] for at in chosen]
        side, size = model.backbone.image_size, settings.batch_size
        items = [
            item
            for batch in decode(drawn, side, batch_size=size, workers=settings.workers, roi=roi)
            for item in batch
        ]
        for at, item in zip(chosen, items, strict=True):
            if item.pixels is not None and len(found) < count:
                found.append((inputs.title(at), item))
        if len(found) == count:
            break
    return found
