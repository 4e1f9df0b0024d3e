"""From a :class:`BackboneConfig` to a :class:`FrozenCLIP`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bayes_pfl.clip.build import set_activation
from bayes_pfl.clip.frozen_clip import FrozenCLIP
from bayes_pfl.clip.openai_format import model_cfg_of, without_marks
from bayes_pfl.clip.sources import Source, find_source
from bayes_pfl.config import Activation, BackboneConfig
from bayes_pfl.errors import BackboneError
from bayes_pfl.support.checksums import file_sha256


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
    if config.sha256 and digest and config.sha256 != digest:
        raise BackboneError(
            f"{source.weights}: SHA-256 is {digest[:12]}..., the checkpoint was trained on "
            f"{config.sha256[:12]}...: get the original weights file"
        )
    size = config.image_size or source.native_size
    # Initial weights leave the caller's generator alone.
    with torch.random.fork_rng(devices=[]):
        clip = source.build(size)
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


def from_state_dict(
    state: dict[str, Tensor],
    *,
    image_size: int,
    activation: Activation,
    layers: tuple[int, ...] | None = None,
    heads: tuple[int | None, int | None] = (None, None),
    tokenizer: Any = None,
) -> FrozenCLIP:
    """A backbone from tensors in OpenAI's naming that are already in memory.

    Args:
        heads: of the vision and of the text tower, where they are not 64 wide.
    """
    state = without_marks(state)
    source = Source(model_cfg_of(state, *heads), "ViT-B-32", state=state)
    clip = source.build(image_size)
    set_activation(clip, activation)
    tokenizer = tokenizer or _tokenizer(source.tokenizer_name)
    return FrozenCLIP(clip, tokenizer, image_size=image_size, layers=layers)


def _tokenizer(name: str) -> Any:
    import open_clip

    try:
        return open_clip.get_tokenizer(name)
    except Exception as error:  # transformers and hub clients raise many unrelated types
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else repr(error)
        raise BackboneError(
            f"no tokenizer for {name} ({reason}); it may need `pip install transformers "
            "sentencepiece` and a network, or its files in the hub's cache"
        ) from error
