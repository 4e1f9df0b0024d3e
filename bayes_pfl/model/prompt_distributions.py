"""Prompt distributions: image-specific for the context, image-agnostic for the two states.

Symbols: B images, R samples, D joint width, K flow length.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from bayes_pfl.config import FlowConfig
from bayes_pfl.model.flows import FlowSample, PlanarFlow, PlanarParameters

Shift = Literal["sampled", "mean", "none"]
"""Of prompts: drawn from the flow, the mean of its base, or zero. The last two are ablations."""


def softplus_mlp(width: int, hidden: int) -> nn.Sequential:
    """D -> hidden -> hidden -> D with Softplus between (paper: section 3.3)."""
    return nn.Sequential(
        nn.Linear(width, hidden),
        nn.Softplus(),
        nn.Linear(hidden, hidden),
        nn.Softplus(),
        nn.Linear(hidden, width),
    )


class GaussianBase(nn.Module):
    """Mean and standard deviation of a flow's base, each an MLP of a vector in R^D."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.mean = softplus_mlp(width, hidden)
        self.log_variance = softplus_mlp(width, hidden)

    def forward(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """(..., D) -> mean and std, both (..., D).

        The published variance is exp(h/2) for the second MLP's output h, hence std = exp(h/4).
        """
        return self.mean(condition), torch.exp(self.log_variance(condition) / 4)


class PointMass:
    """All draws are the same vector, in place of a flow.

    Its log-density is left out of the flow loss, where log N(z; 0, I) still pulls on the vector.
    """

    def __init__(self, point: Tensor) -> None:
        self.point = point

    def rsample(self, noise: Tensor) -> FlowSample:
        """As many copies of the point (..., D) as ``noise`` (..., R, D) asks for."""
        z = self.point.unsqueeze(-2) + torch.zeros_like(noise)
        return FlowSample(z, zero := z.new_zeros(z.shape[:-1]), zero)


class ImageSpecificFlow(nn.Module):
    """Distribution over the context of the prompts, conditioned on the image (paper: section 3.3).

    Args:
        width: D.
        hidden: of the MLPs, published as half the vision width.
    """

    def __init__(
        self, width: int, hidden: int, config: FlowConfig, shift: Shift = "sampled"
    ) -> None:
        super().__init__()
        self.width, self.config, self.shift = width, config, shift
        self.base = GaussianBase(width, hidden)
        self.u = nn.Linear(width, config.length * width)
        self.w = nn.Linear(width, config.length * width)
        self.b = nn.Linear(width, config.length)

    def forward(self, pooled: Tensor) -> PlanarFlow | PointMass:
        """Global image embeddings (B, D), not normalised -> a flow with batch shape (B,)."""
        if self.shift == "none":
            return PointMass(torch.zeros_like(pooled))
        if self.shift == "mean":
            return PointMass(self.base.mean(pooled))
        steps = (len(pooled), self.config.length, self.width)
        parameters = PlanarParameters(
            self.u(pooled).view(steps), self.w(pooled).view(steps), self.b(pooled)
        )
        mean, std = self.base(pooled)
        return PlanarFlow(mean, std, parameters, constrained=self.config.constrained)


class AgnosticCondition(nn.Module):
    """What is learnt for one state: the vector that conditions its base, and its flow steps."""

    def __init__(self, width: int, length: int) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.randn(width))
        self.u = nn.Parameter(torch.randn(length, width))
        self.w = nn.Parameter(torch.randn(length, width))
        self.b = nn.Parameter(torch.randn(length))


class ImageAgnosticFlow(nn.Module):
    """Distributions over the normal and the abnormal state; the base MLPs are shared."""

    def __init__(
        self, width: int, hidden: int, config: FlowConfig, shift: Shift = "sampled"
    ) -> None:
        super().__init__()
        self.config, self.shift = config, shift
        self.base = GaussianBase(width, hidden)
        self.normal = AgnosticCondition(width, config.length)
        self.abnormal = AgnosticCondition(width, config.length)

    def forward(self) -> tuple[PlanarFlow | PointMass, PlanarFlow | PointMass]:
        """Flows of the normal and of the abnormal state, without batch shape."""
        return self._flow(self.normal), self._flow(self.abnormal)

    def _flow(self, condition: AgnosticCondition) -> PlanarFlow | PointMass:
        if self.shift == "none":
            return PointMass(torch.zeros_like(condition.vector))
        if self.shift == "mean":
            return PointMass(self.base.mean(condition.vector))
        mean, std = self.base(condition.vector)
        parameters = PlanarParameters(condition.u, condition.w, condition.b)
        return PlanarFlow(mean, std, parameters, constrained=self.config.constrained)
