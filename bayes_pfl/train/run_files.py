"""The files of a training run: metrics.csv, best/ and last/."""

from __future__ import annotations

import csv
import io
import json
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from bayes_pfl.checkpoints.format import WEIGHTS_NAME, read_config, read_weights, save_checkpoint
from bayes_pfl.checkpoints.load import load_learned
from bayes_pfl.config import ModelConfig, TrainConfig
from bayes_pfl.errors import CheckpointError
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.support.files import raising_not_written, remove_leftovers, write_atomically
from bayes_pfl.support.typed_json import read_json_config
from bayes_pfl.train.first_weights import STRUCTURE, check_same_beginning
from bayes_pfl.train.length import check_length
from bayes_pfl.train.state import TrainingState

STATE_NAME, SETTINGS_NAME = "state.pt", "config.json"


class RunFiles:
    """Reads and writes one run folder.

    Raises:
        CheckpointError: the folder cannot be written.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        with raising_not_written(out, "choose another --out", CheckpointError):
            out.mkdir(parents=True, exist_ok=True)
        self._begun = (out / SETTINGS_NAME).is_file()
        remove_leftovers(out, out / "best", out / "last")

    def save_epoch(
        self, model: BayesPFLNetwork, state: TrainingState, extra: dict[str, Any], *, best: bool
    ) -> None:
        """Write the state, the checkpoints and metrics.csv after an epoch.

        Each file is replaced whole or not at all. The state is written first, because a resumed
        run makes the others again from it alone.

        Args:
            extra: the states of "optimizer", "schedule" and "precision".
            best: whether this epoch is the best of its stage.

        Raises:
            CheckpointError: a file cannot be written.
        """
        data = {
            "state": asdict(state),
            "model": model.learned_state_dict(),
            **extra,
        }
        buffer = io.BytesIO()
        torch.save(data, buffer)
        with self._keeping_epoch_before():
            (self.out / "last").mkdir(exist_ok=True)
            write_atomically(self.out / "last" / STATE_NAME, buffer.getvalue())
        self.save_results(model, state, best=best)

    def save_results(self, model: BayesPFLNetwork, state: TrainingState, *, best: bool) -> None:
        """Write the checkpoints and metrics.csv; the model must be the one saved with ``state``."""
        if best:
            save_checkpoint(model, self.out / "best")
        save_checkpoint(model, self.out / "last")
        with self._keeping_epoch_before():
            write_atomically(self.out / "metrics.csv", _csv(state.history))

    def _keeping_epoch_before(self) -> AbstractContextManager[None]:
        mend = "the epoch before is intact: make room, then continue with --resume"
        return raising_not_written(self.out, mend, CheckpointError)

    def load_best(self, model: BayesPFLNetwork) -> None:
        """Load the weights and scoring settings of best/ into the model."""
        path = self.out / "best" / WEIGHTS_NAME
        load_learned(model, read_weights(path), path)
        model.update_scoring(**asdict(read_config(self.out / "best").scoring))

    def check_resumable(self, config: ModelConfig, train: TrainConfig) -> None:
        """Check that a run of such a model was started in this folder, and can be so long.

        Raises:
            CheckpointError: there is neither a state nor the settings of a run, or its model was
                made with other options.
            ConfigError: as :func:`check_length`.
        """
        path = self.out / "last" / STATE_NAME
        if not self._begun and not path.is_file():
            raise CheckpointError(
                f"{path}: no state to resume from; give the --out of a "
                "run that was started, or start without --resume"
            )
        if not self._begun:
            return
        settings = read_json_config(self.out / SETTINGS_NAME)
        begun = settings.get("model", {})
        now = json.loads(json.dumps(asdict(config)))  # lists in place of tuples
        for section, name in STRUCTURE.items():
            if begun.get(section, now[section]) != now[section]:
                raise CheckpointError(
                    f"{self.out}: this run was started with another {name}; resume it with the same"
                )
        check_same_beginning(self.out, begun, config)
        if path.is_file():
            state = TrainingState(**self._read_last()["state"])
            check_length(self.out, state, settings.get("train", {}), train)

    def load_last(self, model: BayesPFLNetwork) -> dict[str, Any] | None:
        """Load the weights of the last finished epoch into the model; returns the rest of its file.

        Returns:
            {"state": of :class:`TrainingState`, "optimizer", "schedule", "precision"}, or None if
            the run was stopped in its first epoch.

        Raises:
            CheckpointError: there is no such file, or it is damaged.
        """
        path = self.out / "last" / STATE_NAME
        if self._begun and not path.is_file():
            return None
        data = self._read_last()
        load_learned(model, data.pop("model"), path)
        return data

    def _read_last(self) -> dict[str, Any]:
        path = self.out / "last" / STATE_NAME
        try:
            data: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            return {"model": data["model"], "state": data["state"]} | data
        except Exception as error:  # unpicklers raise many unrelated types
            raise CheckpointError(
                f"{path}: no state to resume from ({type(error).__name__}); give the --out of a "
                "run that finished an epoch, or start without --resume"
            ) from error


def _csv(history: list[dict[str, Any]]) -> str:
    """Rows under the union of their columns, because each stage has its own losses."""
    names = list(dict.fromkeys(name for row in history for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()
