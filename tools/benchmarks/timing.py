"""Wall time of pieces of work that take turns, so that other load affects all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median

import torch


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, until the device has finished."""
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def interleaved(
    works: Mapping[str, Callable[[], object]], repeats: int, device: torch.device, warmup: int = 1
) -> dict[str, list[float]]:
    """Seconds of each work, A B A B ..., after ``warmup`` rounds that are not counted."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(warmup + repeats):
        for name, work in works.items():
            spent = seconds(work, device)
            if turn >= warmup:
                taken[name].append(spent)
    return taken


def medians(taken: Mapping[str, list[float]]) -> dict[str, float]:
    """The median of each."""
    return {name: median(values) for name, values in taken.items()}


def with_processor_time(work: Callable[[], object], spent: list[float]) -> Callable[[], object]:
    """The same work; the processor time of each call is added to a list."""

    def noted() -> object:
        before = time.process_time()
        result = work()
        spent.append(time.process_time() - before)
        return result

    return noted
