"""One run on the pool, from the listing to the summary."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

from bayes_pfl.data.wording import ClassNames
from bayes_pfl.detect.class_names import check_class_name
from bayes_pfl.errors import ConfigError
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.predict.ledger import run_header
from bayes_pfl.predict.ray.listing import list_images
from bayes_pfl.predict.ray.parts import PARTS, SUFFIX, part_name
from bayes_pfl.predict.ray.pool import Pool, connected, scored_parts
from bayes_pfl.predict.ray.resuming import Before, begin
from bayes_pfl.predict.ray.worker import ATTEMPTS, Job
from bayes_pfl.predict.summary import Summary
from bayes_pfl.support.environment import environment
from bayes_pfl.support.progress import Progress
from bayes_pfl.support.run_names import SUMMARY_NAME

MOST_IMAGES = 1_000
"""Of a part, unless the user says otherwise: what a worker that is lost may have done in vain."""

_PARTS_EACH = 8  # at least so many for each worker, so that all end at about the same time


class ClusterRun:
    """One run, from the listing to the summary."""

    def __init__(
        self,
        job: Job,
        model: BayesPFLNetwork,
        class_name: str | ClassNames,
        pool: Pool,
        part_images: int | None,
        progress: Progress,
    ) -> None:
        self.job, self.pool, self.progress = job, pool, progress
        self.part_images = part_images
        self.listing = _named(list_images(job.source, job.out), model, class_name)
        header = run_header(model, Path(), job.settings, job.rule.calibration)
        header.pop("device")  # workers may differ
        self.header = header | {"folder": job.source.name}
        self.model_config = asdict(model.config)

    def __call__(self, resume: bool, overwrite: bool) -> Summary:
        """Score the images that are not done.

        Raises:
            KeyboardInterrupt: with how much is done as its message.
        """
        images = self.listing.num_rows
        before = begin(self.job.out, self.header, self.listing, resume=resume, overwrite=overwrite)
        del self.listing
        resumed = before.counts.images
        self._remove_marks()
        self.progress.start("prediction", images)
        self.progress.advance(resumed, {})
        started = time.perf_counter()
        try:
            self._score(before)
        except KeyboardInterrupt as stop:
            stop.args = (f"{before.counts.images} of {images} images are done",)
            raise
        seconds = time.perf_counter() - started
        self._check(before, images)
        summary = self._summary(before, resumed, seconds)
        self.job.out.write(SUMMARY_NAME, summary.as_json().encode("ascii"))
        return summary

    def _score(self, before: Before) -> None:
        """Send the images that are not done through the pool; ``before`` counts their rows."""
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

    def _check(self, before: Before, images: int) -> None:
        """Every image has one row: what a worker of a stopped run wrote since then is removed."""
        out = self.job.out
        for name in set(out.names(PARTS, SUFFIX)) - before.parts:
            out.remove(name)
        self._remove_marks()
        if before.counts.images != images:
            raise ConfigError(
                f"{out.url}: {before.counts.images} rows for {images} images; run with --resume"
            )

    def _summary(self, before: Before, resumed: int, seconds: float) -> Summary:
        job = self.job
        summary = Summary(
            job.source.url,
            job.out.url,
            before.counts.images,
            resumed=resumed,
            dropped=before.dropped,
            checkpoint=job.checkpoint,
            settings=asdict(job.settings),
            model=self.model_config,
            calibration=job.rule.calibration.summary_dict() if job.rule.calibration else None,
            environment=environment("cpu"),
        )
        summary.finish(before.counts, seconds)
        return summary


def _named(listing: pa.Table, model: BayesPFLNetwork, class_name: str | ClassNames) -> pa.Table:
    """The listing with a class name for each image, each checked once."""
    if isinstance(class_name, str):
        check_class_name(model, class_name)
        names = pa.repeat(class_name, listing.num_rows)
    else:
        paths = [Path(path) for path in listing["path"].to_pylist()]
        found = class_name.resolve(Path(), paths)
        for name in dict.fromkeys(found):
            check_class_name(model, name)
        names = pa.array(found, pa.string())
    return listing.append_column("class_name", names)


def _parts(before: Before, actors: int, images: int | None, batch_size: int) -> Iterator[pa.Table]:
    """Slices of the images that are not done, each with the name of its part file as a column."""
    count = before.waiting.num_rows
    share = -(-count // (actors * _PARTS_EACH))
    size = images or min(MOST_IMAGES, max(batch_size, share))
    for index, start in enumerate(range(0, count, size)):
        part = before.waiting.slice(start, size)
        name = part_name(before.generation, index)
        yield part.append_column("part", pa.repeat(name, part.num_rows))
