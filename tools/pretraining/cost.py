"""What a part of the recipe cost."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """Seconds by the clock, and of processors (over all processes that the work started)."""

    wall: float = 0.0
    processor: float = 0.0

    @classmethod
    def now(cls) -> Cost:
        """A moment to measure from."""
        return cls(time.perf_counter(), sum(os.times()[:4]))

    def since(self, begin: Cost) -> Cost:
        """What was spent between ``begin`` and this moment."""
        return Cost(self.wall - begin.wall, self.processor - begin.processor)

    def plus(self, other: Cost) -> Cost:
        """Both together."""
        return Cost(self.wall + other.wall, self.processor + other.processor)
