"""From a :class:`BackboneConfig` to a :class:`FrozenCLIP`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from bayes_pfl.clip.build import build_clip, set_activation
from bayes_pfl.clip.frozen_clip import FrozenCLIP
from bayes_pfl.clip.sources import find_source
from bayes_pfl.config import BackboneConfig
from bayes_pfl.errors import BackboneError
from bayes_pfl.support.checksums import check_sha256, file_sha256
from bayes_pfl.support.error_text import one_line


def load_backbone(
    config: BackboneConfig, tokenizer: Any = None
) -> tuple[FrozenCLIP, BackboneConfig]:
    """Build the backbone that ``config`` names.

    Args:
        config: see :class:`BackboneConfig`.
        tokenizer: replaces the one that belongs to the model.

    Returns:
        The backbone, and the config with every default resolved: what a checkpoint should keep.

    Raises:
        BackboneError: unknown name, missing or wrong weights, unusable settings.
    """
    source = find_source(config)
    digest = file_sha256(source.weights) if source.weights else None
    if config.sha256 and source.weights:
        said, mend = "the checkpoint was trained on", "get the original weights file"
        check_sha256(source.weights, config.sha256, said, mend, BackboneError)
    size = config.image_size or source.native_size
    # Initial weights leave the caller's generator alone.
    with torch.random.fork_rng(devices=[]):
        label = str(source.weights or "this architecture")
        clip = build_clip(source.model_cfg, source.state, size, label)
    activation = config.activation
    if activation == "auto":
        activation = "quick_gelu" if source.quick_gelu else "gelu"
    set_activation(clip, activation)
    backbone = FrozenCLIP(
        clip,
        tokenizer or _tokenizer(source.tokenizer_name),
        image_size=size,
        layers=config.layers,
        grid=config.grid,
        joined=config.joined,
        mean=source.mean,
        std=source.std,
        sha256=digest,
    )
    resolved = replace(
        config, image_size=size, layers=backbone.layers, activation=activation, sha256=digest
    )
    return backbone, resolved


def _tokenizer(name: str) -> Any:
    import open_clip

    try:
        return open_clip.get_tokenizer(name)
    except Exception as error:  # transformers and hub clients raise many unrelated types
        raise BackboneError(
            f"no tokenizer for {name} ({one_line(error, 160)}); it may need `pip install "
            "transformers sentencepiece` and a network, or its files in the hub's cache"
        ) from error
