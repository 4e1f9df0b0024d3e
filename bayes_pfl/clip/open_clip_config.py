"""open_clip_config.json of a folder: untrusted, so checked before open_clip reads it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from bayes_pfl.clip.frozen_clip import OPENAI_MEAN, OPENAI_STD
from bayes_pfl.clip.weights import CONFIG_FILE
from bayes_pfl.errors import BackboneError
from bayes_pfl.support.error_text import one_line
from bayes_pfl.support.parsing import MAX_CONFIG, read_json, short

# Other settings reach transformers, where one of them can run code from the folder.
_TOKENIZER = {"strip_sep_token", "language", "clean"}


def read_clip_config(folder: Path) -> tuple[dict[str, Any], tuple[float, ...], tuple[float, ...]]:
    """Architecture, mean and standard deviation of an open_clip folder.

    Raises:
        BackboneError: no such file, another form, or settings that could run or fetch something.
    """
    try:
        data = read_json(folder / CONFIG_FILE, MAX_CONFIG)
        model_cfg, preprocess = data["model_cfg"], data.get("preprocess_cfg") or {}
        parts = model_cfg["vision_cfg"], model_cfg["text_cfg"], preprocess
        objects = all(isinstance(part, dict) for part in parts)
        if not objects or "embed_dim" not in model_cfg:
            raise TypeError("embed_dim, and objects vision_cfg and text_cfg are wanted")
        mean = _triple(preprocess.get("mean", OPENAI_MEAN))
        std = _triple(preprocess.get("std", OPENAI_STD))
        if min(std) <= 0:
            raise ValueError(f"std is {short(std)}; numbers above 0 are wanted")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackboneError(
            f"{folder}: not an open_clip folder ({one_line(error)}); it needs {CONFIG_FILE} with "
            "'model_cfg', and open_clip_model.safetensors"
        ) from error
    _refuse_foreign(folder, *parts[:2])
    return model_cfg, mean, std


def _triple(values: Any) -> tuple[float, ...]:
    if len(values) != 3 or not all(isinstance(v, int | float) and abs(v) < 1e6 for v in values):
        raise TypeError(f"mean and std are three numbers, not {short(values)}")
    return tuple(map(float, values))


def _refuse_foreign(folder: Path, vision: dict[str, Any], text: dict[str, Any]) -> None:
    settings = text.get("tokenizer_kwargs") or {}
    settings = settings if isinstance(settings, dict) else {short(settings): settings}
    unknown = [key for key in settings if key not in _TOKENIZER]
    if unknown:
        raise BackboneError(
            f"{folder}: tokenizer_kwargs has {short(unknown[0])}, which is refused; allowed are "
            f"{', '.join(sorted(_TOKENIZER))}"
        )
    tower = vision.get("timm_model_name", "")
    if not isinstance(tower, str) or any(mark in tower for mark in ":/\\"):
        raise BackboneError(f"{folder}: timm_model_name {short(tower)} is no name of timm's own")


def check_sizes(folder: Path, model_cfg: dict[str, Any], state: dict[str, Tensor]) -> None:
    """Refuse an architecture that its weights cannot fill, before it fills the memory.

    Raises:
        BackboneError: naming a number that is larger than every axis of the weights.
    """
    if not state:  # random weights, in tests
        return
    largest = max((axis for value in state.values() for axis in value.shape), default=0)
    vision = {k: v for k, v in model_cfg["vision_cfg"].items() if k != "image_size"}
    for name, value in _numbers({**model_cfg, "vision_cfg": vision}):
        bound = max(largest, 128)
        if name == "layers":
            bound = min(bound, len(state))
        if not (math.isfinite(value) and abs(value) <= bound):
            raise BackboneError(
                f"{folder}: {name} = {short(value)} in {CONFIG_FILE} does not fit its weights, "
                f"whose largest axis is {largest}"
            )


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _numbers(item, key)
    elif isinstance(value, list):
        for item in value:
            yield from _numbers(item, name)
    elif isinstance(value, int | float):
        yield name, value
