"""A frozen image tower made ready for inference: the same function, in less time.

Nothing here is trained, so weights may be put where the kernels want them, once:

- plain self-attention of open_clip goes through PyTorch's fused kernel; the "fast path" of
  `nn.MultiheadAttention` writes out the N x N matrix of every head on a CPU;
- batch norms are folded into the convolutions before them, and those run channels last;
- under autocast the weights of linear layers are kept in its precision, packed for the CPU's
  matrix kernels, where autocast would convert them at every call.

The copy shares every weight that it does not have to change with the tower it is made from.

Symbols: B images, H heads, N tokens, V vision width, C channels.
"""

from __future__ import annotations

import copy
import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from bayes_pfl.support.precision import computes_natively

_SCORES_AT_ONCE = 2_000_000  # numbers: 4 MB in half precision, within the reach of a last cache


def lean_tower(visual: nn.Module, dtype: torch.dtype | None, image_size: int) -> Any:
    """A copy of ``visual`` for inference.

    Args:
        visual: image tower of open_clip, frozen, in eval mode.
        dtype: the precision of autocast; None without.
        image_size: S: a black image is sent through towers with batch norms, to see what they
            follow.
    """
    kept = {id(x): x for x in (*visual.parameters(), *visual.buffers())}
    tower = copy.deepcopy(visual, kept)
    _fold_batch_norms(tower, image_size)
    if sum(isinstance(x, nn.Conv2d) for x in tower.modules()) > 1:  # more than a patch embedding
        _convolve_channels_last(tower)
    _fuse_attention(tower)
    if dtype is not None:
        _lower_linears(tower, dtype)
    return tower


def active_dtype(device: torch.device) -> torch.dtype | None:
    """The precision of the autocast we are in; None outside."""
    if not torch.is_autocast_enabled(device.type):
        return None
    return torch.get_autocast_dtype(device.type)


def few_at_once(images: Tensor) -> bool:
    """Whether a batch should be taken a few images at a time, so that a CPU's cache holds them.

    Not while compiling: the parts would be unrolled, and the tower compiled for each.
    """
    return images.device.type == "cpu" and not torch.compiler.is_compiling()


# Attention ----------------------------------------------------------------------------------------


class LeanSelfAttention(nn.Module):
    """`nn.MultiheadAttention` of a frozen block; all but plain self-attention goes to the original.

    The signature is that of the original's forward.
    """

    def __init__(self, original: nn.MultiheadAttention) -> None:
        super().__init__()
        self.original, self.heads = original, original.num_heads
        self.in_proj = _linear(original.in_proj_weight, original.in_proj_bias)
        self.out_proj = _linear(original.out_proj.weight, original.out_proj.bias)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        """(B, N, V) three times the same -> (B, N, V), None."""
        masked = kwargs.get("attn_mask") is not None or kwargs.get("key_padding_mask") is not None
        weights = kwargs.get("need_weights", True)
        if args or masked or weights or query is not key or key is not value:
            return self.original(query, key, value, *args, **kwargs)
        joint = self.in_proj(query).unflatten(-1, (3, self.heads, -1))
        attended = attend(*joint.permute(2, 0, 3, 1, 4))
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
    return torch.cat(attended).view(queries.shape)


def _fuse_attention(tower: nn.Module) -> None:
    for block in list(tower.modules()):
        attention = getattr(block, "attn", None)
        if type(attention) is nn.MultiheadAttention and _is_plain(attention):
            block.attn = LeanSelfAttention(attention)


def _is_plain(attention: nn.MultiheadAttention) -> bool:
    return (
        attention.batch_first
        and attention.in_proj_weight is not None
        and attention.bias_k is None
        and not attention.add_zero_attn
        and attention.dropout == 0
    )


# Convolutions -------------------------------------------------------------------------------------


@torch.no_grad()
def _fold_batch_norms(tower: nn.Module, image_size: int) -> None:
    """Multiply every batch norm into the convolution whose output it takes, if no other does."""
    for conv, norm in _normed_convolutions(tower, image_size):
        folded = fuse_conv_bn_eval(tower.get_submodule(conv), tower.get_submodule(norm))
        tower.set_submodule(conv, folded)
        # Those of timm hold their activation.
        rest = getattr(tower.get_submodule(norm), "act", None)
        tower.set_submodule(norm, rest or nn.Identity())


def _normed_convolutions(tower: nn.Module, image_size: int) -> list[tuple[str, str]]:
    """Names of convolutions and of the batch norms behind them, as one image meets them."""
    modules = dict(tower.named_modules())
    norms = {name: x for name, x in modules.items() if isinstance(x, nn.BatchNorm2d)}
    if not norms:
        return []
    outputs: dict[int, tuple[str, Tensor]] = {}  # the tensors are held: their ids stay theirs
    pairs: list[tuple[str, str]] = []

    def keep(name: str) -> Any:
        return lambda _, __, output: outputs.update({id(output): (name, output)})

    def match(name: str) -> Any:
        def see(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if id(inputs[0]) in outputs:
                pairs.append((outputs[id(inputs[0])][0], name))

        return see

    hooks = [
        module.register_forward_hook(keep(name))
        for name, module in modules.items()
        if isinstance(module, nn.Conv2d)
    ]
    hooks += [module.register_forward_pre_hook(match(name)) for name, module in norms.items()]
    tower(next(tower.parameters()).new_zeros(1, 3, image_size, image_size))
    for hook in hooks:
        hook.remove()
    return [(conv, norm) for conv, norm in pairs if _met_once(pairs, conv, norm)]


def _met_once(pairs: list[tuple[str, str]], conv: str, norm: str) -> bool:
    return sum(c == conv or n == norm for c, n in pairs) == 1


def _convolve_channels_last(tower: nn.Module) -> None:
    """Weights in (C_out, h, w, C_in) order; what they convolve follows."""
    for module in tower.modules():
        if isinstance(module, nn.Conv2d):
            weight = module.weight.detach().contiguous(memory_format=torch.channels_last)
            module.weight = nn.Parameter(weight, requires_grad=False)


# Linear layers ------------------------------------------------------------------------------------


class PackedLinear(nn.Linear):
    """A bfloat16 linear layer whose weight is ordered for the CPU's matrix kernel, once.

    ``weight`` stays what it was, for towers that read it by itself.
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
        if torch.compiler.is_compiling():  # the compiler takes packed weights of its own alone
            return super().forward(x)
        product = torch.ops.mkldnn._linear_pointwise
        return product(x.bfloat16(), self._packed, self._bias, "none", [], "")


def _can_pack(device: torch.device, dtype: torch.dtype) -> bool:
    return device.type == "cpu" and dtype == torch.bfloat16 and _packs_here()


@functools.cache
def _packs_here() -> bool:
    """Whether this build of torch and this processor have the packed product.

    The operators are the ones that `torch.compile` emits; they are not documented, so their absence
    or a change of theirs must do no harm.
    """
    if not computes_natively(torch.bfloat16):
        return False
    try:
        trial = PackedLinear(_linear(torch.eye(32), None))
        row = torch.arange(32.0)[None]
        return torch.equal(trial(row).float(), row)
    except (AttributeError, RuntimeError, TypeError):
        return False


def _lower_linears(tower: nn.Module, dtype: torch.dtype) -> None:
    device = next(tower.parameters()).device
    packs = _can_pack(device, dtype)
    for name, module in list(tower.named_modules()):
        if type(module) is nn.Linear and ".original." not in name:
            lower = PackedLinear(module) if packs else _lowered(module, dtype)
            tower.set_submodule(name, lower)


def _lowered(module: nn.Linear, dtype: torch.dtype) -> nn.Linear:
    bias = None if module.bias is None else module.bias.detach().to(dtype)
    return _linear(module.weight.detach().to(dtype), bias)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A frozen linear layer of these very tensors."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    linear.weight = _frozen(weight)
    linear.bias = None if bias is None else _frozen(bias)
    return linear


def _frozen(x: Tensor) -> nn.Parameter:
    return x if isinstance(x, nn.Parameter) else nn.Parameter(x, requires_grad=False)
