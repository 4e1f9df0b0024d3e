"""A frozen image tower prepared for inference: the same function, in less time.

Nothing here is trained, so weights can be converted once to the form that the kernels take:

- plain self-attention of open_clip goes through PyTorch's fused kernel, and under autocast the
  weights of linear layers are converted once (:mod:`bayes_pfl.clip.frozen_layers`);
- batch norms are folded into the convolutions before them, and those run channels last.

The copy shares every weight that it does not have to change with the original tower.

Symbols: S image side, C channels.
"""

from __future__ import annotations

import copy
from collections import Counter
from contextlib import ExitStack
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from bayes_pfl.clip.frozen_layers import FastSelfAttention, convert_linears, is_plain_attention


def fast_tower(visual: nn.Module, dtype: torch.dtype | None, image_size: int) -> Any:
    """A copy of ``visual`` for inference.

    Args:
        visual: image tower of open_clip, frozen, in eval mode.
        dtype: precision of autocast; None without.
        image_size: S. One black image goes through a tower with batch norms, to find the
            convolution before each of them.
    """
    kept = {id(x): x for x in (*visual.parameters(), *visual.buffers())}
    tower = copy.deepcopy(visual, kept)
    _fold_batch_norms(tower, image_size)
    convolutions = [x for x in tower.modules() if isinstance(x, nn.Conv2d)]
    if len(convolutions) > 1:  # more than a patch embedding: the maps follow the weights' order
        for convolution in convolutions:
            weight = convolution.weight.detach().contiguous(memory_format=torch.channels_last)
            convolution.weight = nn.Parameter(weight, requires_grad=False)
    for block in list(tower.modules()):
        attention = getattr(block, "attn", None)
        if isinstance(attention, nn.MultiheadAttention) and is_plain_attention(attention):
            block.attn = FastSelfAttention(attention)
    if dtype is not None:
        convert_linears(tower, dtype)
    return tower


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """The precision of the surrounding autocast; None outside of one."""
    kind = device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None


def should_split(images: Tensor) -> bool:
    """Whether a batch runs faster a few images at a time, whose maps a CPU's cache can hold.

    Not while compiling: the loop would be unrolled, and the tower compiled for each part.
    """
    return images.device.type == "cpu" and not torch.compiler.is_compiling()


@torch.no_grad()
def _fold_batch_norms(tower: nn.Module, image_size: int) -> None:
    """Multiply each batch norm into the convolution before it, if that has no other consumer."""
    for conv_name, norm_name in _normed_convolutions(tower, image_size):
        conv = cast(nn.Conv2d, tower.get_submodule(conv_name))
        norm = cast(nn.BatchNorm2d, tower.get_submodule(norm_name))
        tower.set_submodule(conv_name, fuse_conv_bn_eval(conv, norm))
        # Batch norms of timm contain their activation.
        tower.set_submodule(norm_name, getattr(norm, "act", None) or nn.Identity())


def _normed_convolutions(tower: nn.Module, image_size: int) -> list[tuple[str, str]]:
    """Names of convolutions and of the batch norms that take their output, one to one."""
    modules = dict(tower.named_modules())
    if not any(isinstance(x, nn.BatchNorm2d) for x in modules.values()):
        return []
    # The tensors are kept too, so that no later one can get the same id.
    outputs: dict[int, tuple[str, Tensor]] = {}
    pairs: list[tuple[str, str]] = []

    def made(name: str, _: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
        outputs[id(output)] = (name, output)

    def taken(name: str, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if id(inputs[0]) in outputs:
            pairs.append((outputs[id(inputs[0])][0], name))

    with ExitStack() as hooks:
        for name, module in modules.items():
            if isinstance(module, nn.Conv2d):
                hooks.enter_context(module.register_forward_hook(partial(made, name)))
            elif isinstance(module, nn.BatchNorm2d):
                hooks.enter_context(module.register_forward_pre_hook(partial(taken, name)))
        tower(next(tower.parameters()).new_zeros(1, 3, image_size, image_size))
    uses = Counter(name for pair in pairs for name in pair)
    return [(conv, norm) for conv, norm in pairs if uses[conv] == uses[norm] == 1]
