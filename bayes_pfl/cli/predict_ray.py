"""The part of ``bayes-pfl predict`` that runs on Ray: its options, and what they ask for."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bayes_pfl.cli.options import bars
from bayes_pfl.errors import ConfigError

if TYPE_CHECKING:
    from bayes_pfl.predict.summary import Summary


class Engine(str, Enum):
    """Choices of ``--engine``."""

    local = "local"
    ray = "ray"


EngineName = Annotated[
    Engine,
    typer.Option(
        help="local: this process. ray: a pool of workers, here or on a cluster; Parquet."
    ),
]
Actors = Annotated[
    int | None, typer.Option(min=1, help="ray: workers of the pool; default: as many as fit.")
]
CpusPerActor = Annotated[float, typer.Option(min=0, help="ray: cores of each worker.")]
GpusPerActor = Annotated[float, typer.Option(min=0, help="ray: GPUs of each worker, or a share.")]
PartImages = Annotated[
    int | None, typer.Option(min=1, help="ray: images of a part file; default: 1,000 at most.")
]


def pool_of(
    engine: Engine,
    actors: int | None,
    cpus_per_actor: float,
    gpus_per_actor: float,
    part_images: int | None,
) -> dict[str, Any]:
    """The options of the pool, by the names of :func:`bayes_pfl.predict.ray.predict_ray`.

    Raises:
        ConfigError: they were given without the engine that knows them.
    """
    if engine is not Engine.ray and (actors or part_images or gpus_per_actor):
        raise ConfigError("--actors, --gpus-per-actor and --part-images need --engine ray")
    return {
        "actors": actors,
        "cpus_per_actor": cpus_per_actor,
        "gpus_per_actor": gpus_per_actor,
        "part_images": part_images,
    }


def here(place: str) -> Path:
    """A folder of this machine.

    Raises:
        ConfigError: a URL.
    """
    if "://" in place:
        raise ConfigError(f"{place}: a URL needs --engine ray")
    return Path(place)


def predict_on_ray(
    folder: str, out: str, checkpoint: str, pool: dict[str, Any], options: dict[str, Any]
) -> Summary:
    """Run :func:`bayes_pfl.predict.ray.predict_ray` with progress on the error stream."""
    from bayes_pfl.predict.ray import predict_ray

    with bars() as progress:
        return predict_ray(checkpoint, folder, out, **pool, **options, progress=progress)
