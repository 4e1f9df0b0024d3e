"""Where a training run stands after an epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any


@dataclass
class TrainingState:
    """Everything but weights and optimizer that a resumed run needs.

    Attributes:
        stage: 1 or 2.
        epoch: finished epochs of this stage.
        best: highest validation AP of this stage, in [0, 1]; -inf before its first epoch.
        best_epoch: the epoch that reached it, counted from 1.
        history: the rows of metrics.csv, one for each finished epoch of both stages.
        map_range: median and highest pixel of the validation maps at the best epoch.
    """

    stage: int = 1
    epoch: int = 0
    best: float = -math.inf
    best_epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    map_range: tuple[float, float] | None = None

    def begin_stage(self, stage: int) -> None:
        """Start ``stage`` at epoch 0, with no best epoch yet."""
        self.stage, self.epoch = stage, 0
        self.best, self.best_epoch = -math.inf, 0

    def finish_epoch(self, score: float, map_range: tuple[float, float]) -> bool:
        """Count one more epoch; returns whether it is the best of its stage.

        The first epoch of a stage always is, even if its score is NaN.
        """
        self.epoch += 1
        improved = score > self.best or self.epoch == 1
        if improved:
            self.best, self.best_epoch, self.map_range = score, self.epoch, map_range
        return improved

    def is_over(self, epochs: int, patience: int) -> bool:
        """Whether the stage ends: all ``epochs`` done, or none of the last ``patience`` better."""
        stale = self.epoch > 0 and self.epoch - self.best_epoch >= patience
        return self.epoch >= epochs or stale
