"""Names of precisions, the context that applies one, and whether the processor supports it."""

from __future__ import annotations

import functools
import logging
from contextlib import AbstractContextManager, nullcontext

import torch

from bayes_pfl.errors import ConfigError

logger = logging.getLogger(__name__)

_DTYPES = {
    "float32": None,
    "fp32": None,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
}
_CHECKS = {
    torch.bfloat16: "_is_mkldnn_bf16_supported",
    torch.float16: "_is_mkldnn_fp16_supported",
}


def half_dtype(precision: str) -> torch.dtype | None:
    """The half-precision type of a name such as "bf16"; None for float32.

    Raises:
        ConfigError: the name is unknown.
    """
    if precision not in _DTYPES:
        raise ConfigError(f"precision = {precision!r}: use one of {', '.join(_DTYPES)}")
    return _DTYPES[precision]


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Run matrix products in ``precision`` on ``device``; scores and maps stay float32.

    Logs a warning, once, if that is slower than float32 on this processor.

    Raises:
        ConfigError: the name is unknown.
    """
    dtype = half_dtype(precision)
    if dtype is None:
        return nullcontext()
    warn_if_slow(device, dtype)
    return torch.autocast(device.type, dtype)


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Within, products keep the precision of their numbers, whatever surrounds the block."""
    kind = device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


@functools.cache
def warn_if_slow(device: torch.device, dtype: torch.dtype) -> None:
    """Log a warning, once, if ``device`` is a processor without instructions for ``dtype``."""
    if device.type == "cpu" and not computes_natively(dtype):
        name = str(dtype).removeprefix("torch.")
        logger.warning(
            "%s is slow here: this processor has no instructions for it; use float32", name
        )


@functools.cache
def computes_natively(dtype: torch.dtype) -> bool:
    """Whether this processor multiplies matrices in half precision ``dtype`` by itself.

    Others convert every number, which makes them several times as slow as in float32
    (docs/benchmarks.md). True where PyTorch does not answer: the query is not documented.
    """
    try:
        return bool(getattr(torch.ops.mkldnn, _CHECKS[dtype])())
    except (AttributeError, RuntimeError):
        return True
