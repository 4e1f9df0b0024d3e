"""From a :class:`BackboneConfig` to its architecture and weights, and to a :class:`FrozenCLIP`."""

from __future__ import annotations

import difflib
import functools
import json
import logging
import math
import os.path
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bayes_pfl.clip.architecture import (
    check_sizes,
    is_openai_format,
    model_cfg_of,
    read_clip_config,
    without_marks,
)
from bayes_pfl.clip.build import build_clip, set_activation
from bayes_pfl.clip.downloads import hub_folder, tagged_weights
from bayes_pfl.clip.frozen_clip import OPENAI_MEAN, OPENAI_STD, FrozenCLIP
from bayes_pfl.clip.weights import (
    CONFIG_FILE,
    EMBEDDED_BACKBONE,
    read_state_dict,
    weights_in,
)
from bayes_pfl.config import MAX_IMAGE_SIZE, BackboneConfig
from bayes_pfl.errors import BackboneError
from bayes_pfl.support.checksums import check_embedded, check_sha256, file_sha256
from bayes_pfl.support.error_text import one_line
from bayes_pfl.support.memory import check_memory
from bayes_pfl.support.parsing import short
from bayes_pfl.support.resources import resource_dir

logger = logging.getLogger(__name__)

_FLOAT = 4  # bytes


def load_backbone(
    config: BackboneConfig, tokenizer: Any = None, most: float = math.inf
) -> tuple[FrozenCLIP, BackboneConfig]:
    """Build the backbone that ``config`` names.

    Args:
        config: see :class:`BackboneConfig`.
        tokenizer: replaces the one that belongs to the model.
        most: bytes that random weights may take, where more is available.

    Returns:
        The backbone, and the config with every default resolved: what a checkpoint should keep.

    Raises:
        BackboneError: unknown name, missing or wrong weights, unusable settings.
        ConfigError: random weights that would fill the memory.
    """
    source = _find_source(config)
    digest = file_sha256(source.weights) if source.weights else None
    if config.sha256 and source.weights:
        said, mend = ", the checkpoint was trained on", "get the original weights file"
        check_sha256(source.weights, config.sha256, said, mend, BackboneError)
    size = config.image_size or source.native_size
    label = str(source.weights or "this architecture")
    if not source.state:  # weights of a file are no larger than the file
        with torch.device("meta"):
            blank = build_clip(source.model_cfg, {}, source.native_size, label)
        weights = _FLOAT * sum(x.numel() for x in blank.parameters())
        check_memory("random weights", {f"backbone.name = {short(config.name)}": weights}, most)
    # Initial weights leave the caller's generator alone.
    with torch.random.fork_rng(devices=[]):
        clip = build_clip(source.model_cfg, source.state, size, label)
    activation = config.activation
    if activation == "auto":
        activation = "quick_gelu" if source.quick_gelu else "gelu"
    set_activation(clip, activation)
    backbone = FrozenCLIP(
        clip,
        tokenizer or _tokenizer(source),
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


def _tokenizer(source: Source) -> Any:
    import open_clip

    text, name = source.model_cfg.get("text_cfg"), source.tokenizer_name
    try:
        if isinstance(text, dict) and "hf_tokenizer_name" not in text:
            return _own_tokenizer(name, json.dumps(text, sort_keys=True))
        return open_clip.get_tokenizer(name)
    except Exception as error:  # transformers and hub clients raise many unrelated types
        raise BackboneError(
            f"no tokenizer for {name} ({one_line(error, 160)}); it may need `pip install "
            "transformers sentencepiece` and a network, or its files in the hub's cache"
        ) from error


@functools.lru_cache(maxsize=8)
def _own_tokenizer(name: str, _settings: str) -> Any:
    """CLIP's own tokenizer: it depends on the settings alone, and takes a tenth of a second."""
    import open_clip

    return open_clip.get_tokenizer(name)


@dataclass
class Source:
    """An architecture, its weights and their settings, as found under a backbone's name.

    Attributes:
        model_cfg: architecture, in open_clip's form.
        tokenizer_name: for ``open_clip.get_tokenizer``.
        weights: the file that ``state`` was read from; None without weights.
        state: its tensors, empty without weights.
        quick_gelu: whether the weights were trained with QuickGELU.
        mean, std: of the image normalisation, per channel.
    """

    model_cfg: dict[str, Any]
    tokenizer_name: str
    weights: Path | None = None
    state: dict[str, Tensor] = field(default_factory=dict)
    quick_gelu: bool = False
    mean: tuple[float, ...] = OPENAI_MEAN
    std: tuple[float, ...] = OPENAI_STD

    @property
    def native_size(self) -> int:
        """Image side that the architecture was made for, in pixels."""
        size = self.model_cfg["vision_cfg"].get("image_size", 224)
        side = size[0] if isinstance(size, list | tuple) and size else size
        if not isinstance(side, int) or not 0 < side <= MAX_IMAGE_SIZE:
            raise BackboneError(
                f"image_size {short(size)} is not possible: give 1 to {MAX_IMAGE_SIZE} pixels"
            )
        return side


def _find_source(config: BackboneConfig) -> Source:
    """The architecture and weights that ``config`` names.

    Raises:
        BackboneError: unknown name; weights that are missing, damaged, or cannot be fetched.
    """
    name = config.name
    if name == EMBEDDED_BACKBONE:
        folder = resource_dir("checkpoints") / name
        for file in (folder / CONFIG_FILE, weights_in(folder)):
            if file is not None:
                check_embedded(file, BackboneError)
        return _find_folder(folder)
    if name.startswith("local-dir:"):
        return _find_folder(Path(name.removeprefix("local-dir:")), config.random_weights)
    if name.startswith("hf-hub:"):
        return _find_folder(hub_folder(name.removeprefix("hf-hub:")))
    if os.path.isfile(name):
        state = without_marks(read_state_dict(Path(name)))
        return Source(model_cfg_of(state), "ViT-B-32", Path(name), state, quick_gelu=True)
    return _find_builtin(replace(config, name=name.replace("/", "-")))


def _find_folder(folder: Path, random_weights: bool = False) -> Source:
    model_cfg, mean, std = read_clip_config(folder)
    weights = weights_in(folder)
    if weights is None and not random_weights:
        raise BackboneError(f"{folder}: no weights; put open_clip_model.safetensors there")
    state = read_state_dict(weights) if weights else {}
    check_sizes(folder, model_cfg, state)
    quick_gelu = bool(model_cfg.get("quick_gelu", False))
    return Source(model_cfg, f"local-dir:{folder}", weights, state, quick_gelu, mean, std)


def _find_builtin(config: BackboneConfig) -> Source:
    model_cfg = _builtin_cfg(config.name)
    source = Source(model_cfg, config.name, quick_gelu=bool(model_cfg.get("quick_gelu", False)))
    if config.pretrained is None:
        if config.random_weights:
            return source
        raise BackboneError(
            f"backbone {config.name} needs weights: pass --pretrained TAG (such as openai) or "
            f"--pretrained FILE; offline, --backbone {EMBEDDED_BACKBONE} needs none"
        )
    if os.path.isfile(config.pretrained):
        source.weights = Path(config.pretrained)
        settings = _file_settings(config, config.pretrained)
    else:
        source.weights, settings = tagged_weights(config.name, config.pretrained)
    source.mean = tuple(settings.get("mean", source.mean))
    source.std = tuple(settings.get("std", source.std))
    source.quick_gelu = bool(settings.get("quick_gelu", source.quick_gelu))
    source.state = read_state_dict(source.weights)
    if is_openai_format(source.state):
        source.state, source.quick_gelu = without_marks(source.state), True
    return source


def _builtin_cfg(name: str) -> dict[str, Any]:
    """Architecture of one of open_clip's own names."""
    import open_clip

    model_cfg: dict[str, Any] | None = open_clip.get_model_config(name)
    if model_cfg is None:
        near = difflib.get_close_matches(name, open_clip.list_models(), 3, cutoff=0.4)
        raise BackboneError(
            f"backbone {name!r} is unknown; use an open_clip name (near: "
            f"{', '.join(near) or 'none'}), local-dir:FOLDER, hf-hub:org/name, a file in OpenAI's "
            f"format, or {EMBEDDED_BACKBONE}"
        )
    return model_cfg


def _file_settings(config: BackboneConfig, file: str) -> dict[str, Any]:
    """Mean, std and activation of the published weights: the file does not hold them."""
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
                file,
                config.name,
            )
    return settings
