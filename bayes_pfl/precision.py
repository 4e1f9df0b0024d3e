"""Names of precisions, and the context that applies one."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from bayes_pfl.errors import ConfigError

_DTYPES = {
    "float32": None,
    "fp32": None,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
}


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Run matrix products in ``precision`` on ``device``; scores and maps stay float32.

    Raises:
        ConfigError: unknown name.
    """
    if precision not in _DTYPES:
        raise ConfigError(f"precision = {precision!r}: use one of {', '.join(_DTYPES)}")
    dtype = _DTYPES[precision]
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)
