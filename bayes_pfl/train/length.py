"""Whether a run that is resumed can be made longer than it was begun for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bayes_pfl.config import StageConfig, TrainConfig
from bayes_pfl.errors import ConfigError
from bayes_pfl.train.state import TrainingState


def check_length(
    out: Path, state: TrainingState, begun: Mapping[str, Any], config: TrainConfig
) -> None:
    """Refuse lengths of the stages that a resumed run cannot have.

    The next stage may have any. The present one can be longer or shorter where its learning rates
    are constant: a cosine is planned for all its epochs.

    Args:
        out: the run's folder.
        state: after its last epoch.
        begun: the entry "train" of the config.json that it was begun with; what is missing there is
            not checked.

    Raises:
        ConfigError: it says why, and what to give.
    """
    stages = (("--epochs", config.stage1), ("--epochs2", config.stage2))
    for stage, (option, settings) in enumerate(stages[: state.stage], start=1):
        before = begun.get(f"stage{stage}", {}).get("epochs", settings.epochs)
        if before == settings.epochs:
            continue
        if why := _reason(stage, settings, before, state, config):
            raise ConfigError(
                f"{out}: {option} {settings.epochs} where it was begun with {before}: {why}; give "
                f"{option} {before} to resume it, or train again into another --out"
            )


def _reason(
    stage: int, settings: StageConfig, before: int, state: TrainingState, config: TrainConfig
) -> str | None:
    """Why the stage cannot have another length; None if it can."""
    if stage < state.stage:
        return f"stage {state.stage} has begun from the best epoch of stage {stage}"
    if settings.schedule == "cosine":
        return f"the learning rates of stage {stage} were to fall to zero over {before} epochs"
    if settings.epochs > state.epoch and state.is_over(settings, config.max_epochs):
        return (
            f"stage {stage} has ended before, {state.epoch - state.best_epoch} epochs after its "
            "best one (--patience)"
        )
    return None
