"""What both trainings share: the learning rate and the record of losses."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

LOG_EVERY = 100


def cosine(optimizer: Optimizer, warmup: int, steps: int) -> LambdaLR:
    """Learning rates by :func:`rate`."""
    return LambdaLR(optimizer, lambda step: rate(step, warmup, steps))


def rate(step: int, warmup: int, steps: int) -> float:
    """Factor on the learning rate: linear warm-up, then a cosine to zero."""
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


class LossHistory:
    """Losses, step by step."""

    def __init__(self) -> None:
        self._steps: list[dict[str, float]] = []

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Add the losses of one step."""
        self._steps.append({name: value.item() for name, value in losses.items()})

    def state_dict(self) -> dict[str, list[dict[str, float]]]:
        """The losses of the last steps."""
        return {"steps": self._steps[-LOG_EVERY:]}

    def load_state_dict(self, state: dict[str, list[dict[str, float]]]) -> None:
        """Load the losses."""
        self._steps = list(state["steps"])

    def recent(self) -> dict[str, float]:
        """The mean of each over the last steps."""
        last = self._steps[-LOG_EVERY:]
        return {name: round(float(np.mean([h[name] for h in last])), 4) for name in last[0]}
