"""Self-attention of open_clip's image towers through PyTorch's fused kernel.

`nn.MultiheadAttention` has a "fast path" of its own for frozen weights in eval mode. On a CPU that
path writes out the whole N x N matrix of every head, which at 1,370 tokens costs a tenth of the
block; and it can only be turned off for the whole process.

Symbols: B images, N tokens, V vision width.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


class FusedSelfAttention(nn.MultiheadAttention):
    """The same weights under the same names; anything but plain self-attention goes to the base."""

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        """(B, N, V) three times the same -> (B, N, V), None."""
        masked = kwargs.get("attn_mask") is not None or kwargs.get("key_padding_mask") is not None
        weights = kwargs.get("need_weights", True)
        if args or masked or weights or query is not key or key is not value:
            return super().forward(query, key, value, *args, **kwargs)
        joint = F.linear(query, self.in_proj_weight, self.in_proj_bias)
        heads = joint.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(*heads)
        return self.out_proj(attended.transpose(1, 2).flatten(2)), None


def fuse_attention(tower: nn.Module) -> None:
    """Send the attention of a frozen tower's blocks through the fused kernel, in place."""
    _exchange(tower, nn.MultiheadAttention, FusedSelfAttention)


def restore_attention(tower: nn.Module) -> None:
    """Undo :func:`fuse_attention`."""
    _exchange(tower, FusedSelfAttention, nn.MultiheadAttention)


def _exchange(
    tower: nn.Module, old: type[nn.MultiheadAttention], new: type[nn.MultiheadAttention]
) -> None:
    for block in list(tower.modules()):
        attention = getattr(block, "attn", None)
        if type(attention) is old and _is_plain(attention):
            other = new.__new__(new)
            other.__dict__ = attention.__dict__  # the very parameters, not copies
            block.attn = other


def _is_plain(attention: nn.MultiheadAttention) -> bool:
    return (
        attention.batch_first
        and attention.in_proj_weight is not None
        and attention.bias_k is None
        and not attention.add_zero_attn
        and attention.dropout == 0
    )
