"""A training that begins with the weights of a checkpoint: ``--init``.

The checkpoint's backbone and model settings are taken over. What shapes a weight, or what a weight
means, must not be another; the size of the input and the place of the backbone's files may.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bayes_pfl.checkpoints.format import WEIGHTS_NAME, read_config, read_weights
from bayes_pfl.checkpoints.load import find_checkpoint, load_learned
from bayes_pfl.config import FirstWeights, ModelConfig, TrainingRecord
from bayes_pfl.errors import CheckpointError, ConfigError
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.support.checksums import file_sha256

STRUCTURE = {
    "prompts": "prompt bank",
    "flow": "--flow",
    "attention_heads": "number of attention heads",
    "ablation": "--without",
}
"""Sections of a model's config that its weights belong to, with their names for the user."""

_BACKBONE = {"name": "--backbone", "layers": "--layers", "joined": "--join-layers"}


@dataclass(frozen=True)
class InitialCheckpoint:
    """A checkpoint to begin with.

    Attributes:
        name: as it was given.
        folder: with its two files.
        config: of its model.
    """

    name: str
    folder: Path
    config: ModelConfig

    def check(self, config: ModelConfig) -> None:
        """Refuse a model that these weights do not belong to.

        Raises:
            ConfigError: it names the value of both.
        """
        theirs, ours = _compared(self.config), _compared(config)
        for option, value in ours.items():
            if value is not None and value != theirs[option]:
                raise ConfigError(
                    f"{option}: {value} here, but {self.name} was trained with {theirs[option]}; "
                    "leave it out to take that over, or train without --init"
                )

    def record(self, own: TrainingRecord) -> TrainingRecord:
        """The record of a training that begins here: what these weights learnt from, and more."""
        before = self.config.training or TrainingRecord(own.split, ())
        return replace(
            own,
            trained=tuple(sorted({*before.trained, *own.trained})),
            validated=tuple(sorted({*before.validated, *own.validated})),
            began_with=FirstWeights(self.name, file_sha256(self.folder / WEIGHTS_NAME)),
        )

    def load_into(self, model: BayesPFLNetwork) -> None:
        """Put the weights into a model.

        Raises:
            CheckpointError: they are damaged, or do not fit.
        """
        path = self.folder / WEIGHTS_NAME
        load_learned(model, read_weights(path), path)


def find_initial(name: str | Path) -> InitialCheckpoint:
    """The checkpoint of a name, folder, weights file or hub repository.

    Raises:
        CheckpointError, ConfigError: not found, not to be fetched, or damaged.
    """
    folder = find_checkpoint(name)
    return InitialCheckpoint(str(name), folder, read_config(folder))


def check_same_beginning(out: Path, begun: dict[str, Any], config: ModelConfig) -> None:
    """Refuse to resume a run with other first weights than it was started with.

    Args:
        out: run folder.
        begun: the model's config when the run was started, as JSON gives it.

    Raises:
        CheckpointError: it says what to give.
    """
    before = (begun.get("training") or {}).get("began_with") or {}
    now = config.training.began_with if config.training else None
    if before.get("sha256") == (now.sha256 if now else None):
        return
    if not before:
        raise CheckpointError(
            f"{out}: this run was started without --init; leave --init out to resume it"
        )
    given = f"--init {now.checkpoint} holds other weights" if now else "--init is missing"
    raise CheckpointError(
        f"{out}: this run began with {before['checkpoint']} (SHA-256 {before['sha256'][:12]}...), "
        f"but {given}; resume it with --init and that checkpoint"
    )


def _compared(config: ModelConfig) -> dict[str, Any]:
    """What weights belong to, by the name of the option."""
    backbone, sections = asdict(config.backbone), asdict(config)
    found = {option: backbone[key] for key, option in _BACKBONE.items()}
    return found | {option: sections[key] for key, option in STRUCTURE.items()}
