"""Checkpoints: a folder with config.json and model.safetensors. Nothing in them is executed."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from bayes_pfl.clip.load import load_backbone
from bayes_pfl.config import BackboneConfig, ModelConfig, from_dict
from bayes_pfl.errors import CheckpointError
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.support.checksums import check_embedded
from bayes_pfl.support.files import write_atomically
from bayes_pfl.support.parsing import MAX_CONFIG, one_line, read_json, short
from bayes_pfl.support.resources import resource_dir
from bayes_pfl.support.version import __version__

Network = TypeVar("Network", bound=BayesPFLNetwork)

CONFIG_NAME, WEIGHTS_NAME = "config.json", "model.safetensors"
FORMAT_VERSION = 1
DEFAULT_CHECKPOINT = "bayes-pfl-tiny"
_LONGEST = 4000  # bytes of a path
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_IN_RUNS = ("", "best", "checkpoints/best", "last", "checkpoints/last")


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
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / WEIGHTS_NAME, save(tensors))
        write_atomically(folder / CONFIG_NAME, (json.dumps(config, indent=2) + "\n").encode())
    except OSError as error:
        raise CheckpointError(
            f"{folder}: checkpoint not written ({error.strerror or error}); "
            "choose a folder that can be written, on a disk with room"
        ) from error
    return folder


def load_checkpoint(
    name_or_path: str | Path,
    *,
    device: str | None = None,
    pretrained: str | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
    token: str | None = None,
    image_size: int | None = None,
    grid: int | None = None,
    model_class: type[Network] = BayesPFLNetwork,  # type: ignore[assignment]
) -> Network:
    """Load a model, ready for inference.

    Args:
        name_or_path: an embedded name (``bayes-pfl-tiny``), a checkpoint folder or the
            model.safetensors in one, a run folder of training (its best checkpoint), or a hub
            repository ``org/name`` or ``org/name@revision``.
        device: "cpu", "cuda", "mps", ...; None for the best at hand.
        pretrained: where the backbone's weights lie now, if not where the config says.
        revision: of a hub repository: branch, tag or commit hash, as ``@revision``.
        local_files_only: take a hub repository from the cache alone.
        token: of the hub; None for the one of `hf auth login` or HF_TOKEN.
        image_size: side of the input, in pixels; None for the checkpoint's.
        grid: tokens along a side, for towers in stages; None for the checkpoint's.
        model_class: the class to build, the network or a subclass of it.

    Raises:
        CheckpointError: not found, not to be fetched, damaged, or made for another backbone.
        BackboneError: its backbone cannot be had.
    """
    folder = find_checkpoint(
        name_or_path, revision=revision, local_files_only=local_files_only, token=token
    )
    config = read_config(folder)
    if pretrained is not None:
        config = replace(config, backbone=_relocated(config.backbone, pretrained))
    sizes = {"image_size": image_size, "grid": grid}
    chosen = {name: size for name, size in sizes.items() if size is not None}
    config = replace(config, backbone=replace(config.backbone, **chosen))
    state = read_weights(folder / WEIGHTS_NAME)
    with torch.random.fork_rng(devices=[]):  # first weights are random: not from the caller's state
        model = build_model(config, model_class=model_class)
    load_learned(model, state, folder / WEIGHTS_NAME)
    return model.to(device or best_device()).eval()


def _relocated(backbone: BackboneConfig, pretrained: str) -> BackboneConfig:
    """The same backbone with its weights at ``pretrained``: a tag, a file, or a whole folder."""
    if Path(pretrained).is_dir():
        return replace(backbone, name=f"local-dir:{pretrained}")
    if Path(backbone.name).suffix in (".pt", ".pth", ".bin", ".safetensors"):
        return replace(backbone, name=pretrained)
    return replace(backbone, pretrained=pretrained)


def build_model(
    config: ModelConfig,
    tokenizer: Any = None,
    model_class: type[Network] = BayesPFLNetwork,  # type: ignore[assignment]
) -> Network:
    """A new model around the backbone that ``config`` names; its config has defaults resolved."""
    backbone, resolved = load_backbone(config.backbone, tokenizer)
    return model_class(replace(config, backbone=resolved), backbone)


def untrained_model(backbone: BackboneConfig, device: str | None = None) -> BayesPFLNetwork:
    """A backbone with a head of random weights, in eval mode; the same weights every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(ModelConfig(backbone=backbone))
    return model.to(device or best_device()).eval()


def best_device() -> str:
    """ "cuda", else "mps", else "cpu"."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def find_checkpoint(
    name_or_path: str | Path,
    *,
    revision: str | None = None,
    local_files_only: bool = False,
    token: str | None = None,
) -> Path:
    """The folder that holds config.json and model.safetensors; arguments as above."""
    text, path = str(name_or_path), Path(name_or_path)
    embedded = resource_dir("checkpoints")
    if re.fullmatch(r"[\w.-]{1,100}", text) and (embedded / text / WEIGHTS_NAME).is_file():
        for name in (CONFIG_NAME, WEIGHTS_NAME):
            check_embedded(embedded / text / name, CheckpointError)
        return embedded / text
    if len(os.fsencode(text)) > _LONGEST or "\0" in text:
        raise CheckpointError(f"checkpoint {short(text)} is no path: give a shorter one")
    if path.is_file():
        return _folder_of_file(path)
    for part in _IN_RUNS:
        if (path / part / CONFIG_NAME).is_file() and (path / part / WEIGHTS_NAME).is_file():
            return path / part
    if not path.exists() and _REPOSITORY.fullmatch(text) and text[0] not in "./":
        from bayes_pfl.checkpoints.hub import fetch_checkpoint

        return fetch_checkpoint(text, revision, local_files_only, token)
    names = sorted(p.parent.name for p in embedded.glob(f"*/{WEIGHTS_NAME}"))
    raise CheckpointError(
        f"checkpoint {text!r} not found: give a folder with {CONFIG_NAME} and {WEIGHTS_NAME}, a "
        f"run folder of training, a hub repository org/name, or an embedded one "
        f"({', '.join(names) or 'none here'})"
    )


def _folder_of_file(path: Path) -> Path:
    if path.suffix in (".pth", ".pt", ".ckpt", ".bin"):
        raise CheckpointError(
            f"{path}: a pickle, not a checkpoint of this package; convert the authors' files once "
            f"with: bayes-pfl convert {path.name} --backbone ViT-L-14-336 --out FOLDER"
        )
    if path.name != WEIGHTS_NAME or not (path.parent / CONFIG_NAME).is_file():
        raise CheckpointError(
            f"{path}: not a checkpoint; {WEIGHTS_NAME} with {CONFIG_NAME} beside it is wanted"
        )
    return path.parent


def read_config(folder: Path) -> ModelConfig:
    """The model config of a checkpoint folder."""
    path = folder / CONFIG_NAME
    try:
        data = read_json(path, MAX_CONFIG)
        version, model = data["format_version"], data["model"]
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
    return from_dict(ModelConfig, model, str(path))


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file, on the CPU."""
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


def load_learned(model: BayesPFLNetwork, state: dict[str, Tensor], source: Path) -> None:
    """Put a checkpoint's tensors into the model; every name and shape must fit.

    Raises:
        CheckpointError: naming the first faults of each kind.
    """
    own = model.learned_state_dict()
    reshaped = {k for k in own.keys() & state.keys() if own[k].shape != state[k].shape}
    faults = [
        f"{label} {', '.join(sorted(names)[:3])}{' ...' if len(names) > 3 else ''}"
        for label, names in (
            ("missing", own.keys() - state.keys()),
            ("unknown", state.keys() - own.keys()),
            ("other shape:", reshaped),
        )
        if names
    ]
    if faults:
        raise CheckpointError(
            f"{source}: does not fit backbone {model.config.backbone.name} ({'; '.join(faults)}); "
            "it was made for another backbone or other sizes"
        )
    kinds = {name: value.dtype for name, value in state.items() if value.dtype not in _FLOATS}
    if kinds:
        name, kind = next(iter(kinds.items()))
        raise CheckpointError(
            f"{source}: {name} holds {str(kind).removeprefix('torch.')}; "
            "floating-point weights are wanted"
        )
    bad = [name for name, value in state.items() if not torch.isfinite(value).all()]
    if bad:
        raise CheckpointError(f"{source}: {bad[0]} holds NaN or infinity; train or copy it again")
    model.load_state_dict(state, strict=False)
