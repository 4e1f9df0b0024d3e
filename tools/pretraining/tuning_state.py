"""The state of the tower's tuning on disk, so that a run that was stopped can resume it."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from bayes_pfl.errors import DataError
from bayes_pfl.support.files import write_atomically
from pretraining.cost import Cost

PERIOD = 120.0
"""At most so many seconds of work are lost."""


class Stateful(Protocol):
    """Anything whose state can be saved and loaded."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> object: ...


@dataclass(frozen=True)
class Draws:
    """The state of a random generator."""

    rng: np.random.Generator

    def state_dict(self) -> dict[str, Any]:
        return dict(self.rng.bit_generator.state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rng.bit_generator.state = state


class TuningState:
    """The file of a tuning's state; without a path nothing is written.

    Args:
        path: to write.
        period: seconds between two writings.
    """

    def __init__(self, path: Path | None = None, period: float = PERIOD) -> None:
        self.path, self.period = path, period
        self._begin, self._before = Cost.now(), Cost()
        self._written = time.monotonic()

    @property
    def cost(self) -> Cost:
        """Cost of the tuning so far, including that before a stop."""
        return Cost.now().since(self._begin).plus(self._before)

    def restore(self, parts: Mapping[str, Stateful]) -> int:
        """Load the parts; returns the number of finished steps, 0 without a file.

        Raises:
            DataError: a file of another kind or of another tower.
        """
        if not self.path or not self.path.is_file():
            return 0
        try:
            data = torch.load(self.path, map_location="cpu", weights_only=True)
            for name, part in parts.items():
                part.load_state_dict(data["parts"][name])
            self._before = Cost(**data["cost"])
            return int(data["step"])
        except Exception as error:  # unpicklers raise many unrelated types
            raise DataError(
                f"{self.path}: not the state of this tuning ({type(error).__name__}); delete it"
            ) from error

    def keep(self, step: int, parts: Mapping[str, Stateful]) -> None:
        """Write the parts after ``step`` steps, if the period is over.

        Raises:
            OSError: the file cannot be written; what it held is intact.
        """
        if not self.path or time.monotonic() - self._written < self.period:
            return
        states = {name: part.state_dict() for name, part in parts.items()}
        buffer = io.BytesIO()
        torch.save({"step": step, "cost": asdict(self.cost), "parts": states}, buffer)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, buffer.getvalue())
        self._written = time.monotonic()

    def remove(self) -> None:
        """Delete the file, because the result of the tuning is kept."""
        if self.path:
            self.path.unlink(missing_ok=True)
