"""From the name of a checkpoint to a model that is ready for inference."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bayes_pfl.checkpoints.format import (
    CONFIG_NAME,
    WEIGHTS_NAME,
    is_checkpoint,
    read_config,
    read_weights,
)
from bayes_pfl.checkpoints.hub import fetch_checkpoint
from bayes_pfl.clip.load import load_backbone
from bayes_pfl.clip.weights import refuse_unused
from bayes_pfl.config import BackboneConfig, ModelConfig
from bayes_pfl.errors import CheckpointError, ConfigError
from bayes_pfl.model.cost import scoring_bytes
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.support.checksums import check_embedded
from bayes_pfl.support.memory import GIB, check_memory
from bayes_pfl.support.parsing import short
from bayes_pfl.support.resources import resource_dir

DEFAULT_CHECKPOINT = "bayes-pfl-tiny"
_MOST = 4 * GIB
_LONGEST = 4000  # bytes of a path
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_IN_RUNS = ("", "best", "checkpoints/best", "last", "checkpoints/last")


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
    model_class: type[BayesPFLNetwork] = BayesPFLNetwork,
) -> BayesPFLNetwork:
    """Load a model, ready for inference.

    Args:
        name_or_path: an embedded name (``bayes-pfl-tiny``), a checkpoint folder or the
            model.safetensors in one, a run folder of training (its best checkpoint), or a hub
            repository ``org/name`` or ``org/name@revision``.
        device: "cpu", "cuda", "cuda:1", "mps", ...; None for the best available.
        pretrained: where the backbone's weights are now, if not where the config says.
        revision: of a hub repository: branch, tag or commit hash, as ``@revision``.
        local_files_only: take a hub repository from the cache alone.
        token: of the hub; None for the one of `hf auth login` or HF_TOKEN.
        image_size: side of the input, in pixels; None for the checkpoint's.
        grid: tokens along a side, for towers in stages; None for the checkpoint's.
        model_class: the class to build, the network or a subclass of it.

    Raises:
        ConfigError: no such device here, ``pretrained`` for a backbone that brings its weights, or
            a config that would fill the memory: more than 4 GiB for random weights, or one image.
        CheckpointError: not found, not to be fetched, damaged, or made for another backbone.
        BackboneError: its backbone cannot be loaded.
    """
    place = find_device(device)
    folder = find_checkpoint(
        name_or_path, revision=revision, local_files_only=local_files_only, token=token
    )
    config = read_config(folder)
    backbone = config.backbone if pretrained is None else _relocated(config.backbone, pretrained)
    sizes = {"image_size": image_size, "grid": grid}
    chosen: dict[str, Any] = {name: size for name, size in sizes.items() if size is not None}
    config = replace(config, backbone=replace(backbone, **chosen))
    state = read_weights(folder / WEIGHTS_NAME)
    with torch.random.fork_rng(devices=[]):  # initial weights leave the caller's generator alone
        tower, resolved = load_backbone(config.backbone, most=_MOST)
        config = replace(config, backbone=resolved)
        with torch.device("meta"):  # sizes that the weights do not have are refused without memory
            _check_names(model_class(config, tower), state, folder / WEIGHTS_NAME)
        costs = scoring_bytes(config, tower, config.scoring.samples)
        check_memory(f"{folder / CONFIG_NAME}: scoring an image", costs, _MOST)
        model = model_class(config, tower)
    load_learned(model, state, folder / WEIGHTS_NAME)
    return model.to(place).eval()


def _relocated(backbone: BackboneConfig, pretrained: str) -> BackboneConfig:
    """The same backbone with its weights at ``pretrained``: a tag, a file, or a whole folder."""
    if Path(pretrained).is_dir():
        return replace(backbone, name=f"local-dir:{pretrained}")
    if Path(backbone.name).suffix in (".pt", ".pth", ".bin", ".safetensors"):
        return replace(backbone, name=pretrained)
    refuse_unused(backbone.name, pretrained)
    return replace(backbone, pretrained=pretrained)


def build_model(
    config: ModelConfig, model_class: type[BayesPFLNetwork] = BayesPFLNetwork
) -> BayesPFLNetwork:
    """A new model around the backbone that ``config`` names; its config has defaults resolved."""
    backbone, resolved = load_backbone(config.backbone)
    return model_class(replace(config, backbone=resolved), backbone)


def untrained_model(backbone: BackboneConfig, device: str | None = None) -> BayesPFLNetwork:
    """A backbone with a head of random weights, in eval mode; the same weights every time."""
    place = find_device(device)
    refuse_unused(backbone.name, backbone.pretrained)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(ModelConfig(backbone=backbone))
    return model.to(place).eval()


def find_device(name: str | None = None) -> torch.device:
    """The device of a name; for None "cuda", else "mps", else "cpu".

    Raises:
        ConfigError: torch knows no such device, or there is none here.
    """
    here = ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available()
    here.append("cpu")
    device = here[0] if name is None else name
    try:
        torch.zeros(1, device=device).item()  # whether a number comes back from there
        return torch.device(device)
    except Exception as error:  # each kind of device raises types of its own
        numbered = f", cuda:0 to cuda:{torch.cuda.device_count() - 1}" * (here[0] == "cuda")
        raise ConfigError(
            f"device = {short(name)}: there is none here; use {', '.join(here)}{numbered}, or "
            "leave it out for the best of them"
        ) from error


def find_checkpoint(
    name_or_path: str | Path,
    *,
    revision: str | None = None,
    local_files_only: bool = False,
    token: str | None = None,
) -> Path:
    """The folder that holds config.json and model.safetensors.

    Arguments and errors as of :func:`load_checkpoint`.
    """
    text, path = str(name_or_path), Path(name_or_path)
    if folder := _embedded(text):
        return folder
    if len(os.fsencode(text)) > _LONGEST or "\0" in text:
        raise CheckpointError(f"checkpoint {short(text)} is no path: give a shorter one")
    if path.is_file():
        return _folder_of_file(path)
    for part in _IN_RUNS:
        if is_checkpoint(path / part):
            return path / part
    if not path.exists() and _REPOSITORY.fullmatch(text) and text[0] not in "./":
        return fetch_checkpoint(text, revision, local_files_only, token)
    names = sorted(p.parent.name for p in resource_dir("checkpoints").glob(f"*/{WEIGHTS_NAME}"))
    raise CheckpointError(
        f"checkpoint {text!r} not found: give a folder with {CONFIG_NAME} and {WEIGHTS_NAME}, a "
        f"run folder of training, a hub repository org/name, or an embedded one "
        f"({', '.join(names) or 'none here'})"
    )


def _embedded(name: str) -> Path | None:
    """Folder of the embedded checkpoint ``name``, its files verified; None if there is none."""
    if not re.fullmatch(r"[\w.-]{1,100}", name):
        return None
    folder = resource_dir("checkpoints") / name
    if not (folder / WEIGHTS_NAME).is_file():
        return None
    for file in (CONFIG_NAME, WEIGHTS_NAME):
        check_embedded(folder / file, CheckpointError)
    return folder


def _folder_of_file(path: Path) -> Path:
    if path.suffix in (".pth", ".pt", ".ckpt", ".bin"):
        raise CheckpointError(
            f"{path}: a pickle, not a checkpoint of this package; convert the authors' files once "
            f"with: bayes-pfl convert {path.name} --backbone ViT-L-14-336 --out FOLDER"
        )
    if path.name != WEIGHTS_NAME or not is_checkpoint(path.parent):
        raise CheckpointError(
            f"{path}: not a checkpoint; give {WEIGHTS_NAME} in a folder that has {CONFIG_NAME} too"
        )
    return path.parent


def load_learned(model: BayesPFLNetwork, state: dict[str, Tensor], source: Path) -> None:
    """Put a checkpoint's tensors into the model; every name and shape must fit.

    Raises:
        CheckpointError: naming the first faults of each kind.
    """
    _check_names(model, state, source)
    for name, value in state.items():
        if value.dtype not in _FLOATS:
            raise CheckpointError(
                f"{source}: {name} holds {str(value.dtype).removeprefix('torch.')}; "
                "floating-point weights are wanted"
            )
        if not torch.isfinite(value).all():
            raise CheckpointError(f"{source}: {name} holds NaN or infinity; train or copy it again")
    model.load_state_dict(state, strict=False)


def _check_names(model: BayesPFLNetwork, state: dict[str, Tensor], source: Path) -> None:
    own = model.learned_state_dict()
    reshaped = {k for k in own.keys() & state.keys() if own[k].shape != state[k].shape}
    differences = {
        "missing": own.keys() - state.keys(),
        "unknown": state.keys() - own.keys(),
        "other shape:": reshaped,
    }
    faults = [
        f"{kind} {', '.join(sorted(names)[:3])}{' ...' if len(names) > 3 else ''}"
        for kind, names in differences.items()
        if names
    ]
    if faults:
        raise CheckpointError(
            f"{source}: does not fit backbone {model.config.backbone.name} ({'; '.join(faults)}); "
            "it was made for another backbone or other sizes"
        )
