"""Prompt distributions: image-specific for the context, image-agnostic for the two states.

Each module maps a context to a distribution over shifts of the prompts, with ``rsample``.

Symbols: B images, R samples, D joint width, K flow length.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from bayes_pfl.config import FlowConfig
from bayes_pfl.model.flows import FlowSample, PlanarFlow, PlanarParameters

Shift = Literal["sampled", "mean", "none"]
"""How prompts are shifted: by draws of the flow, the mean of its base, or not. The last two are
ablations."""


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
    """Mean and standard deviation of a flow's base (section 3.3), each an MLP of a vector."""

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
    """Distribution whose draws are all the same vector: an ablation of the flow.

    It has no density: its log terms are 0, so that the flow loss is -log N(z; 0, I) alone.

    Args:
        point: (..., D).
    """

    def __init__(self, point: Tensor) -> None:
        self.point = point

    def rsample(self, noise: Tensor) -> FlowSample:
        """Copies of the point in the shape of ``noise`` (..., R, D), whose values are not used."""
        z = self.point.unsqueeze(-2) + torch.zeros_like(noise)  # (..., R, D)
        zero = z.new_zeros(z.shape[:-1])
        return FlowSample(z, log_base=zero, log_det=zero)


PromptDistribution = PlanarFlow | PointMass


def _unsampled(shift: Shift, base: GaussianBase, condition: Tensor) -> PointMass:
    """The distribution of both ablations: the mean of the base, or zero."""
    return PointMass(base.mean(condition) if shift == "mean" else torch.zeros_like(condition))


class ImageSpecificFlow(nn.Module):
    """Distribution over the context of the prompts, conditioned on the image (paper: section 3.3).

    Args:
        width: D.
        hidden: width inside the MLPs, published as half the vision width.
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

    def forward(self, pooled: Tensor) -> PromptDistribution:
        """Global image embeddings (B, D), not normalised -> distribution of batch shape (B,)."""
        if self.shift != "sampled":
            return _unsampled(self.shift, self.base, pooled)
        steps = (self.config.length, self.width)
        parameters = PlanarParameters(
            u=self.u(pooled).unflatten(-1, steps),  # (B, K, D)
            w=self.w(pooled).unflatten(-1, steps),  # (B, K, D)
            b=self.b(pooled),  # (B, K)
        )
        mean, std = self.base(pooled)
        return PlanarFlow(mean, std, parameters, constrained=self.config.constrained)


class AgnosticCondition(nn.Module):
    """Parameters of one state: the vector that conditions its base, and its K flow steps."""

    def __init__(self, width: int, length: int) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.randn(width))
        self.u = nn.Parameter(torch.randn(length, width))
        self.w = nn.Parameter(torch.randn(length, width))
        self.b = nn.Parameter(torch.randn(length))


class ImageAgnosticFlow(nn.Module):
    """Distributions over the normal and the abnormal state of the prompts (paper: section 3.3).

    Both states share the MLPs of the base.
    """

    def __init__(
        self, width: int, hidden: int, config: FlowConfig, shift: Shift = "sampled"
    ) -> None:
        super().__init__()
        self.config, self.shift = config, shift
        self.base = GaussianBase(width, hidden)
        self.normal = AgnosticCondition(width, config.length)
        self.abnormal = AgnosticCondition(width, config.length)

    def forward(self) -> tuple[PromptDistribution, PromptDistribution]:
        """Distributions of the normal and of the abnormal state, without batch shape."""
        return self._distribution(self.normal), self._distribution(self.abnormal)

    def _distribution(self, condition: AgnosticCondition) -> PromptDistribution:
        if self.shift != "sampled":
            return _unsampled(self.shift, self.base, condition.vector)
        mean, std = self.base(condition.vector)
        parameters = PlanarParameters(condition.u, condition.w, condition.b)
        return PlanarFlow(mean, std, parameters, constrained=self.config.constrained)
