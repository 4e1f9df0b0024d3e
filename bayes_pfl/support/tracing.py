"""Whether PyTorch is making a graph of the code that runs."""

from __future__ import annotations

import torch


def is_exporting() -> bool:
    """Whether the code is being traced for an export: the graph then serves any number of images.

    PyTorch 2.6 does not tell an export from ``torch.compile``.
    """
    return bool(getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)())
