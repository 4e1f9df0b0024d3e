"""Folders of images: scores in a table, maps and overlays beside it. Engine of tools/predict.py."""

from __future__ import annotations

import os
from pathlib import Path

from bayes_pfl.data.wording import ClassNames
from bayes_pfl.fit.calibration import Calibration
from bayes_pfl.fit.decision import decision
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.predict.files import MapFormat
from bayes_pfl.predict.images import predict, predict_stream
from bayes_pfl.predict.inputs import input_images
from bayes_pfl.predict.run import FolderRun
from bayes_pfl.predict.summary import FolderSettings, Summary
from bayes_pfl.support.progress import Progress

__all__ = [
    "FolderSettings",
    "Summary",
    "input_images",
    "predict",
    "predict_folder",
    "predict_stream",
]


def predict_folder(
    model: BayesPFLNetwork,
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    class_name: str | ClassNames,
    samples: int | None = None,
    precision: str = "float32",
    batch_size: int = 8,
    seed: int = 0,
    smoothing: bool = True,
    threshold: float | None = None,
    map_threshold: float | None = None,
    calibration: Calibration | str | os.PathLike[str] | None = None,
    maps: MapFormat = "png16",
    overlays: bool = True,
    overlay_uncertainty: bool = False,
    report: bool = True,
    workers: int = 0,
    compile: bool = False,
    checkpoint: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Score every image below a folder, in the order of their paths, in bounded memory.

    Writes ``out``/predictions.csv (one row per image, see :class:`Row`; it appears whole at the
    end), summary.json, and below maps/ and overlays/ one file per image, of its path and full name;
    and report.html, with small pictures below report/. Rows are kept in predictions.journal.jsonl
    as they come, each after its pictures, so that a run goes on wherever it was stopped.
    An image that cannot be read is a row with its error. What a run has written below ``folder`` is
    not taken for input.

    Args:
        class_name: one for all, perhaps with synonyms; or :class:`ClassNames` for each its own.
        samples, precision, batch_size, seed, smoothing, compile: as in :func:`predict`.
        threshold: scores of at least this get the label 1, others 0.
        map_threshold: outlined on the overlays.
        calibration: of the same model, class name and settings, or its file: brings both
            thresholds and p-values.
        maps: at each image's own size; ``png16``: 0..65535 for 0..1; ``npy``: float32; or ``none``.
        overlay_uncertainty: overlays get a third panel, of the uncertainty.
        report: whether to write report.html.
        workers: processes that decode and resize.
        checkpoint: name of the model, for the summary.
        resume: go on where a stopped run was: what is done is not scored again, failures are. The
            batch size, ``workers`` and ``compile`` may differ, all else may not. Without a stopped
            run this one begins.
        overwrite: begin anew although a run was stopped here.
        progress: told of every image that is done.

    Raises:
        DataError: no folder, no images in it, an unusable class name.
        ConfigError: a setting that cannot be used, a calibration that does not fit, an output
            folder that cannot be written or is full; a stopped run in ``out`` without ``resume``
            or ``overwrite``; ``resume`` of a run with other settings, or whose images have changed.
    """
    rule = decision(
        model,
        class_name,
        threshold=threshold,
        map_threshold=map_threshold,
        calibration=calibration,
        samples=samples,
        precision=precision,
        smoothing=smoothing,
        seed=seed,
    )
    settings = FolderSettings(
        class_name=str(class_name),
        samples=model.config.scoring.samples if samples is None else samples,
        precision=precision,
        batch_size=batch_size,
        seed=seed,
        smoothing=smoothing,
        threshold=rule.threshold,
        map_threshold=rule.map_threshold,
        maps=maps,
        overlays=overlays,
        report=report,
        workers=workers,
        compile=compile,
        overlay_uncertainty=overlay_uncertainty,
    )
    run = FolderRun(
        model,
        Path(folder),
        Path(out),
        settings,
        class_name,
        rule,
        progress,
        resume=resume,
        overwrite=overwrite,
    )
    run.summary.checkpoint = checkpoint
    return run()
