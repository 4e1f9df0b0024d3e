"""Linear layers of frozen towers for autocast: weights are converted once, not at every call.

Weights are kept in the precision of autocast, and packed for the CPU's matrix kernels where this
build of PyTorch can.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from bayes_pfl.support.precision import computes_natively


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
            tower.set_submodule(name, PackedLinear(module) if packs else _converted(module, dtype))


def _converted(module: nn.Linear, dtype: torch.dtype) -> nn.Linear:
    bias = None if module.bias is None else module.bias.detach().to(dtype)
    return frozen_linear(module.weight.detach().to(dtype), bias)


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
