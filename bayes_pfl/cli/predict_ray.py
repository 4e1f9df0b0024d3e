"""The options of ``bayes-pfl predict`` that belong to the engine Ray."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from bayes_pfl.errors import ConfigError

EngineName = Annotated[
    Literal["local", "ray"],
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


def refuse_without_ray(pool_options: tuple[float | None, ...], places: tuple[str, ...]) -> None:
    """Raise ConfigError for options and URLs that only the engine ray knows."""
    if any(pool_options):
        raise ConfigError("--actors, --gpus-per-actor and --part-images need --engine ray")
    for place in places:
        if "://" in place:
            raise ConfigError(f"{place}: a URL needs --engine ray")
