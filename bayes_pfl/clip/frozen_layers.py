"""Layers of frozen towers, made once for the kernels: linear layers and self-attention.

Weights of linear layers are kept in the precision of autocast, and packed for the CPU's matrix
kernels where this build of PyTorch can. Attention goes through PyTorch's fused kernel: the "fast
path" of ``nn.MultiheadAttention`` writes out the N x N matrix of every head on a CPU.

Symbols: B images, H heads, N tokens, V width.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bayes_pfl.support.precision import computes_natively

_SCORES_AT_ONCE = 2_000_000  # numbers: 4 MB in half precision, which most last-level caches hold


class PackedLinear(nn.Linear):
    """A bfloat16 linear layer whose weight is ordered for the CPU's matrix kernel, once.

    ``weight`` stays as in the original, for towers that read it themselves.
    """

    def __init__(self, original: nn.Linear) -> None:
        super().__init__(1, 1, device="meta")
        self.in_features, self.out_features = original.in_features, original.out_features
        self.weight, self.bias = original.weight, original.bias
        weight = original.weight.detach().bfloat16()
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight)
        self._bias = None if original.bias is None else original.bias.detach().bfloat16()

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) of any precision -> (..., out) in bfloat16."""
        if torch.compiler.is_compiling():  # the compiler packs weights itself
            return super().forward(x)
        product = torch.ops.mkldnn._linear_pointwise
        result: Tensor = product(x.bfloat16(), self._packed, self._bias, "none", [], "")
        return result


def convert_linears(tower: nn.Module, dtype: torch.dtype) -> None:
    """Replace the linear layers of ``tower`` by such with weights in ``dtype``."""
    device = next(tower.parameters()).device
    packs = device.type == "cpu" and dtype == torch.bfloat16 and _packs_here()
    for name, module in list(tower.named_modules()):
        if type(module) is nn.Linear and ".original." not in name:
            bias = None if module.bias is None else module.bias.detach().to(dtype)
            weight = module.weight.detach().to(dtype)
            tower.set_submodule(
                name, PackedLinear(module) if packs else frozen_linear(weight, bias)
            )


def frozen_linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A linear layer of these tensors, which are not copied, without gradient."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    for name, x in (("weight", weight), ("bias", bias)):
        if x is not None:
            own = x if isinstance(x, nn.Parameter) else nn.Parameter(x, requires_grad=False)
            setattr(linear, name, own)
    return linear


@functools.cache
def _packs_here() -> bool:
    """Whether this build of PyTorch and this processor have the packed product.

    The operators are those that ``torch.compile`` emits. They are not documented, so their absence
    or a change of them must do no harm.
    """
    if not computes_natively(torch.bfloat16):
        return False
    try:
        trial = PackedLinear(frozen_linear(torch.eye(32), None))
        row = torch.arange(32.0)[None]
        return torch.equal(trial(row).float(), row)
    except (AttributeError, RuntimeError, TypeError):
        return False


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
