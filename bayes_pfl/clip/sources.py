"""What the name of a backbone stands for: an architecture, its weights, and their settings."""

from __future__ import annotations

import difflib
import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from bayes_pfl.clip.downloads import hub_folder, tagged_weights
from bayes_pfl.clip.frozen_clip import OPENAI_MEAN, OPENAI_STD
from bayes_pfl.clip.open_clip_config import check_sizes, read_clip_config
from bayes_pfl.clip.openai_format import is_openai_format, model_cfg_of, without_marks
from bayes_pfl.clip.weights import (
    CONFIG_FILE,
    EMBEDDED_BACKBONE,
    is_file,
    read_state_dict,
    weights_in,
)
from bayes_pfl.config import MAX_IMAGE_SIZE, BackboneConfig
from bayes_pfl.errors import BackboneError
from bayes_pfl.support.checksums import check_embedded
from bayes_pfl.support.parsing import short
from bayes_pfl.support.resources import resource_dir

logger = logging.getLogger(__name__)


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
            raise BackboneError(f"image_size {short(size)} is none: 1 to {MAX_IMAGE_SIZE} pixels")
        return side


def find_source(config: BackboneConfig) -> Source:
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
    if is_file(name):
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
    if is_file(config.pretrained):
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
