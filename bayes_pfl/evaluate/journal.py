"""What an evaluation was asked for and which categories it has finished; ``--resume`` reads it.

The scores themselves are in the cache.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

from bayes_pfl.errors import ConfigError
from bayes_pfl.evaluate.records import CategoryRecord
from bayes_pfl.evaluate.request import EvaluationRequest
from bayes_pfl.support.files import remove_leftovers
from bayes_pfl.support.journal import Journal
from bayes_pfl.support.processes import is_first_process
from bayes_pfl.support.version import __version__

JOURNAL_NAME = "evaluation.journal.jsonl"


class EvaluationJournal:
    """The journal of a run that has a cache; without a cache nothing is written.

    Raises:
        ConfigError: the run is resumed with other settings than it was started with, or without a
            cache; or another run writes in the same folder.
    """

    def __init__(self, request: EvaluationRequest) -> None:
        self._journal: Journal | None = None
        self._weights: dict[str, str] = {}
        if request.cache is None:
            if request.resume:
                raise ConfigError("--resume reads the scores from the cache: leave --no-cache out")
        elif is_first_process():
            self._journal = Journal(request.out / JOURNAL_NAME, "evaluation", "leave --resume out")
            try:
                self._begin(self._journal, request)
            except BaseException:
                self.close()
                raise

    def _begin(self, journal: Journal, request: EvaluationRequest) -> None:
        _remove_leftovers(request)
        header = _header(request)
        if not request.resume or journal.header is None:
            journal.begin(header)
            return
        journal.check_same(header)
        for _, entry in chain.from_iterable(journal.blocks()):
            if "sha256" in entry:
                self._weights[str(entry.get("checkpoint"))] = str(entry["sha256"])

    def check_weights(self, checkpoint: str, sha256: str) -> None:
        """Check that a checkpoint has the weights that the run was started with.

        Raises:
            ConfigError: it has others.
        """
        if self._journal is None:
            return
        if self._weights.setdefault(checkpoint, sha256) != sha256:
            raise ConfigError(
                f"{self._journal.path}: checkpoint {checkpoint} has other weights than when the "
                "run was begun; restore them, or leave --resume out"
            )
        self._journal.append([{"checkpoint": checkpoint, "sha256": sha256}])

    def note(self, checkpoint: str, dataset: str, seed: int, record: CategoryRecord) -> None:
        """Record that a category is finished."""
        if self._journal is not None:
            done = {"checkpoint": checkpoint, "dataset": dataset, "seed": seed}
            counts = {"images": len(record.rows), "skipped": len(record.skipped)}
            self._journal.append([{**done, "category": record.category, **counts}])

    def end(self) -> None:
        """Record that all results are written."""
        if self._journal is not None:
            self._journal.end()

    def close(self) -> None:
        """Let other runs write here."""
        if self._journal is not None:
            self._journal.close()


def _remove_leftovers(request: EvaluationRequest) -> None:
    """Remove what a killed run left half-written; not in the cache, which others may be using."""
    cache = (request.cache or request.out).resolve()
    inside = [path for path in request.out.iterdir() if path.is_dir()]
    others = [path for path in inside if path.resolve() not in (cache, *cache.parents)]
    remove_leftovers(request.out)
    remove_leftovers(*others, below=True)


def _header(request: EvaluationRequest) -> dict[str, Any]:
    """What a resumed run must have in common with the run that it continues."""
    settings = request.settings
    return {
        "version": __version__,
        "checkpoints": list(request.checkpoints),
        "datasets": [data.name for data in request.data],
        "protocols": list(request.protocols),
        "seeds": list(request.seeds),
        "settings": {"samples": settings.samples, "precision": settings.precision},
    }
