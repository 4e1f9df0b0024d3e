"""Planar normalizing flows as distributions: a Gaussian base, K planar steps, sampling and density.

Symbols: D width of a sample, K flow length, R samples; ``...`` any batch shape.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_SQUARED_NORM_FLOOR = 1e-12  # below it, w.u < -1 would need |u| > 1e6


@dataclass(frozen=True)
class PlanarParameters:
    """Parameters of K planar steps: ``u``, ``w`` (..., K, D) and ``b`` (..., K)."""

    u: Tensor
    w: Tensor
    b: Tensor


@dataclass(frozen=True)
class FlowSample:
    """Draws from a flow, with what its loss needs.

    Attributes:
        z: the sample z_K, (..., R, D).
        log_base: log q(z_0) without the 2*pi constant, (..., R).
        log_det: sum over the steps of log|det dz_k/dz_{k-1}|, (..., R).
    """

    z: Tensor
    log_base: Tensor
    log_det: Tensor


def constrain_u(u: Tensor, w: Tensor) -> Tensor:
    """The nearest u along w with w.u >= -1, so that a planar step is invertible.

    u' = u + (m(w.u) - w.u) w / |w|^2 with m(x) = -1 + softplus(x)
    (Rezende & Mohamed 2015, appendix A.1).
    """
    product = (w * u).sum(-1, keepdim=True)
    # A zero w makes the step a translation, which is invertible whatever u is: the floor only
    # keeps the quotient, and its gradient, in bounds there.
    norm = w.square().sum(-1, keepdim=True).clamp_min(_SQUARED_NORM_FLOOR)
    return u + (F.softplus(product) - 1 - product) * w / norm


def planar_step(z: Tensor, u: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """One planar transform g(z) = z + u tanh(w.z + b), and log|det dg/dz|.

    Args:
        z: (..., R, D).  u, w: (..., D).  b: (...).

    Returns:
        g(z), (..., R, D), and log(|1 + u.psi| + 1e-5), (..., R), with psi = w (1 - tanh^2(w.z + b))
        (Rezende & Mohamed 2015, equations 10 to 12; the 1e-5 is the published implementation's).
    """
    activation = torch.tanh((z * w.unsqueeze(-2)).sum(-1) + b.unsqueeze(-1))
    slope = (1 - activation.square()) * (w * u).sum(-1).unsqueeze(-1)
    return z + u.unsqueeze(-2) * activation.unsqueeze(-1), torch.log((1 + slope).abs() + 1e-5)


class PlanarFlow:
    """Distribution of z_K: a diagonal Gaussian pushed through K planar steps.

    Args:
        mean, std: of the base, (..., D); std > 0.
        parameters: of the steps, with the same leading shape.
        constrained: apply :func:`constrain_u`, as new models do; converted ones do not.
    """

    def __init__(
        self, mean: Tensor, std: Tensor, parameters: PlanarParameters, *, constrained: bool
    ) -> None:
        self.mean, self.std = mean, std
        u = constrain_u(parameters.u, parameters.w) if constrained else parameters.u
        self._steps = PlanarParameters(u, parameters.w, parameters.b)

    def transform(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Push z_0 (..., R, D) through all steps: z_K and the summed log-determinants (..., R)."""
        steps = self._steps
        log_det = z.new_zeros(z.shape[:-1])
        for k in range(steps.b.shape[-1]):
            z, step = planar_step(z, steps.u[..., k, :], steps.w[..., k, :], steps.b[..., k])
            log_det = log_det + step
        return z, log_det

    def rsample(self, noise: Tensor) -> FlowSample:
        """Reparameterised draws from standard-normal ``noise`` (..., R, D) (paper: equation 5)."""
        base = self.mean.unsqueeze(-2) + self.std.unsqueeze(-2) * noise
        z, log_det = self.transform(base)
        log_base = -(self.std.log().unsqueeze(-2) + noise.square() / 2).sum(-1)
        return FlowSample(z, log_base.expand(log_det.shape), log_det)
