"""CLIP weights in OpenAI's naming: their marks, and the architecture that they imply."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bayes_pfl.errors import BackboneError

HEAD_WIDTH = 64  # of every model that OpenAI published; weights do not show it
# Entries of OpenAI's files that are no weights; open_clip's own files have none of these.
_MARKS = ("input_resolution", "context_length", "vocab_size")


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
