"""The cluster, and the pool of workers on it."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
import ray.data

from bayes_pfl import errors
from bayes_pfl.detect.settings import check_whole
from bayes_pfl.errors import BayesPFLError, ConfigError
from bayes_pfl.predict.ray.worker import Job, PartScorer
from bayes_pfl.predict.summary import Counts
from bayes_pfl.support.error_text import one_line

_AHEAD = 2  # parts in the queue of each worker, so that none is idle


@dataclass(frozen=True)
class Pool:
    """How many workers, and what each is given; see :func:`bayes_pfl.predict.ray.predict_ray`."""

    actors: int | None = None
    cpus: float = 1
    gpus: float = 0

    def __post_init__(self) -> None:
        if self.actors is not None:
            check_whole("actors", self.actors, 1)
        for name, value in (("cpus_per_actor", self.cpus), ("gpus_per_actor", self.gpus)):
            if not value >= 0:
                raise ConfigError(f"{name} = {value}: must be 0 at least")
        if not (self.cpus or self.gpus):
            raise ConfigError("cpus_per_actor = 0 without GPUs: give each worker one or the other")

    def size(self) -> int:
        """Workers that the connected cluster is asked for.

        Raises:
            ConfigError: it has no room for one, or not for as many as the user wants.
        """

        there = ray.cluster_resources()
        wanted = {"CPU": self.cpus, "GPU": self.gpus}
        room = min(int(there.get(kind, 0) // each) for kind, each in wanted.items() if each)
        if self.actors is None and room:
            return room
        if room < (self.actors or 1) and not os.environ.get("RAY_ADDRESS"):
            have = ", ".join(f"{there.get(kind, 0):g} {kind}" for kind in wanted)
            raise ConfigError(
                f"actors = {self.actors or 1} of {self.cpus:g} CPU and {self.gpus:g} GPU: the "
                f"cluster has {have}; give fewer or smaller ones"
            )
        return self.actors or 1


@contextmanager
def connected() -> Iterator[None]:
    """Within, Ray is connected: to the cluster of RAY_ADDRESS, a running one, or one of our own.

    Ray's usage reports are turned off, and no dashboard is started.

    Raises:
        ConfigError: the cluster cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")

    if ray.is_initialized():
        yield
        return
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if main else None
    try:
        ray.init(
            include_dashboard=False,
            configure_logging=True,
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    except Exception as error:
        raise ConfigError(
            f"no Ray cluster ({one_line(error)}); check RAY_ADDRESS, or unset it for one on this "
            "machine"
        ) from error
    finally:
        if before is not None:  # Ray's own, which replaced it, ends by a crash report
            signal.signal(signal.SIGTERM, before)
    try:
        yield
    finally:
        ray.shutdown()


def scored_parts(
    job: Job, parts: Sequence[pa.Table], pool: Pool, actors: int
) -> Iterator[tuple[str, Counts]]:
    """Names of parts with their tallies, as they are written; in no fixed order.

    A worker that is lost is replaced, and its part done again.

    Raises:
        BayesPFLError: what a worker raised.
    """
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    if hasattr(context, "execution_no_progress_timeout_s"):  # a part of a large model takes hours
        context.execution_no_progress_timeout_s = -1
    workers = ray.data.ActorPoolStrategy(
        size=min(actors, len(parts)), max_tasks_in_flight_per_actor=_AHEAD
    )
    found = ray.data.from_arrow(list(parts)).map_batches(
        PartScorer,
        fn_constructor_args=(job,),
        batch_size=None,
        batch_format="pyarrow",
        zero_copy_batch=True,
        compute=workers,
        num_cpus=pool.cpus,
        num_gpus=pool.gpus,
    )
    for answer in found.iter_rows():
        yield answer["part"], counts_in(answer)


def counts_in(answer: dict[str, str]) -> Counts:
    """The counts that a worker answered with.

    Raises:
        BayesPFLError: the one that it answered with.
    """
    if answer["error"]:
        raise getattr(errors, answer["kind"], BayesPFLError)(answer["error"])
    return Counts.from_dict(json.loads(answer["counts"]))
