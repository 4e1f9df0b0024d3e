"""From a :class:`BackboneConfig` to a :class:`FrozenCLIP`: names, folders, files, activations."""

from __future__ import annotations

import difflib
import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bayes_pfl.clip.build import build_clip, set_activation
from bayes_pfl.clip.frozen_clip import OPENAI_MEAN, OPENAI_STD, FrozenCLIP
from bayes_pfl.clip.open_clip_config import check_sizes, read_clip_config
from bayes_pfl.clip.openai_format import is_openai_format, model_cfg_of, without_marks
from bayes_pfl.clip.weights import (
    EMBEDDED_BACKBONE,
    HUB_CONFIG,
    hub_folder,
    is_file,
    read_state_dict,
    tagged_weights,
    weights_in,
)
from bayes_pfl.config import MAX_IMAGE_SIZE, Activation, BackboneConfig
from bayes_pfl.errors import BackboneError
from bayes_pfl.support.checksums import check_embedded, file_sha256
from bayes_pfl.support.parsing import short
from bayes_pfl.support.resources import resource_dir

logger = logging.getLogger(__name__)


@dataclass
class _Source:
    """Where an architecture and its weights were found."""

    model_cfg: dict[str, Any]
    tokenizer_name: str
    weights: Path | None = None
    state: dict[str, Tensor] = field(default_factory=dict)
    quick_gelu: bool = False
    mean: tuple[float, ...] = OPENAI_MEAN
    std: tuple[float, ...] = OPENAI_STD

    def build(self, size: int) -> nn.Module:
        """The model at ``size`` pixels."""
        label = str(self.weights or "this architecture")
        return build_clip(self.model_cfg, self.state, size, label)


def load_backbone(
    config: BackboneConfig, tokenizer: Any = None
) -> tuple[FrozenCLIP, BackboneConfig]:
    """Build the backbone that ``config`` names.

    Args:
        config: see :class:`BackboneConfig`.
        tokenizer: in place of the one that belongs to the model.

    Returns:
        The backbone, and the config with every default resolved: what a checkpoint should keep.

    Raises:
        BackboneError: unknown name, missing or wrong weights, unusable settings.
    """
    source = _find(config)
    digest = file_sha256(source.weights) if source.weights else None
    if config.sha256 and digest and config.sha256 != digest:
        raise BackboneError(
            f"{source.weights}: SHA-256 is {digest[:12]}..., the checkpoint was trained on "
            f"{config.sha256[:12]}...: get the original weights file"
        )
    size = config.image_size or _native_size(source.model_cfg)
    # Towers fill themselves at random before the weights come: not from the caller's generator.
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
    source = _Source(model_cfg_of(state, *heads), "ViT-B-32", state=state)
    clip = source.build(image_size)
    set_activation(clip, activation)
    tokenizer = tokenizer or _tokenizer(source.tokenizer_name)
    return FrozenCLIP(clip, tokenizer, image_size=image_size, layers=layers)


def _find(config: BackboneConfig) -> _Source:
    name = config.name
    if name == EMBEDDED_BACKBONE:
        folder = resource_dir("checkpoints") / EMBEDDED_BACKBONE
        for file in (folder / HUB_CONFIG, weights_in(folder)):
            if file is not None:
                check_embedded(file, BackboneError)
        name = f"local-dir:{folder}"
    if name.startswith("local-dir:"):
        return _find_folder(Path(name.removeprefix("local-dir:")), config.random_weights)
    if name.startswith("hf-hub:"):
        return _find_folder(hub_folder(name.removeprefix("hf-hub:")))
    if is_file(name):
        state = read_state_dict(Path(name))
        return _openai_source(Path(name), state)
    return _find_builtin(replace(config, name=name.replace("/", "-")))


def _openai_source(path: Path, state: dict[str, Tensor]) -> _Source:
    state = without_marks(state)
    return _Source(model_cfg_of(state), "ViT-B-32", path, state, quick_gelu=True)


def _find_folder(folder: Path, random_weights: bool = False) -> _Source:
    model_cfg, mean, std = read_clip_config(folder)
    weights = weights_in(folder)
    if weights is None and not random_weights:
        raise BackboneError(f"{folder}: no weights; put open_clip_model.safetensors there")
    state = read_state_dict(weights) if weights else {}
    check_sizes(folder, model_cfg, state)
    quick_gelu = bool(model_cfg.get("quick_gelu", False))
    return _Source(model_cfg, f"local-dir:{folder}", weights, state, quick_gelu, mean, std)


def _find_builtin(config: BackboneConfig) -> _Source:
    import open_clip

    model_cfg = open_clip.get_model_config(config.name)
    if model_cfg is None:
        near = difflib.get_close_matches(config.name, open_clip.list_models(), 3, cutoff=0.4)
        raise BackboneError(
            f"backbone {config.name!r} is unknown; use an open_clip name (near: "
            f"{', '.join(near) or 'none'}), local-dir:FOLDER, hf-hub:org/name, a file in OpenAI's "
            f"format, or {EMBEDDED_BACKBONE}"
        )
    source = _Source(model_cfg, config.name, quick_gelu=bool(model_cfg.get("quick_gelu", False)))
    if config.pretrained is None:
        if not config.random_weights:
            raise BackboneError(
                f"backbone {config.name} needs weights: pass --pretrained TAG (such as openai) or "
                f"--pretrained FILE; offline, --backbone {EMBEDDED_BACKBONE} needs none"
            )
        return source
    if is_file(config.pretrained):
        source.weights = Path(config.pretrained)
        settings = _file_settings(config)
    else:
        source.weights, settings = tagged_weights(config.name, config.pretrained)
    source.mean = tuple(settings.get("mean", source.mean))
    source.std = tuple(settings.get("std", source.std))
    source.quick_gelu = bool(settings.get("quick_gelu", source.quick_gelu))
    source.state = read_state_dict(source.weights)
    if is_openai_format(source.state):
        source.state, source.quick_gelu = without_marks(source.state), True
    return source


def _file_settings(config: BackboneConfig) -> dict[str, Any]:
    """Mean, std and activation, which a file does not tell, from the published weights."""
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    tags = list_pretrained_tags_by_model(config.name)
    published = [get_pretrained_cfg(config.name, tag) for tag in tags]
    settings = dict(published[0]) if published else {}
    if len({bool(cfg.get("quick_gelu")) for cfg in published}) > 1:
        settings.pop("quick_gelu", None)
        if config.activation == "auto":
            logger.warning(
                "%s: published weights of %s differ in their activation; set it to quick_gelu if "
                "these are from OpenAI, MetaCLIP or DFN",
                config.pretrained,
                config.name,
            )
    return settings


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


def _native_size(model_cfg: dict[str, Any]) -> int:
    size = model_cfg["vision_cfg"].get("image_size", 224)
    side = size[0] if isinstance(size, list | tuple) and size else size
    if not isinstance(side, int) or not 0 < side <= MAX_IMAGE_SIZE:
        raise BackboneError(f"image_size {short(size)} is none: 1 to {MAX_IMAGE_SIZE} pixels")
    return side
