"""The small CLIP: its open_clip config, its initial weights, and how it embeds texts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pretraining.config import PretrainConfig
from pretraining.lite_weights import LiteWeights
from pretraining.split_trunk import fill_trunk

CONTEXT_LENGTH = 77
VOCABULARY = 49408
"""CLIP's byte-pair vocabulary, the one that open_clip brings."""
_TEXTS = 32  # at once, in the text tower


def model_cfg(config: PretrainConfig) -> dict[str, Any]:
    """What open_clip needs to build the model."""
    return {
        "embed_dim": config.text_width,
        "vision_cfg": {
            "timm_model_name": config.trunk,
            "timm_model_pretrained": False,
            "timm_pool": "avg",
            "timm_proj": "linear",
            "timm_proj_bias": True,
            "image_size": config.image_size,
        },
        "text_cfg": {
            "context_length": CONTEXT_LENGTH,
            "vocab_size": VOCABULARY,
            "width": config.text_width,
            "heads": config.text_heads,
            "layers": config.text_layers,
        },
    }


def build_clip(config: PretrainConfig, weights: LiteWeights) -> Any:
    """open_clip model in eval mode: pretrained image trunk (frozen), new text tower and projection.

    The caller's random state does not change.
    """
    import open_clip

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        clip = open_clip.CLIP(**model_cfg(config))
    fill_trunk(clip.visual.trunk, weights, config.trunk)
    clip.visual.trunk.requires_grad_(False)
    return clip.eval()


def projection(clip: Any) -> nn.Linear:
    """From pooled features (1280) to the joint space (D)."""
    return clip.visual.head.proj


def embed_texts(clip: Any, ids: Tensor) -> Tensor:
    """Token ids (B, 77) -> text embeddings (B, D), not normalised.

    The same as open_clip's ``encode_text``, without the padding: attention is causal, so tokens
    after [EOS], which has the highest id, cannot change the output there. Texts of similar length
    are batched together, few at a time: a third of the work, and it stays in a processor's cache.
    """
    lengths = ids.argmax(dim=-1) + 1
    order = lengths.argsort(stable=True)
    tokens = clip.token_embedding(ids[order, : int(lengths.max())])
    parts = zip(tokens.split(_TEXTS), lengths[order].split(_TEXTS), strict=True)
    read = torch.cat([_read_part(clip, part, ends) for part, ends in parts])
    return (read @ clip.text_projection)[order.argsort()]


def _read_part(clip: Any, tokens: Tensor, lengths: Tensor) -> Tensor:
    """Token embeddings (B, L, T) of texts in the order of their lengths -> (B, T) at [EOS]."""
    longest = int(lengths[-1])
    x = tokens[:, :longest] + clip.positional_embedding[:longest]
    x = clip.transformer(x, attn_mask=clip.attn_mask[:longest, :longest])
    return clip.ln_final(x[torch.arange(len(x)), lengths - 1])
