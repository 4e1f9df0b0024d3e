"""Peak resident memory of a piece of work, above what was resident before it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

T = TypeVar("T")


def with_peak_memory(work: Callable[[], T]) -> tuple[T, float | None]:
    """Run `work` -> (its result, MB by which resident memory rose at most).

    On Linux the kernel's own high-water mark is reset and read, so no short peak is missed. None
    elsewhere.
    """
    before = _reset_peak()
    result = work()
    after = status_mb("VmHWM") if before is not None else None
    return result, None if before is None or after is None else after - before


def peak_bytes(work: Callable[[], object], device: torch.device) -> int | None:
    """Peak memory while `work` runs, weights included.

    On a CUDA device what torch holds there; on the CPU of Linux the resident memory of the process.
    None elsewhere.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return torch.cuda.max_memory_allocated(device)
    known = device.type == "cpu" and _reset_peak() is not None
    work()
    peak = status_mb("VmHWM") if known else None
    return None if peak is None else round(peak * 2**20)


def reset_peak() -> bool:
    """Start :func:`peak_mb` again; False where the system does not report it."""
    return _reset_peak() is not None


def peak_mb() -> float | None:
    """Most MB that were resident since :func:`reset_peak`, on Linux."""
    return status_mb("VmHWM")


def _reset_peak() -> float | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not permitted in some containers
        return None
    return status_mb("VmRSS")


def status_mb(field: str) -> float | None:
    """A line of this process' status in MB, such as VmHWM or RssAnon; None where it is unknown."""
    if not sys.platform.startswith("linux"):
        return None
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    return None
