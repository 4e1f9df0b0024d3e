"""A folder or store of any size through a pool of workers on Ray Data, into Parquet."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from bayes_pfl.checkpoints.fingerprint import fingerprint
from bayes_pfl.data.wording import ClassNames
from bayes_pfl.detect.scorer import check_whole, run_draws
from bayes_pfl.errors import ConfigError
from bayes_pfl.fit.calibration import Calibration
from bayes_pfl.fit.decision import decision
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.predict.files import MapFormat
from bayes_pfl.predict.ray.pool import Pool
from bayes_pfl.predict.ray.run import ClusterRun
from bayes_pfl.predict.ray.storage import Place
from bayes_pfl.predict.ray.worker import Job
from bayes_pfl.predict.summary import FolderSettings, Summary
from bayes_pfl.support.progress import Progress, NullProgress


def predict_ray(
    checkpoint: str,
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    class_name: str | ClassNames,
    samples: int | None = None,
    precision: str = "float32",
    batch_size: int = 8,
    seed: int = 0,
    smoothing: bool = True,
    threshold: float | None = None,
    calibration: Calibration | str | os.PathLike[str] | None = None,
    maps: MapFormat = "none",
    workers: int = 0,
    compile: bool = False,
    device: str | None = None,
    pretrained: str | None = None,
    actors: int | None = None,
    cpus_per_actor: float = 1,
    gpus_per_actor: float = 0,
    part_images: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Summary:
    """As :func:`bayes_pfl.predict.folder.predict_folder`, by a pool of workers on Ray Data.

    Runs on the cluster that is connected or that RAY_ADDRESS names, else on one of its own on this
    machine, which ends with the run. Writes ``out``/predictions/part-*.parquet (columns of
    :class:`bayes_pfl.predict.files.Row`, then size, mtime_ns and etag of the file), run.json
    with all that shapes the results, and summary.json at the end. Scores are those of one process
    up to rounding.

    Args:
        checkpoint: embedded name, hub repository, or a folder that every machine sees.
        source, out: folders, or URLs of a store that fsspec knows, such as s3://bucket/images.
        maps: below ``out``/maps, if asked for.
        workers: processes that decode, for each worker of the pool.
        device: of the workers; None for cuda with ``gpus_per_actor``, else cpu.
        actors: workers of the pool; None for as many as the cluster has room for.
        cpus_per_actor, gpus_per_actor: what each is given.
        part_images: images of a part; None for an eighth of a worker's share, 1,000 at most.
        resume: go on where a stopped run was: what is done is not scored again, failures are.
        overwrite: begin anew although there is a run.
        storage_options: of fsspec, for both places.

    Raises:
        ConfigError: the extra is missing, a setting that cannot be used, results in ``out`` without
            ``resume`` or ``overwrite``, another run than was begun there, changed images.
        DataError: no images, an unusable class name.
    """
    require_ray()
    pool = Pool(actors, cpus_per_actor, gpus_per_actor)
    if part_images is not None:
        check_whole("part_images", part_images, 1)
    places = [Place(os.fspath(x), dict(storage_options or {})) for x in (source, out)]
    model = _load(checkpoint, pretrained)
    rule = decision(
        model,
        class_name,
        threshold=threshold,
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
        overlays=False,
        report=False,
        workers=workers,
        compile=compile,
    )
    run_draws(model, settings.samples, seed)  # what cannot be drawn should be told before any work
    device = device or ("cuda" if gpus_per_actor else "cpu")
    sha256 = fingerprint(model)
    notes = {"checkpoint_sha256": sha256}
    job = Job(checkpoint, pretrained, device, sha256, *places, settings, rule, notes)
    run = ClusterRun(job, model, class_name, pool, part_images, progress or NullProgress())
    del model  # the workers have their own
    return run(resume, overwrite)


def require_ray() -> None:
    """Raise ConfigError unless Ray Data is installed."""
    try:
        import pyarrow  # noqa: F401
        import ray.data  # noqa: F401
    except ImportError as error:
        raise ConfigError("the engine ray needs: pip install 'bayes-pfl[ray]'") from error


def _load(checkpoint: str, pretrained: str | None) -> BayesPFLNetwork:
    """The model on this machine's processor: for its hash, its settings and its vocabulary."""
    from bayes_pfl.checkpoints.load import load_checkpoint

    return load_checkpoint(checkpoint, device="cpu", pretrained=pretrained)
