"""The architecture of a CLIP: from open_clip_config.json, or from weights in OpenAI's naming.

The file is untrusted, so it is checked before open_clip reads it.
"""

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

HEAD_WIDTH = 64  # of every model that OpenAI published; weights do not show it
# Entries of OpenAI's files that are no weights; open_clip's own files have none of these.
_MARKS = ("input_resolution", "context_length", "vocab_size")
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


def is_openai_format(state: dict[str, Tensor]) -> bool:
    """Whether the tensors are named as in OpenAI's files, with their three extra entries."""
    return "visual.conv1.weight" in state and any(mark in state for mark in _MARKS)


def without_marks(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights alone, in float32."""
    return {key: value.float() for key, value in state.items() if key not in _MARKS}


def model_cfg_of(state: dict[str, Tensor]) -> dict[str, Any]:
    """open_clip's architecture config of a CLIP, from its weights in OpenAI's naming.

    Raises:
        BackboneError: a tensor that fixes a size is missing.
    """
    try:
        text_width = state["ln_final.weight"].shape[0]
        return {
            "embed_dim": state["text_projection"].shape[1],
            "quick_gelu": True,
            "vision_cfg": _vision_cfg(state),
            "text_cfg": {
                "context_length": state["positional_embedding"].shape[0],
                "vocab_size": state["token_embedding.weight"].shape[0],
                "width": text_width,
                "heads": max(1, text_width // HEAD_WIDTH),
                "layers": _count(state, "transformer.resblocks.", 2),
            },
        }
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise BackboneError(
            f"weights lack {' '.join(str(error).split())}: not a CLIP in OpenAI's format; name the "
            "architecture with --backbone and the file with --pretrained"
        ) from error


def _vision_cfg(state: dict[str, Tensor]) -> dict[str, Any]:
    if "visual.proj" not in state:
        return _resnet_cfg(state)
    convolution = state["visual.conv1.weight"]
    patch, width = convolution.shape[-1], convolution.shape[0]
    side = round((state["visual.positional_embedding"].shape[0] - 1) ** 0.5)
    return {
        "layers": _count(state, "visual.transformer.resblocks.", 3),
        "width": width,
        "head_width": min(HEAD_WIDTH, width),
        "patch_size": patch,
        "image_size": patch * side,
    }


def _resnet_cfg(state: dict[str, Tensor]) -> dict[str, Any]:
    side = round((state["visual.attnpool.positional_embedding"].shape[0] - 1) ** 0.5)
    return {
        "layers": [_count(state, f"visual.layer{stage}.", 2) for stage in (1, 2, 3, 4)],
        "width": state["visual.layer1.0.conv1.weight"].shape[0],
        "image_size": 32 * side,  # the tower's stride
    }


def _count(state: dict[str, Tensor], prefix: str, position: int) -> int:
    return len({key.split(".")[position] for key in state if key.startswith(prefix)})
