"""Self-attention of frozen blocks by PyTorch's fused kernel.

The "fast path" of ``nn.MultiheadAttention`` writes out the N x N matrix of every head on a CPU.

Symbols: B images, H heads, N tokens, V width.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bayes_pfl.clip.linear_layers import frozen_linear

_SCORES_AT_ONCE = 2_000_000  # numbers: 4 MB in half precision, which most last-level caches hold


def is_plain_attention(module: Any) -> bool:
    """Whether ``module`` is self-attention by one joint projection, and nothing more."""
    return (
        type(module) is nn.MultiheadAttention
        and module.batch_first
        and module.in_proj_weight is not None
        and module.in_proj_bias is not None
        and module.bias_k is None
        and not module.add_zero_attn
        and module.dropout == 0
    )


class FastSelfAttention(nn.Module):
    """``nn.MultiheadAttention`` of a frozen block, with the signature of its forward.

    Calls with masks, weights or unequal inputs go to the original.
    """

    def __init__(self, original: nn.MultiheadAttention) -> None:
        super().__init__()
        self.original, self.heads = original, original.num_heads
        self.in_proj = frozen_linear(original.in_proj_weight, original.in_proj_bias)
        self.out_proj = frozen_linear(original.out_proj.weight, original.out_proj.bias)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        """(B, N, V) three times the same -> (B, N, V), None."""
        masked = kwargs.get("attn_mask") is not None or kwargs.get("key_padding_mask") is not None
        weights = kwargs.get("need_weights", True)
        if args or masked or weights or query is not key or key is not value:
            result: tuple[Tensor, Tensor | None] = self.original(query, key, value, *args, **kwargs)
            return result
        joint = self.in_proj(query).unflatten(-1, (3, self.heads, -1))  # (B, N, 3, H, V/H)
        attended = attend(*joint.permute(2, 0, 3, 1, 4))  # (B, H, N, V/H)
        return self.out_proj(attended.transpose(1, 2).flatten(2)), None


def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Scaled dot-product attention, (B, H, N, V/H) each.

    In half precision on a CPU without tile instructions the fused kernel is slower than two batched
    products and a softmax, as long as the N x N matrices of a few heads stay in the cache.
    """
    if queries.device.type != "cpu" or queries.dtype == torch.float32:
        return F.scaled_dot_product_attention(queries, keys, values)
    tokens, width = queries.shape[-2:]
    heads = max(1, _SCORES_AT_ONCE // tokens**2)
    parts = (x.reshape(-1, tokens, width).split(heads) for x in (queries, keys, values))
    attended = [
        ((q * width**-0.5) @ k.transpose(1, 2)).softmax(-1) @ v
        for q, k, v in zip(*parts, strict=True)
    ]
    return torch.cat(attended).view(queries.shape)  # (B, H, N, V/H)
