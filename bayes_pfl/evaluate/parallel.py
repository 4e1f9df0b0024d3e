"""Evaluation on several processes that ``torchrun`` started: each scores a share of the images.

The batches of a category are dealt out, so every batch is one that a single process would have
made. The first process gathers rows and pixel counts, adds them up exactly, and alone writes the
results. Each process keeps its scores in a cache of its own.
"""

from __future__ import annotations

import datetime
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from bayes_pfl.data.records import Sample
from bayes_pfl.evaluate.cache import DatasetCache
from bayes_pfl.evaluate.datasets import EvaluationData
from bayes_pfl.evaluate.pictures import draw_batch, drawn
from bayes_pfl.evaluate.records import CategoryRecord
from bayes_pfl.evaluate.reference_draw import Drawn
from bayes_pfl.evaluate.request import EvaluationRequest
from bayes_pfl.evaluate.scoring import EvaluationSettings, OnProgress, evaluate_categories
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.report.pictures import ReportPictures
from bayes_pfl.support.processes import close_process_group, first_error_only, launched_outside

_PATIENCE = datetime.timedelta(days=30)
"""A process may finish long before the others. One that dies is noticed at once regardless."""


@dataclass(frozen=True)
class Team:
    """The processes of an evaluation, seen from one of them; by default there is only this one."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes the results."""
        return self.rank == 0

    def share(self, samples: Sequence[Sample], batch_size: int) -> list[Sample]:
        """The samples of this process: every ``count``-th batch of a category."""
        places = range(len(samples))
        return [samples[at] for at in places if at // batch_size % self.count == self.rank]

    def gather(self, found: Any) -> list[Any]:
        """Send what was found to the first process, which gets all; the others get nothing."""
        everything: list[Any] | None = [None] * self.count if self.first else None
        distributed.gather_object(found, everything)
        return everything or []


@contextmanager
def working_together(request: EvaluationRequest) -> Iterator[tuple[Team, EvaluationRequest]]:
    """Connect the processes of the run for as long as the context lasts; one process needs nothing.

    Yields:
        The team, and the request for this process: with a cache of its own, and, in all processes
        but the first, with results in a folder that nobody looks at.

    Raises:
        StoppedElsewhere: in all processes but the one that reports an error.
    """
    if not launched_outside():
        yield Team(), request
        return
    connected = distributed.is_initialized()
    with first_error_only(), tempfile.TemporaryDirectory(prefix="bayes-pfl-") as folder:
        team = join_team()
        yield team, _own(team, request, Path(folder))
    if not connected:
        close_process_group()


def _own(team: Team, request: EvaluationRequest, folder: Path) -> EvaluationRequest:
    if team.count == 1:
        return request
    place = f"process-{team.rank}-of-{team.count}"
    cache = request.cache / place if request.cache else None
    if team.first:
        return replace(request, cache=cache)
    # A resumed run needs the pictures of the images that the cache holds.
    out = cache / "results" if cache else folder
    return replace(request, cache=cache, out=out, curves=False, sheets=False)


def join_team() -> Team:
    """Connect the processes that ``torchrun`` started; without it, a team of one."""
    if not launched_outside() or os.environ.get("WORLD_SIZE", "1") == "1":
        return Team()
    if not distributed.is_initialized():
        # What is gathered, rows and counts, lies in main memory: no GPU takes part.
        distributed.init_process_group("gloo", timeout=_PATIENCE)
    return Team(distributed.get_rank(), distributed.get_world_size())


def device_of_process(device: str | None) -> str | None:
    """The device of this process: with ``torchrun`` each process of a machine has its own GPU."""
    if not launched_outside() or device not in (None, "cuda") or not torch.cuda.is_available():
        return device
    return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"


def evaluate_together(
    team: Team,
    model: BayesPFLNetwork,
    data: EvaluationData,
    settings: EvaluationSettings,
    on_progress: OnProgress,
    cache: DatasetCache | None = None,
    pictures: ReportPictures | None = None,
    references: Mapping[str, Drawn] | None = None,
) -> Iterator[CategoryRecord]:
    """As :func:`bayes_pfl.evaluate.scoring.evaluate_categories`, over all processes of the team.

    Args:
        pictures: of the report, drawn while the images are scored; None for none.
        references: by category, the same in all processes; None for scores by words alone.

    Yields:
        In the first process the records of all images; in the others nothing.
    """
    by_category: dict[str, list[Sample]] = {}
    for sample in data.samples:
        by_category.setdefault(sample.category, []).append(sample)
    own = {name: team.share(samples, settings.batch_size) for name, samples in by_category.items()}
    mine = [sample for share in own.values() for sample in share]
    draw = partial(draw_batch, pictures, data.name) if pictures else None
    records = evaluate_categories(
        model, mine, settings, on_progress, data.levels, cache, draw, references
    )
    if team.count == 1:
        yield from records
        return
    for category, samples in by_category.items():
        record = next(records) if own[category] else CategoryRecord(category, tuple(data.levels))
        found = drawn(pictures, data.name, record) if pictures else {}
        shares = team.gather((record, found))
        for other, theirs in shares[1:]:
            on_progress(len(other.rows) + len(other.skipped))
            if pictures:
                pictures.add(theirs)
        if team.first:
            records_of_all = [record for record, _ in shares]
            yield merge_records(records_of_all, samples)


def merge_records(records: Sequence[CategoryRecord], samples: Sequence[Sample]) -> CategoryRecord:
    """The record that one process would have made of a category's samples; the first is changed.

    Args:
        records: one for each share of the samples.
        samples: all of the category, in order.
    """
    place = {str(sample.path): at for at, sample in reversed(list(enumerate(samples)))}
    merged = records[0]
    for record in records[1:]:
        merged.pixel.merge(record.pixel)
    rows = [row for record in records for row in record.rows]
    merged.rows = sorted(rows, key=lambda row: place[row.path])
    skipped = [item for record in records for item in record.skipped]
    merged.skipped = sorted(skipped, key=lambda item: place[item[0]])
    return merged
