"""A folder or store of any size through a pool of workers on Ray Data, into Parquet."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bayes_pfl.checkpoints.fingerprint import fingerprint
from bayes_pfl.checkpoints.load import load_checkpoint
from bayes_pfl.data.wording import ClassNames
from bayes_pfl.detect.scorer import run_draws
from bayes_pfl.detect.settings import check_whole
from bayes_pfl.fit.calibration import Calibration
from bayes_pfl.fit.decision import resolve_decision
from bayes_pfl.predict.ray.pool import Pool
from bayes_pfl.predict.ray.run import ClusterRun
from bayes_pfl.predict.ray.storage import Place
from bayes_pfl.predict.ray.worker import Job
from bayes_pfl.predict.settings import FolderSettings
from bayes_pfl.predict.summary import Summary
from bayes_pfl.support.progress import NullProgress, Progress

_DEFAULTS, _ANY_POOL = FolderSettings(), Pool()


def predict_ray(
    checkpoint: str,
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    class_name: str | ClassNames,
    settings: FolderSettings = _DEFAULTS,
    calibration: Calibration | str | os.PathLike[str] | None = None,
    device: str | None = None,
    pretrained: str | None = None,
    pool: Pool = _ANY_POOL,
    part_images: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Summary:
    """As :func:`bayes_pfl.predict.folder.predict_folder`, by a pool of workers on Ray Data.

    Runs on the cluster that is connected or that RAY_ADDRESS names, else on one of its own on this
    machine, which ends with the run. Writes ``out``/predictions/part-*.parquet (columns of
    :class:`bayes_pfl.predict.rows.Row`, then size, mtime_ns and etag of the file), run.json
    with all that shapes the results, and summary.json at the end. Scores are those of one process
    up to rounding.

    Args:
        checkpoint: embedded name, hub repository, or a folder that every machine sees.
        source, out: folders, or URLs of a store that fsspec knows, such as s3://bucket/images.
        settings: maps lie below ``out``/maps; overlays and the report are not drawn; ``workers``
            decode for each worker of the pool.
        device: of the workers; None for cuda where they have GPUs, else cpu.
        part_images: images of a part; None for an eighth of a worker's share, 1,000 at most.
        resume: continue a stopped run: what is done is not scored again, failures are.
        overwrite: start again although there is a run.
        storage_options: of fsspec, for both places.

    Raises:
        ConfigError: a setting that cannot be used, results in ``out`` without ``resume`` or
            ``overwrite``, another run than was begun there, changed images.
        DataError: no images, an unusable class name.
    """
    if part_images is not None:
        check_whole("part_images", part_images, 1)
    options = dict(storage_options or {})
    places = Place(os.fspath(source), options), Place(os.fspath(out), options)
    model = load_checkpoint(checkpoint, device="cpu", pretrained=pretrained)
    rule = resolve_decision(
        model, class_name, settings, threshold=settings.threshold, calibration=calibration
    )
    settings = replace(settings, overlays=False, report=False)
    settings = settings.resolved(model, class_name, rule, maps="none")
    run_draws(model, settings)  # what cannot be drawn is refused before any work
    device = device or ("cuda" if pool.gpus else "cpu")
    sha256 = fingerprint(model)
    notes = {"checkpoint_sha256": sha256}
    job = Job(checkpoint, pretrained, device, sha256, *places, settings, rule, notes)
    run = ClusterRun(job, model, class_name, pool, part_images, progress or NullProgress())
    del model  # the workers have their own
    return run(resume, overwrite)
