"""Pictures a second: the renderer that draws one at a time, and the one that draws batches."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import cycle, islice

import torch

from bayes_pfl.data.synthetic import CATEGORIES, render
from bayes_pfl.data.synthetic.batched import BATCHED, find_device, render_batch


def benchmark_rendering(
    pictures: int, size: int = 256, batch_size: int = 32, device: str = "auto"
) -> dict[str, float]:
    """Both in one process, half of the pictures with a fault, all categories or families in turn.

    Returns {"single" and "batched": pictures a second, "ratio": the second to the first}.
    """
    place = find_device(device)
    kinds = ["random" if index % 2 else None for index in range(pictures)]

    def single() -> None:
        for index, name in enumerate(islice(cycle(CATEGORIES), pictures)):
            render(name, 0, index, size=size, defect=kinds[index])

    def batched() -> None:
        names = list(islice(cycle(BATCHED), pictures))
        for start in range(0, pictures, batch_size):
            part = slice(start, start + batch_size)
            indices = range(pictures)[part]
            render_batch(names[part], 0, indices, size=size, defects=kinds[part], device=place)
        if place.type == "cuda":
            torch.cuda.synchronize(place)

    rates = {"single": pictures / _seconds(single), "batched": pictures / _seconds(batched)}
    return rates | {"ratio": rates["batched"] / rates["single"]}


def _seconds(work: Callable[[], None]) -> float:
    """Of the second time: the first one loads what is loaded at first use."""
    work()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
