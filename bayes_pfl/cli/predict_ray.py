"""The options of ``bayes-pfl predict`` that belong to the engine Ray."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bayes_pfl.errors import ConfigError

if TYPE_CHECKING:
    from bayes_pfl.predict.ray.pool import Pool
    from bayes_pfl.predict.settings import FolderSettings


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


@dataclass(frozen=True)
class PoolOptions:
    """The options of the pool; see :class:`bayes_pfl.predict.ray.pool.Pool`."""

    actors: int | None
    cpus_per_actor: float
    gpus_per_actor: float
    part_images: int | None

    def pool(self, settings: FolderSettings) -> Pool:
        """The pool that these options describe.

        Raises:
            ConfigError: an option that cannot be used.
        """
        from bayes_pfl.predict.ray.pool import Pool

        if settings.overlay_uncertainty:
            raise ConfigError("--overlay-uncertainty: ray draws no overlays; leave it out")
        return Pool(self.actors, self.cpus_per_actor, self.gpus_per_actor)

    def refuse_without_ray(self) -> None:
        """Raise ConfigError for options that only the engine ray knows."""
        if self.actors or self.part_images or self.gpus_per_actor:
            raise ConfigError("--actors, --gpus-per-actor and --part-images need --engine ray")


def local_folder(place: str) -> Path:
    """A folder of this machine.

    Raises:
        ConfigError: a URL.
    """
    if "://" in place:
        raise ConfigError(f"{place}: a URL needs --engine ray")
    return Path(place)
