"""The files of a checkpoint: config.json and model.safetensors. Nothing in them is executed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from bayes_pfl.config import ModelConfig
from bayes_pfl.errors import CheckpointError
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.support.error_text import one_line
from bayes_pfl.support.files import raising_not_written, write_atomically
from bayes_pfl.support.parsing import MAX_CONFIG, read_json, short
from bayes_pfl.support.typed_json import from_dict
from bayes_pfl.support.version import __version__

CONFIG_NAME, WEIGHTS_NAME = "config.json", "model.safetensors"
FORMAT_VERSION = 1
CHECKSUM = "weights_sha256"
"""Entry of config.json with the SHA-256 of the weights, in checkpoints that were pushed."""


def is_checkpoint(folder: Path) -> bool:
    """Whether both files are in ``folder``."""
    return (folder / CONFIG_NAME).is_file() and (folder / WEIGHTS_NAME).is_file()


def save_checkpoint(model: BayesPFLNetwork, folder: str | Path) -> Path:
    """Write the learnt weights and the config; each file is replaced whole or not at all.

    Raises:
        CheckpointError: the folder cannot be written.
    """
    from safetensors.torch import save

    folder = Path(folder)
    tensors = {k: v.cpu().contiguous() for k, v in model.learned_state_dict().items()}
    config = {
        "format_version": FORMAT_VERSION,
        "bayes_pfl_version": __version__,
        "model": asdict(model.config),
    }
    remedy = "choose a folder that can be written, on a disk with room"
    with raising_not_written(folder, remedy, CheckpointError):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / WEIGHTS_NAME, save(tensors))
        write_atomically(folder / CONFIG_NAME, json.dumps(config, indent=2) + "\n")
    return folder


def read_config(folder: Path) -> ModelConfig:
    """The model config of a checkpoint folder.

    Raises:
        CheckpointError: config.json is missing, damaged, or of another format.
        ConfigError: naming every entry that cannot be used.
    """
    return from_dict(ModelConfig, read_raw_config(folder)["model"], str(folder / CONFIG_NAME))


def read_raw_config(folder: Path) -> dict[str, Any]:
    """All entries of config.json, "model" and "format_version" among them.

    Raises:
        CheckpointError: as :func:`read_config`.
    """
    path = folder / CONFIG_NAME
    try:
        data: dict[str, Any] = read_json(path, MAX_CONFIG)
        version, _ = data["format_version"], data["model"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: not a checkpoint config of this package ({one_line(error)}); "
            "see that the folder came whole from training or from `bayes-pfl convert`"
        ) from error
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format {short(version)}, this version reads {FORMAT_VERSION}; "
            "upgrade bayes-pfl"
        )
    return data


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file, on the CPU.

    Raises:
        CheckpointError: the file is missing, or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path}: not there; a checkpoint folder holds {CONFIG_NAME} and {WEIGHTS_NAME}"
        ) from error
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"{path}: truncated or not safetensors ({str(error)[:120]}); copy or train it again"
        ) from error
