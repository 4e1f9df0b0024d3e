"""Evaluation on several processes that ``torchrun`` started: shares of the images, one result.

A category is shared out batch by batch, so that every batch is the one that a single process would
have made. The first process gathers rows and counts of pixels, adds them up exactly, and alone
writes the results; the others keep their scores in a cache of their own.
"""

from __future__ import annotations

import datetime
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bayes_pfl.data.records import Sample
from bayes_pfl.evaluate.categories import EvaluationSettings, Tick, Watch, evaluate_categories
from bayes_pfl.evaluate.records import CategoryRecord, ImageRow
from bayes_pfl.metrics import PixelMetrics
from bayes_pfl.metrics.stores import State
from bayes_pfl.report.pictures import picture_name
from bayes_pfl.support.files import write_picture
from bayes_pfl.support.processes import close_process_group, first_error_only, launched_outside

if TYPE_CHECKING:
    from bayes_pfl.evaluate.cache import DatasetCache
    from bayes_pfl.evaluate.datasets import EvaluationData
    from bayes_pfl.evaluate.report_pictures import EvaluationPictures
    from bayes_pfl.evaluate.run import EvaluationRequest
    from bayes_pfl.model.network import BayesPFLNetwork

_PATIENCE = datetime.timedelta(days=30)
"""A process may be done long before the others; one that dies is noticed at once all the same."""


@dataclass(frozen=True)
class Share:
    """What one process found in a category.

    Attributes:
        pixel: the state of its counts.
        pictures: of the report, by the names of their files.
    """

    rows: list[ImageRow]
    skipped: list[tuple[str, str]]
    pixel: State
    pictures: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Team:
    """The processes of an evaluation, seen from one of them; alone by default."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes the results."""
        return self.rank == 0

    def share(self, samples: Sequence[Sample], batch_size: int) -> list[Sample]:
        """Every ``count``-th batch of a category."""
        places = range(len(samples))
        return [samples[at] for at in places if at // batch_size % self.count == self.rank]

    def gather(self, share: Share) -> list[Share]:
        """The shares of all processes, in the first one; nothing in the others."""
        import torch.distributed

        found: list[Any] | None = [None] * self.count if self.first else None
        torch.distributed.gather_object(share, found)
        return found or []


@contextmanager
def working_together(request: EvaluationRequest) -> Iterator[tuple[Team, EvaluationRequest]]:
    """Within, the processes of the run are connected; alone, nothing changes.

    Yields:
        The team, and what this process is asked for: a cache of its own, and, where it is not the
        first, results out of the way.

    Raises:
        StoppedElsewhere: in all processes but the one that tells an error.
    """
    if not launched_outside():
        yield Team(), request
        return
    from torch import distributed

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
    # The pictures of what the cache holds have to be there when the run goes on.
    out = cache / "results" if cache else folder
    return replace(request, cache=cache, out=out, curves=False, sheets=False)


def join_team() -> Team:
    """The processes that ``torchrun`` started, connected; a team of one without it."""
    if not launched_outside() or os.environ.get("WORLD_SIZE", "1") == "1":
        return Team()
    from torch import distributed

    if not distributed.is_initialized():
        # Rows and counts are gathered, which lie in memory: of GPUs nothing is asked.
        distributed.init_process_group("gloo", timeout=_PATIENCE)
    return Team(distributed.get_rank(), distributed.get_world_size())


def device_here(device: str | None) -> str | None:
    """The device of this process: with ``torchrun`` each of a machine has a GPU of its own."""
    import torch

    if not launched_outside() or device not in (None, "cuda") or not torch.cuda.is_available():
        return device
    return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"


def evaluate_together(
    team: Team,
    model: BayesPFLNetwork,
    data: EvaluationData,
    settings: EvaluationSettings,
    tick: Tick,
    cache: DatasetCache | None,
    watch: Watch | None,
    pictures: EvaluationPictures | None,
) -> Iterator[CategoryRecord]:
    """As :func:`bayes_pfl.evaluate.categories.evaluate_categories`, over all processes of the team.

    The first one has the records of all; in the others there are none.

    Args:
        pictures: where ``watch`` draws.
    """
    if team.count == 1:
        yield from evaluate_categories(
            model, data.samples, settings, tick, data.levels, cache, watch
        )
        return
    categories: dict[str, list[Sample]] = {}
    for sample in data.samples:
        categories.setdefault(sample.category, []).append(sample)
    own = {name: team.share(chosen, settings.batch_size) for name, chosen in categories.items()}
    mine = [sample for share in own.values() for sample in share]
    records = evaluate_categories(model, mine, settings, tick, data.levels, cache, watch)
    for category, samples in categories.items():
        record = next(records) if own[category] else CategoryRecord(category, tuple(data.levels))
        drawn = _drawn(data.name, record, pictures) if watch and pictures else {}
        share = Share(record.rows, record.skipped, record.pixel.state(), drawn)
        if shares := team.gather(share):
            tick(sum(len(other.rows) + len(other.skipped) for other in shares[1:]))
            for name, content in (item for other in shares[1:] for item in other.pictures.items()):
                write_picture(pictures.files.folder / name, content)  # type: ignore[union-attr]
            yield merge_shares(category, data.levels, shares, samples, settings.batch_size)


def _drawn(dataset: str, record: CategoryRecord, pictures: EvaluationPictures) -> dict[str, bytes]:
    """The pictures of a category, as far as they could be written."""
    names = [picture_name(row.path, dataset) for row in record.rows]
    paths = [pictures.files.folder / name for name in names]
    return {path.name: path.read_bytes() for path in paths if path.is_file()}


def merge_shares(
    category: str,
    levels: Sequence[str],
    shares: Sequence[Share],
    samples: Sequence[Sample],
    batch_size: int,
) -> CategoryRecord:
    """The record that one process would have made of the category's samples."""
    place = {str(sample.path): at for at, sample in reversed(list(enumerate(samples)))}
    record = CategoryRecord(category, tuple(levels))
    for share in shares:
        record.pixel.merge(PixelMetrics.from_state(share.pixel))
    rows = [row for share in shares for row in share.rows]
    record.rows = sorted(rows, key=lambda row: place[row.path])
    skipped = [item for share in shares for item in share.skipped]
    record.skipped = sorted(skipped, key=lambda item: place[item[0]])
    unmasked = [place[row.path] for row in record.rows if not row.has_mask]
    if unmasked:  # from that batch on one process would have looked at no more pixels
        end = min(unmasked) // batch_size * batch_size
        record.rows = [
            replace(row, pixel_ap=float("nan")) if place[row.path] >= end else row
            for row in record.rows
        ]
    return record
