"""References and their tiles made a profile: every reference judged by what the others say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bayes_pfl.checkpoints.fingerprint import fingerprint
from bayes_pfl.data.tiles import add_whole
from bayes_pfl.detect.name_sensitivity import effect_of_name
from bayes_pfl.detect.references import most_deviating
from bayes_pfl.fit.calibrate import CalibrationOptions
from bayes_pfl.fit.calibration import (
    CalibratedCheckpoint,
    Calibration,
    settings_of,
)
from bayes_pfl.fit.conformal import PixelRates, score_threshold, smallest_rate
from bayes_pfl.fit.normal_pictures import NormalPicture
from bayes_pfl.fit.profile import Profile, ReferencePicture, whole_roi
from bayes_pfl.fit.references import FittedReferences
from bayes_pfl.fit.tile_references import FittedTiles
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.model.scoring import deploy_scores
from bayes_pfl.support.progress import Progress


def build_profile(
    model: BayesPFLNetwork,
    found: FittedReferences,
    tiles: FittedTiles | None,
    own: Sequence[NormalPicture],
    class_name: str,
    options: CalibrationOptions,
    checkpoint: str | None,
    progress: Progress,
) -> Profile:
    """The profile of references in their order, with thresholds where there are several.

    Where they are too few for the rates that are asked for, the thresholds are for the lowest rates
    that so many can guarantee: that of scores is the highest normal score.

    Args:
        own: the picture of each reference.
    """
    several = len(own) > 1
    words = [float(deploy_scores(one).score) for one in found.encoded.words]
    pixels = found.encoded.pictures
    rates = PixelRates()
    scores: list[float] = []
    peaks: list[float] = []
    progress.start("thresholds", len(own))
    for at in range(len(own)) if several else ():
        score, anomaly_map = _left_out(found, tiles, at)
        scores.append(score)
        roi = own[at].roi
        rates.add(anomaly_map, roi.inside(anomaly_map.shape[:2]) if roi else None)
        peaks.append(float(anomaly_map.max()))
        progress.advance(1, {})
    rows = zip(
        found.encoded.names,
        found.encoded.digests,
        scores if several else [None],
        words,
        found.memory_scores() if several else [None],
        [picture.size for picture in own],
        [picture.roi.size if picture.roi else None for picture in own],
        strict=True,
    )
    checked = CalibratedCheckpoint(checkpoint, fingerprint(model))
    settings = settings_of(model, class_name, options)
    calibration = None
    if several:
        fpr, of_pixels = (
            max(float(rate), smallest_rate(len(own))) for rate in (options.fpr, options.of_pixels)
        )
        calibration = Calibration(
            checked,
            settings,
            len(own),
            fpr,
            tuple(sorted(scores)),
            score_threshold(scores, fpr),
            of_pixels,
            rates.threshold(of_pixels),
            tuple(sorted(peaks)),
        )
    return Profile(
        checked,
        settings,
        found.options,
        float(options.fpr),
        float(options.of_pixels),
        tuple(ReferencePicture(*row) for row in rows),
        replace(found.references, tiles=tiles.references if tiles else None),
        calibration,
        pixels.__getitem__,
        [picture.copy() for picture in own].__getitem__ if tiles else None,
        name_effect=effect_of_name(
            model, pixels, class_name, words, options, [picture.inside for picture in own]
        ),
        roi=whole_roi(options),
    )


def _left_out(
    found: FittedReferences,
    tiles: FittedTiles | None,
    at: int,
) -> tuple[float, np.ndarray]:
    """The score of a reference and its map, by a scale that it had no part in: as a whole and, as
    new pictures are, by its tiles."""
    whole, whole_map = found.left_out(at)
    part = tiles.left_out(at) if tiles else None
    if part is None:
        return float(whole.scores().score), whole_map
    deviations, anomaly_map = part.deviations, part.map
    if part.sees_whole:
        add_whole(anomaly_map, whole_map, found.sigma)
        deviations = most_deviating([whole, deviations])
    np.clip(anomaly_map, 0, 1, out=anomaly_map)  # in place: it may be a gigabyte
    return float(deviations.scores().score), anomaly_map
