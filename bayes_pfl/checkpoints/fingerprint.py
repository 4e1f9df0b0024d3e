"""A model's fingerprint: the hash of all weights and settings that a score depends on."""

from __future__ import annotations

import hashlib
import json
import weakref
from dataclasses import asdict
from typing import Any

import torch

from bayes_pfl.model.network import BayesPFLNetwork

_known: weakref.WeakKeyDictionary[BayesPFLNetwork, tuple[tuple[Any, ...], str]] = (
    weakref.WeakKeyDictionary()
)


def known_fingerprint(model: BayesPFLNetwork) -> str:
    """As :func:`fingerprint`, computed again only after PyTorch has counted a change of a weight.

    For checks in every call of predict. Edits through ``weight.data`` are not counted.
    """
    tensors = model.state_dict(keep_vars=True).values()
    state = (model.config, *((tensor.data_ptr(), tensor._version) for tensor in tensors))
    if model not in _known or _known[model][0] != state:
        _known[model] = (state, fingerprint(model))
    return _known[model][1]


def fingerprint(model: BayesPFLNetwork) -> str:
    """SHA-256 of all weights, the backbone's included, and of the settings that change a score."""
    config = asdict(model.config)
    keys = ("image_size", "layers", "activation", "grid", "joined")
    backbone = {key: config["backbone"][key] for key in keys}
    shape = [config["scoring"], backbone, config["ablation"]]
    digest = hashlib.sha256(json.dumps(shape, sort_keys=True).encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        plain = value.detach().cpu().contiguous()
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
