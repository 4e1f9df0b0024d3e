"""Folders of images: scores in a table, with maps and overlays. Engine of tools/predict.py."""

from __future__ import annotations

import os
from pathlib import Path

from bayes_pfl.data.wording import ClassNames
from bayes_pfl.fit.calibration import Calibration
from bayes_pfl.fit.decision import resolve_decision
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.predict.run import FolderRun
from bayes_pfl.predict.settings import FolderSettings
from bayes_pfl.predict.summary import Summary
from bayes_pfl.support.progress import Progress

_DEFAULTS = FolderSettings()


def predict_folder(
    model: BayesPFLNetwork,
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    class_name: str | ClassNames,
    settings: FolderSettings = _DEFAULTS,
    calibration: Calibration | str | os.PathLike[str] | None = None,
    checkpoint: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Score every image below a folder, in the order of their paths, in bounded memory.

    Writes ``out``/predictions.csv (one row per image, see :class:`Row`; it appears whole at the
    end), summary.json, and below maps/ and overlays/ one file per image, of its path and full name;
    and report.html, with small pictures below report/. Rows are kept in predictions.journal.jsonl
    as they come, each after its pictures, so that a stopped run can be resumed anywhere.
    An image that cannot be read is a row with its error. What a run has written below ``folder`` is
    not taken for input.

    Args:
        class_name: one for all, perhaps with synonyms; or :class:`ClassNames` for each its own.
        calibration: of the same model, class name and settings, or its file: brings both
            thresholds and p-values.
        checkpoint: name of the model, for the summary.
        resume: continue a stopped run: what is done is not scored again, failures are. The batch
            size, ``workers`` and ``compile`` may differ, all else may not. Without a stopped run
            this one begins.
        overwrite: start again although a run was stopped here.
        progress: hears of every image that is done.

    Raises:
        DataError: no folder, no images in it, an unusable class name.
        ConfigError: a setting that cannot be used, a calibration that does not fit, an output
            folder that cannot be written or is full; a stopped run in ``out`` without ``resume``
            or ``overwrite``; ``resume`` of a run with other settings, or whose images have changed.
    """
    rule = resolve_decision(
        model,
        class_name,
        settings,
        threshold=settings.threshold,
        map_threshold=settings.map_threshold,
        calibration=calibration,
    )
    run = FolderRun(
        model,
        Path(folder),
        Path(out),
        settings.resolved(model, class_name, rule, maps="png16"),
        class_name,
        rule,
        progress,
        resume=resume,
        overwrite=overwrite,
    )
    run.summary.checkpoint = checkpoint
    return run()
