"""Where a training run stands after an epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from bayes_pfl.config import StageConfig

_METRICS = {1: "pixel AP", 2: "image AP"}


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

    @property
    def metric(self) -> str:
        """What ``best`` is the highest value of: "pixel AP" in stage 1, "image AP" in stage 2."""
        return _METRICS[self.stage]

    def begin_stage(self, stage: int) -> None:
        """Start ``stage`` at epoch 0, with no best epoch yet."""
        self.stage, self.epoch = stage, 0
        self.best, self.best_epoch = -math.inf, 0

    def finish_epoch(
        self, score: float, map_range: tuple[float, float], ties_improve: bool = False
    ) -> bool:
        """Count one more epoch; returns whether it is the best of its stage.

        The first epoch of a stage always is, even if its score is NaN; one that equals the best is
        if ``ties_improve``.
        """
        self.epoch += 1
        improved = score > self.best or self.epoch == 1 or (ties_improve and score == self.best)
        if improved:
            self.best, self.best_epoch, self.map_range = score, self.epoch, map_range
        return improved

    def is_over(self, settings: StageConfig, max_epochs: int | None) -> bool:
        """Whether the stage ends.

        It does after all its epochs, after ``patience`` of them without a better one, or when both
        stages together have had ``max_epochs``.
        """
        stale = self.epoch > 0 and self.epoch - self.best_epoch >= settings.patience
        return self.epoch >= settings.epochs or stale or self.is_spent(max_epochs)

    def is_spent(self, max_epochs: int | None) -> bool:
        """Whether both stages together have had ``max_epochs``."""
        return max_epochs is not None and len(self.history) >= max_epochs
