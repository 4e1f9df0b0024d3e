"""How much memory is left, so that what would fill it is refused before it is allocated."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

from bayes_pfl.errors import ConfigError

GIB = 2**30


def available_memory() -> float:
    """Bytes that this machine can still give; infinity where the system does not say."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
        known = dict(re.findall(r"(\w+): +(\d+) kB", text))
        return 1024 * (int(known["MemAvailable"]) + int(known["SwapFree"]))
    except (OSError, KeyError):
        return math.inf


def check_memory(what: str, parts: Mapping[str, int], most: float = math.inf) -> None:
    """Refuse what would take more memory than there is.

    Args:
        what: would take it, such as "scoring one image".
        parts: bytes of each part, by the settings that they come from.
        most: bytes that are allowed where more is available.

    Raises:
        ConfigError: with the estimate, what is allowed, and the settings of the largest part.
    """
    total, most = sum(parts.values()), min(most, available_memory())
    if total > most:
        largest = max(parts, key=lambda name: parts[name])
        raise ConfigError(
            f"{what} would take about {total / GIB:.1f} GiB of memory, at most {most / GIB:.1f} "
            f"GiB are allowed here; most of it is for {largest}: lower it"
        )
