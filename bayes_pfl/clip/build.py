"""open_clip models at any image size, with their weights and resized position embeddings."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from bayes_pfl.config import Activation
from bayes_pfl.errors import BackboneError
from bayes_pfl.support.error_text import one_line


def build_clip(model_cfg: dict[str, Any], state: dict[str, Tensor], size: int, label: str) -> Any:
    """The open_clip model at ``size`` pixels.

    Args:
        model_cfg: architecture, in open_clip's form.
        state: its weights, for any image size; empty to leave it at random.
        label: the name for it in an error.

    Raises:
        BackboneError: weights, architecture and size do not fit each other.
    """
    from open_clip import factory, model

    cfg = {key: value for key, value in model_cfg.items() if key != "custom_text"}
    vision = cfg["vision_cfg"] = dict(cfg["vision_cfg"])
    text = cfg.get("text_cfg", {})
    if "hf_model_name" in text or "multimodal_cfg" in cfg:
        raise BackboneError(
            "this model's text tower (Hugging Face or CoCa) cannot take prompt vectors; choose a "
            "CLIP, EVA-CLIP or SigLIP model of open_clip"
        )
    resnet = isinstance(vision.get("layers"), list | tuple)
    timm = "timm_model_name" in vision
    if not resnet:
        vision["image_size"] = size
    vision["timm_model_pretrained"] = False
    kind = model.CustomTextCLIP if model_cfg.get("custom_text") else model.CLIP
    try:
        clip = kind(**cfg)
        if state:
            _load(clip, state, factory, model)
        if timm:
            clip.visual.set_input_size(size)
        if resnet:
            _resize_attention_pool(clip.visual, size)
        _check_patches(clip.visual, size)
    except Exception as error:  # towers of several libraries raise many unrelated types
        reason = one_line(error)
        raise BackboneError(
            f"{label} cannot be used at {size} pixels ({reason}); see that the weights belong to "
            "the architecture and that the image size is a multiple of its patch"
        ) from error
    return clip


def _load(clip: nn.Module, state: dict[str, Tensor], factory: Any, model: Any) -> None:
    """Strict loading through open_clip's own conversions of foreign names and sizes."""
    state = factory.convert_state_dict(clip, dict(state))
    if "positional_embedding" in state and not hasattr(clip, "positional_embedding"):
        state = model.convert_to_custom_text_state_dict(state)
    for scalar in ("logit_scale", "logit_bias"):
        own = getattr(clip, scalar, None)
        if own is None:
            state.pop(scalar, None)
        else:  # scores have temperatures of their own, so one may be missing here
            state[scalar] = state.get(scalar, own.detach()).reshape(own.shape)
    state = {k: v for k, v in state.items() if not k.endswith("attn_mask")}
    positions = "visual.positional_embedding"
    if positions in state:  # half precision has no antialiased resizing on the CPU
        state[positions] = state[positions].float()
    model.resize_pos_embed(state, clip)
    clip.load_state_dict(state, strict=True)


def _resize_attention_pool(visual: Any, size: int) -> None:
    """Bicubic resize of the position embeddings that OpenAI's ResNets use in their last pooling."""
    from timm.layers import resample_abs_pos_embed

    # One convolution of stride 2 rounds up, the four poolings after it round down.
    side = (size + 1) // 2 // 16
    if side < 1:
        raise ValueError("the image vanishes in the last stage")
    old = visual.attnpool.positional_embedding.detach()  # (1 + h*w, V): the pooled token first
    resized = resample_abs_pos_embed(old[None], [side, side])[0]
    visual.attnpool.positional_embedding = nn.Parameter(resized)


def _check_patches(visual: Any, size: int) -> None:
    """Refuse a size that is no multiple of the patch: no patch would cover the image's edge."""
    embed = getattr(getattr(visual, "trunk", visual), "patch_embed", visual)
    patch = getattr(embed, "patch_size", None)
    if patch is not None:
        patch = max(patch) if isinstance(patch, list | tuple) else int(patch)
        if size % patch:
            near = max(patch, round(size / patch) * patch)
            raise ValueError(f"patches are {patch} pixels wide: {near} would do")


def set_activation(clip: nn.Module, activation: Activation) -> None:
    """Give every transformer block of open_clip the activation its weights were trained with."""
    from open_clip.transformer import QuickGELU

    quick = activation == "quick_gelu"
    for block in clip.modules():
        mlp = getattr(block, "mlp", None)
        if not isinstance(mlp, nn.Sequential) or getattr(mlp, "gelu", None) is None:
            continue
        # A plain GELU is kept: some towers have GELU's tanh approximation.
        if quick != isinstance(mlp.gelu, QuickGELU):
            mlp.gelu = QuickGELU() if quick else nn.GELU()
