"""A folder or store of any size through a pool of workers on Ray Data, into Parquet."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from bayes_pfl.checkpoints.fingerprint import fingerprint
from bayes_pfl.checkpoints.load import find_device, load_checkpoint
from bayes_pfl.data.roi_files import RoiFolder
from bayes_pfl.data.wording import ClassNames
from bayes_pfl.detect.scorer import run_draws
from bayes_pfl.detect.settings import check_whole
from bayes_pfl.errors import ConfigError
from bayes_pfl.fit.calibration import Calibration
from bayes_pfl.fit.profile import ProfileLike
from bayes_pfl.fit.profile_files import known_profile
from bayes_pfl.predict.inputs import names_of
from bayes_pfl.predict.ledger import run_header
from bayes_pfl.predict.ray.listing import list_images
from bayes_pfl.predict.ray.parts import PARTS, SUFFIX, part_name
from bayes_pfl.predict.ray.pool import Pool, connected, scored_parts
from bayes_pfl.predict.ray.resuming import Before, begin
from bayes_pfl.predict.ray.storage import Place
from bayes_pfl.predict.ray.worker import ATTEMPTS, Job
from bayes_pfl.predict.settings import FolderSettings
from bayes_pfl.predict.summary import Summary
from bayes_pfl.support.progress import NullProgress, Progress
from bayes_pfl.support.run_names import SUMMARY_NAME

MOST_IMAGES = 1_000
"""Images of a part, unless the user says otherwise: so many are scored again for a lost worker."""

_DEFAULTS, _ANY_POOL = FolderSettings(), Pool()
_PARTS_EACH = 8  # at least so many for each worker, so that all end at about the same time


def predict_ray(
    checkpoint: str,
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    class_name: str | ClassNames | None = None,
    settings: FolderSettings = _DEFAULTS,
    calibration: Calibration | str | os.PathLike[str] | None = None,
    profile: ProfileLike | None = None,
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
    if resume and overwrite:
        raise ConfigError("resume and overwrite exclude each other: give one of them")
    if settings.formats:
        raise ConfigError(
            f"formats = {settings.formats[0]}: ray writes regions into its part files alone; leave "
            "--format out"
        )
    if isinstance(settings.roi, RoiFolder):
        raise ConfigError(
            f"roi = {settings.roi.folder}: ray takes one region of interest for all pictures, in "
            "a file; give one, or leave it out"
        )
    options = dict(storage_options or {})
    here, there = Place(os.fspath(source), options), Place(os.fspath(out), options)
    model = load_checkpoint(checkpoint, device="cpu", pretrained=pretrained)
    drawn_by_none = replace(settings, overlays=False, report=False)
    profile, its_name = known_profile(profile)
    word = its_name if class_name is None else class_name
    settings, rule = drawn_by_none.resolved(model, word, calibration, "none", profile)
    run_draws(model, settings)  # what cannot be drawn is refused before any work
    if not (pool.gpus and (device or "cuda").startswith("cuda")):  # the GPUs are the workers'
        find_device(device)  # here, because Ray starts a worker that fails again and again
    device = device or ("cuda" if pool.gpus else "cpu")
    travelling = replace(rule, profile=None, pictures={})  # its pictures stay here
    job = Job(checkpoint, pretrained, device, fingerprint(model), here, there, settings, travelling)
    listing, remarks = list_images(here, there)
    names = names_of(model, word, Path(), listing["path"])
    listing = listing.append_column("class_name", pa.array(names, pa.string()))
    header = run_header(model, here.name, settings, rule)
    header.pop("device")  # workers may differ
    images = listing.num_rows
    summary = Summary.begun(here.url, there.url, images, checkpoint, model, settings, rule)
    summary.remarks = remarks
    del model  # the workers have their own
    before = begin(there, header, listing, resume, overwrite)
    del listing, names
    progress = progress or NullProgress()
    return ClusterRun(job, pool, part_images, before, summary, progress)()


@dataclass
class ClusterRun:
    """A run from what was done before to its summary, which is filled in."""

    job: Job
    pool: Pool
    part_images: int | None
    before: Before
    summary: Summary
    progress: Progress

    def __call__(self) -> Summary:
        """Score the images that are not done.

        Raises:
            KeyboardInterrupt: with how much is done as its message.
        """
        counts, images = self.before.counts, self.summary.images
        self.summary.resumed, self.summary.dropped = counts.images, self.before.dropped
        self._remove_marks()
        self.progress.start("prediction", images)
        self.progress.advance(counts.images, {})
        started = time.perf_counter()
        try:
            self._score()
        except KeyboardInterrupt as stop:
            stop.args = (f"{counts.images} of {images} images are done",)
            raise
        seconds = time.perf_counter() - started
        self._check()
        self.summary.finish(counts, seconds, "cpu")
        self.job.out.write(SUMMARY_NAME, self.summary.as_json().encode("ascii"))
        return self.summary

    def _score(self) -> None:
        """Send the images that are not done through the pool, and count their rows."""
        before = self.before
        if not before.waiting.num_rows:
            return
        with connected():
            count = self.pool.size()
            parts = list(_parts(before, count, self.part_images, self.job.settings.batch_size))
            before.waiting = before.waiting.slice(0, 0)
            for name, counts in scored_parts(self.job, parts, self.pool, count):
                before.parts.add(name)
                before.counts.add(counts)
                self.progress.advance(counts.images, {})

    def _remove_marks(self) -> None:
        out = self.job.out
        for name in out.names(ATTEMPTS, SUFFIX):
            out.remove(name)
        if out.folder:
            with contextlib.suppress(OSError):
                (out.folder / ATTEMPTS).rmdir()

    def _check(self) -> None:
        """Every image has one row: what a worker of a stopped run wrote since then is removed."""
        out, rows = self.job.out, self.before.counts.images
        for name in set(out.names(PARTS, SUFFIX)) - self.before.parts:
            out.remove(name)
        self._remove_marks()
        if rows != self.summary.images:
            raise ConfigError(
                f"{out.url}: {rows} rows for {self.summary.images} images; run with --resume"
            )


def _parts(before: Before, actors: int, images: int | None, batch_size: int) -> Iterator[pa.Table]:
    """Slices of the images that are not done, each with the name of its part file as a column."""
    count = before.waiting.num_rows
    share = -(-count // (actors * _PARTS_EACH))
    size = images or min(MOST_IMAGES, max(batch_size, share))
    for index, start in enumerate(range(0, count, size)):
        part = before.waiting.slice(start, size)
        name = part_name(before.generation, index)
        yield part.append_column("part", pa.repeat(name, part.num_rows))
