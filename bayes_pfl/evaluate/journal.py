"""What an evaluation was asked for and with which weights; ``--resume`` reads it.

The scores themselves are in the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

from bayes_pfl.errors import ConfigError
from bayes_pfl.evaluate.request import EvaluationRequest
from bayes_pfl.support.files import remove_leftovers
from bayes_pfl.support.journal import Journal
from bayes_pfl.support.processes import is_first_process
from bayes_pfl.support.version import __version__

JOURNAL_NAME = "evaluation.journal.jsonl"

CheckWeights = Callable[[str, str], None]
"""Takes a checkpoint and the hash of its weights; ConfigError if the run began with others."""


@contextmanager
def evaluation_journal(request: EvaluationRequest) -> Iterator[CheckWeights]:
    """The journal of a run, marked as finished at the end; without a cache it is only a lock.

    Raises:
        ConfigError: the run is resumed with other settings than it was started with, or without a
            cache; or another run writes in the same folder.
    """
    if request.cache is None and request.resume:
        raise ConfigError("--resume reads the scores from the cache: leave --no-cache out")
    if not is_first_process():
        yield lambda checkpoint, sha256: None
        return
    with Journal(request.out / JOURNAL_NAME, "evaluation", "leave --resume out") as journal:
        if request.cache is None:
            yield lambda checkpoint, sha256: None
            return
        known = _begin(journal, request)

        def check_weights(checkpoint: str, sha256: str) -> None:
            if known.setdefault(checkpoint, sha256) != sha256:
                raise ConfigError(
                    f"{journal.path}: checkpoint {checkpoint} has other weights than when the "
                    "run was begun; restore them, or leave --resume out"
                )
            journal.append([{"checkpoint": checkpoint, "sha256": sha256}])

        yield check_weights
        journal.end()


def _begin(journal: Journal, request: EvaluationRequest) -> dict[str, str]:
    """Write the header, or check that of the run that is resumed.

    Returns:
        The hashes of the weights of a resumed run, by checkpoint.
    """
    _remove_leftovers(request)
    header = _header(request)
    if not request.resume or journal.header is None:
        journal.begin(header)
        return {}
    journal.check_same(header)
    entries = [entry for _, entry in chain.from_iterable(journal.blocks())]
    return {str(e.get("checkpoint")): str(e["sha256"]) for e in entries if "sha256" in e}


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
    methods = [str(method) for method in request.methods]
    return {
        "version": __version__,
        "checkpoints": list(request.checkpoints),
        "datasets": [data.name for data in request.data],
        "protocols": list(request.protocols),
        "seeds": list(request.seeds),
        "settings": {"samples": settings.samples, "precision": settings.precision},
    } | (
        ({"tile": settings.tile, "overlap": settings.overlap} if settings.tile else {})
        | ({"methods": methods} if request.references else {})
        | ({"profile": request.profile.sha256} if request.profile else {})
    )
