"""Whitening: patches measured by how normal patches vary (Mahalanobis 1936).

Where normal patches vary much, a difference says little; where they hardly vary, a small one says
much. The small faults of large pictures are such small differences.

Symbols: C channels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

SHRINKAGE = 0.01
"""Share of the mean variance that is added to the variance in every direction."""

LEAST_VARIANCE = 1e-5
"""Of unit vectors, added likewise: on an even surface rounding would be all that varies."""


class Whitening(NamedTuple):
    """What makes the covariance of normal patches the identity, divided by C.

    Attributes:
        mean: of the normal patches, (C,).
        matrix: (C, C).
    """

    mean: Tensor
    matrix: Tensor

    def __call__(self, patches: Tensor) -> Tensor:
        """Patches (..., C) -> whitened, float32 (..., C): their mean square is about 1 / C."""
        return (patches.float() - self.mean) @ self.matrix

    def to(self, device: torch.device) -> Whitening:
        """The same on a device."""
        return Whitening(self.mean.to(device), self.matrix.to(device))


class PatchSums:
    """Sums over normal patches, in float64, from which a whitening follows."""

    def __init__(self, channels: int) -> None:
        self._count = 0
        self._sum = torch.zeros(channels, dtype=torch.float64)
        self._squares = torch.zeros(channels, channels, dtype=torch.float64)

    def add(self, patches: Tensor) -> None:
        """Count more patches, (n, C), on the CPU."""
        values = patches.double()
        self._count += len(values)
        self._sum += values.sum(0)
        self._squares += values.T @ values

    def whitening(self) -> Whitening:
        """The whitening of all patches that were added, one at least."""
        mean = self._sum / self._count
        covariance = self._squares / self._count - mean[:, None] * mean
        variances, directions = torch.linalg.eigh(covariance)
        variances = variances.clamp_min(0)
        variances = variances + SHRINKAGE * variances.mean() + LEAST_VARIANCE
        matrix = directions / (len(mean) * variances).sqrt()
        return Whitening(mean.float(), matrix.float())
