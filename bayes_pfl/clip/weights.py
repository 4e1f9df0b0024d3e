"""Files of CLIP weights: which of a folder is read, and its tensors without running anything."""

from __future__ import annotations

import re
from os.path import isfile
from pathlib import Path

import torch
from torch import Tensor

from bayes_pfl.clip.torchscript import check_archive, is_torchscript, read_torchscript
from bayes_pfl.errors import BackboneError, BayesPFLError, ConfigError
from bayes_pfl.support.parsing import short

EMBEDDED_BACKBONE = "bayes-pfl-clip-tiny"
CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)
"""Names in open_clip's folders and repositories, the preferred first."""


def brings_weights(name: str) -> bool:
    """Whether a backbone's name says where its weights are, so that ``pretrained`` is not used."""
    return name == EMBEDDED_BACKBONE or name.startswith(("local-dir:", "hf-hub:")) or isfile(name)


def refuse_unused(name: str, pretrained: str | None) -> None:
    """Raise ConfigError for weights that a user names for a backbone that brings its own."""
    if pretrained is not None and brings_weights(name):
        raise ConfigError(
            f"pretrained = {short(pretrained)}: backbone {name} brings its weights; leave it out, "
            "or give the folder of an open_clip model in its place"
        )


def weights_in(folder: Path) -> Path | None:
    """The weights file of an open_clip folder, safetensors before pickles; or None."""
    named = [folder / name for name in WEIGHTS_FILES]
    others = sorted(folder.glob("*.safetensors")) + sorted(folder.glob("*.bin"))
    return next((path for path in [*named, *others] if path.is_file()), None)


def load_reason(error: Exception) -> str:
    """Why a file did not load, in one line, without torch's advice to load it unsafely."""
    text = str(error).rpartition("WeightsUnpickler error:")[2]
    if forbidden := re.search(r"GLOBAL (\S+)", text):
        return f"a pickle that would run {forbidden[1]}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0][:160] if lines else type(error).__name__


def checked_tensors(
    state: object, path: Path, otherwise: str, kind: type[BayesPFLError]
) -> dict[str, Tensor]:
    """``state``, which came from the file ``path``, if it maps names to tensors and nothing else.

    Raises:
        kind: with ``otherwise`` for other content; or naming the first tensor that repeats its
            stored values by its strides. A few bytes can claim any size in this way, and would fill
            the memory when they are copied.
    """
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise kind(f"{path}: {otherwise}")
    for name, value in state.items():
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise kind(f"{path}: tensor {short(name)} claims more values than the file holds")
    return state


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors of a weights file: safetensors, a plain state dict, or OpenAI's TorchScript archive.

    Nothing in the file is run: pickles are read with ``weights_only``, TorchScript archives by
    :mod:`bayes_pfl.clip.torchscript`.

    Raises:
        BackboneError: the file is damaged, or a pickle that carries code.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        check_archive(path)
        if is_torchscript(path):
            return read_torchscript(path)
        data = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpicklers and archive readers raise many unrelated types
        raise BackboneError(
            f"{path}: not a usable weights file ({load_reason(error)}); fetch it again, and see "
            "that it is safetensors, a plain state dict, or OpenAI's TorchScript archive"
        ) from error
    state = data.get("state_dict", data) if isinstance(data, dict) else None
    otherwise = "holds no state dict of tensors; save the weights alone"
    state = checked_tensors(state, path, otherwise, BackboneError)
    return {key.removeprefix("module."): value for key, value in state.items()}
