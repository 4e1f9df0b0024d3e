"""A folder that open_clip loads by itself: config and float16 weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from bayes_pfl.support.files import write_atomically
from pretraining.architecture import model_cfg
from pretraining.config import PretrainConfig
from pretraining.lite_weights import MEAN, STD

CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "open_clip_model.safetensors"


def export_clip(clip: Any, config: PretrainConfig, folder: Path) -> Path:
    """Write config and weights of ``clip`` to ``folder``, and return the weights file."""
    folder.mkdir(parents=True, exist_ok=True)
    preprocess = {
        "mean": list(MEAN),
        "std": list(STD),
        "interpolation": "bicubic",
        "resize_mode": "squash",
    }
    settings = {"model_cfg": model_cfg(config), "preprocess_cfg": preprocess}
    write_atomically(folder / CONFIG_FILE, json.dumps(settings, indent=2) + "\n")
    tensors = {name: compact(value) for name, value in clip.state_dict().items()}
    return write_atomically(folder / WEIGHTS_FILE, save(tensors, metadata={"format": "pt"}))


def compact(tensor: Tensor) -> Tensor:
    """Matrices and kernels in float16; vectors as they are.

    Vectors are biases, norms and batch norm's statistics: few bytes, and some variances lie
    below what float16 can hold.
    """
    half = tensor.is_floating_point() and tensor.ndim >= 2
    return (tensor.to(torch.float16) if half else tensor).detach().contiguous().cpu()
