"""Patches of an image in CLIP's joint space, without any learned map of ours.

What the tower does to its pooled features is done to each place by itself. Where the tower pools
by an average and projects linearly, the mean of the places is then the global embedding. (The last
attention of a transformer is left as it is.)

Symbols: B images, N = h*w patches, V vision width, D joint width.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from bayes_pfl.clip.frozen_clip import FrozenCLIP, ImageFeatures


def dense_reason(backbone: FrozenCLIP) -> str | None:
    """Why this tower has no patches in the joint space; None if it has."""
    visual = backbone.visual
    plain = hasattr(visual, "transformer")
    trunk = visual if plain else getattr(visual, "trunk", None)
    attends = getattr(trunk, "attn_pool", None) is not None
    if trunk is None or attends or (not plain and hasattr(visual.head, "pool")):
        return "the image tower pools by attention: its patches are not in the joint space"
    if plain and backbone.layers[-1] != len(visual.transformer.resblocks):
        return "the last block of the image tower is not tapped"
    projects = plain or hasattr(trunk, "fc_norm")
    if not projects and getattr(trunk, "output_fmt", "NCHW") != "NCHW":
        return f"patches of {type(trunk).__name__} cannot be projected one by one"
    return None


def joint_patches(
    backbone: FrozenCLIP, images: Tensor, features: ImageFeatures
) -> tuple[Tensor, tuple[int, int]]:
    """Patches in the joint space, (B, N, D), not normalised, and their grid (h, w).

    Only for towers without a :func:`dense_reason`.

    Args:
        images: (B, 3, S, S), normalised.
        features: of the same images; those of transformers need no second pass.
    """
    visual = backbone.fast_visual()
    if hasattr(visual, "transformer"):
        tokens = visual.ln_post(features.tokens[-1])
        return tokens if visual.proj is None else tokens @ visual.proj, features.grid
    maps = visual.trunk.forward_features(images)
    if maps.ndim == 4:
        return _places(visual, maps), (maps.shape[-2], maps.shape[-1])
    trunk = visual.trunk
    tokens = trunk.fc_norm(maps[:, trunk.num_prefix_tokens :])
    tokens = visual.head(trunk.head(tokens) if trunk.num_classes else tokens)
    side = math.isqrt(tokens.shape[1])  # inputs are square
    return tokens, (side, side)


def _places(visual: Any, maps: Tensor) -> Tensor:
    """(B, V, h, w) -> (B, N, D): each place goes through the head as a map of one pixel."""
    places = maps.flatten(2).transpose(1, 2)  # (B, N, V)
    alone = places.flatten(0, 1)[..., None, None]
    pooled = visual.trunk.forward_head(alone, pre_logits=visual.trunk.num_classes == 0)
    return visual.head(pooled).unflatten(0, places.shape[:2])
