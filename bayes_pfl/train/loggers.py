"""Where a run's figures go besides metrics.csv: loggers of Lightning Fabric, by name.

Fabric brings those of TensorBoard and CSV files. Those of W&B and MLflow come with PyTorch
Lightning alone, whose wheel overwrites Fabric's files; the two here are small.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric
from lightning_fabric.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning_fabric.utilities.rank_zero import rank_zero_only

from bayes_pfl.errors import BayesPFLError, CheckpointError, ConfigError
from bayes_pfl.support.error_text import one_line

_logger = logging.getLogger(__name__)

PROJECT = "bayes-pfl"
"""W&B project and MLflow experiment, where the environment names no other."""

_PARAMS_AT_ONCE = 100  # MLflow takes no more in one request
_LONGEST = 250  # characters of a setting


class WandbLogger(Logger):
    """A run of W&B; offline with WANDB_MODE=offline."""

    name, version = "wandb", None

    def __init__(self, out: Path) -> None:
        self.out, self._run = out, None

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Begin the run, with the settings."""
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=self.out.resolve().name,
            dir=self.out,
            config=params,
        )

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Send the figures of a step."""
        if self._run is not None:
            self._run.log(metrics, step=step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End the run."""
        if self._run is not None:
            self._run.finish(exit_code=int(status != "success"))


class MlflowLogger(Logger):
    """A run of MLflow, at MLFLOW_TRACKING_URI."""

    name, version = "mlflow", None

    def __init__(self, out: Path) -> None:
        self.out, self._begun = out, False

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Begin the run, with the settings."""
        import mlflow

        mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT))
        mlflow.start_run(run_name=self.out.resolve().name)
        self._begun = True
        rows = iter((name, str(value)[:_LONGEST]) for name, value in params.items())
        while part := dict(islice(rows, _PARAMS_AT_ONCE)):
            mlflow.log_params(part)

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Send the figures of a step."""
        import mlflow

        mlflow.log_metrics(metrics, step=step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End the run."""
        if self._begun:
            import mlflow

            mlflow.end_run("FINISHED" if status == "success" else "FAILED")


LOGGERS: dict[str, Callable[[Path], Logger]] = {
    "tensorboard": lambda out: TensorBoardLogger(out, "tensorboard", ""),
    "csv": lambda out: CSVLogger(out, "csv"),
    "wandb": WandbLogger,
    "mlflow": MlflowLogger,
}
"""What ``--logger`` may name, and how it is made for a run folder."""

_MENDS = {
    "wandb": "run `wandb login` or set WANDB_MODE=offline",
    "mlflow": "look at MLFLOW_TRACKING_URI",
}


def check_loggers(names: Sequence[str]) -> None:
    """Refuse a logger that is not known or not installed.

    Raises:
        ConfigError: it says what to give, or to install.
    """
    for name in names:
        if name not in LOGGERS:
            raise ConfigError(f"logger {name!r} is not known; give one of {', '.join(LOGGERS)}")
        if name in _MENDS and not _is_installed(name):
            raise ConfigError(
                f"--logger {name}: {name} is not installed; pip install 'bayes-pfl[{name}]'"
            )


def _is_installed(name: str) -> bool:
    """Whether a package is there; folders of W&B's own runs are called wandb as well."""
    found = importlib.util.find_spec(name)
    return found is not None and found.origin is not None


def make_loggers(names: Sequence[str], out: Path) -> list[Logger]:
    """The loggers of a run folder, each once; none has begun."""
    return [LOGGERS[name](out) for name in dict.fromkeys(names)]


class FigureLog:
    """Sends the figures of a run to its loggers, from the first process alone.

    Args:
        fabric: with the loggers.

    Raises:
        CheckpointError: a logger fails.
    """

    def __init__(self, fabric: Fabric) -> None:
        self.loggers = fabric.loggers if fabric.is_global_zero else []

    def begin(self, settings: dict[str, Any]) -> None:
        """Begin the runs of W&B and MLflow, with the settings, as "train.stage1.epochs"."""
        for logger in self.loggers:
            if isinstance(logger, WandbLogger | MlflowLogger):
                with _explained(logger):
                    logger.log_hyperparams(dict(_flat(settings)))

    def log(self, stage: int, values: dict[str, Any], step: int) -> None:
        """Log figures of a stage.

        Args:
            step: counted from 0, over both stages.
        """
        figures = {f"stage{stage}/{name}": float(value) for name, value in values.items()}
        for logger in self.loggers:
            with _explained(logger):
                logger.log_metrics(figures, step)

    def save(self) -> None:
        """Write what was logged so far."""
        for logger in self.loggers:
            with _explained(logger):
                logger.save()

    def close(self, *, finished: bool) -> None:
        """End the loggers; of a run that failed, without an error that would hide its own."""
        for logger in self.loggers:
            try:
                with _explained(logger):
                    logger.finalize("success" if finished else "failed")
            except CheckpointError as error:
                if finished:
                    raise
                _logger.warning("%s", error)


@contextmanager
def _explained(logger: Logger) -> Iterator[None]:
    """What a logger raises, in one line; those of W&B and MLflow raise types of their own."""
    try:
        yield
    except BayesPFLError:
        raise
    except Exception as error:
        mend = _MENDS.get(str(logger.name), "make room, or choose another --out")
        raise CheckpointError(
            f"logger {logger.name} failed ({one_line(error)}); {mend}, and continue with --resume"
        ) from error


def _flat(settings: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Settings within settings, one by one under their joined names."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value
