"""The devices of a training run: one process for each, joined by Lightning Fabric.

Either this package starts the processes of this machine (:mod:`bayes_pfl.train.spawning`), or
``torchrun`` has started them, on one machine or several.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.loggers import Logger
from lightning_fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning_fabric.strategies import DDPStrategy

from bayes_pfl.errors import ConfigError
from bayes_pfl.support.processes import launched_outside, usable_cores

MOST_READING = 16
"""Most reading processes that a process of a run starts unasked: each holds batches in memory."""
ACCELERATORS = ("auto", "cpu", "cuda", "gpu", "mps")


def count_processes(accelerator: str, devices: int, batch_size: int, accumulate: int) -> int:
    """How many processes the run has on all machines, after checking the settings against them.

    Args:
        devices: of each machine; with ``torchrun``, 1 stands for as many as it has started.

    Raises:
        ConfigError: no such accelerator, too few devices, or a batch that cannot be divided among
            them.
    """
    here = int(os.environ["LOCAL_WORLD_SIZE"]) if launched_outside() else devices
    if devices not in (1, here):
        raise ConfigError(
            f"devices = {devices}, but torchrun started {here} processes here; leave --devices out"
        )
    _check_devices(accelerator, here)
    total = int(os.environ["WORLD_SIZE"]) if launched_outside() else devices
    if batch_size % (total * accumulate):
        raise ConfigError(
            f"batch_size = {batch_size}: must be a multiple of devices x accumulate = {total} x "
            f"{accumulate}; change --batch-size, --devices or --accumulate"
        )
    return total


def _check_devices(accelerator: str, devices: int) -> None:
    if accelerator not in ACCELERATORS:
        allowed = ", ".join(ACCELERATORS)
        raise ConfigError(f"accelerator {accelerator!r} is not known; give one of {allowed}")
    if devices < 1:
        raise ConfigError(f"devices = {devices}: give 1, or more")
    counts = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    kind = accelerator
    if kind in ("auto", "gpu"):
        found = [name for name, count in counts.items() if count]
        kind = next(iter(found), "cpu" if kind == "auto" else "cuda")
    if kind != "cpu" and devices > counts[kind]:  # any number of processes can share the CPU
        fewer = f"give {counts[kind]} at most, or" if counts[kind] else "use"
        raise ConfigError(
            f"devices = {devices}: {kind} has {counts[kind]} here; {fewer} --accelerator cpu"
        )


def join_devices(
    accelerator: str, devices: int, precision: Any, loggers: Sequence[Logger] = ()
) -> Fabric:
    """The launched Fabric of this process, which runs alone or as one of several."""
    outside = launched_outside()
    logging_to = list(loggers)
    if devices == 1 and not outside:
        fabric = Fabric(accelerator=accelerator, devices=1, precision=precision, loggers=logging_to)
    else:
        # It logs every process that joins, which no user can act on.
        logging.getLogger("lightning_fabric.utilities").setLevel(logging.WARNING)
        here = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // here
        fabric = Fabric(
            accelerator=accelerator,
            devices=here,
            num_nodes=nodes,
            strategy=_Strategy(),
            precision=precision,
            plugins=[TorchElasticEnvironment() if outside else LightningEnvironment()],
            loggers=logging_to,
        )
    fabric.launch()
    return fabric


def reading_processes(workers: int | None, fabric: Fabric) -> int:
    """Processes that read images for this process of the run.

    Args:
        workers: what the user chose; None for what the machine has cores for. Beside a GPU they are
            shared among the run's processes here, each of which keeps one for itself; on the CPU
            there are 0, because computing takes every core.
    """
    if workers is not None:
        return workers
    if fabric.device.type == "cpu":
        return 0
    here = getattr(fabric.strategy, "num_processes", 1)
    return min(MOST_READING, max(1, usable_cores() // here - 1))


class _Strategy(DDPStrategy):
    """DDP that looks for unused parameters only in the stage that can have some."""

    def setup_module(self, module: Any) -> Any:
        self._ddp_kwargs["find_unused_parameters"] = module.has_unused_parameters
        return super().setup_module(module)
