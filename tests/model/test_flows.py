"""Planar flows: densities against autograd and torch.distributions, invertibility, gradients."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bayes_pfl.config import FlowConfig
from bayes_pfl.model.flows import PlanarFlow, PlanarParameters, constrain_u, planar_step
from bayes_pfl.model.prompt_distributions import ImageAgnosticFlow, ImageSpecificFlow

WIDTH, LENGTH = 6, 4


def parameters(seed, *, scale=1.0, batch=()):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*batch, *shape, generator=generator, dtype=torch.float64) * scale

    return PlanarParameters(normal(LENGTH, WIDTH), normal(LENGTH, WIDTH), normal(LENGTH))


def flow(seed, constrained, scale=1.0):
    zeros = torch.zeros(WIDTH, dtype=torch.float64)
    return PlanarFlow(zeros, zeros + 1, parameters(seed, scale=scale), constrained=constrained)


def points(count, seed=0):
    generator = torch.Generator().manual_seed(100 + seed)
    return torch.randn(count, WIDTH, generator=generator, dtype=torch.float64)


def log_abs_det(function, z):
    jacobian = torch.autograd.functional.jacobian(lambda x: function(x[None])[0][0], z)
    return torch.linalg.slogdet(jacobian).logabsdet


@pytest.mark.parametrize("constrained", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_log_determinant_of_one_step_is_that_of_the_jacobian(seed, constrained):
    p = parameters(seed)
    u, w, b = p.u[0], p.w[0], p.b[0]
    u = constrain_u(u, w) if constrained else u
    z = points(5, seed)
    _, claimed = planar_step(z, u, w, b)
    for row, value in zip(z, claimed, strict=True):
        true = log_abs_det(lambda x, u=u, w=w, b=b: planar_step(x, u, w, b), row)
        # the published 1e-5 inside the logarithm is part of the claim
        torch.testing.assert_close(value.exp() - 1e-5, true.exp(), atol=1e-9, rtol=0)


@pytest.mark.parametrize("constrained", [True, False])
def test_log_determinant_of_the_whole_flow_is_that_of_the_jacobian(constrained):
    whole = flow(7, constrained, scale=0.7)
    z = points(4)
    _, claimed = whole.transform(z)
    for row, value in zip(z, claimed, strict=True):
        true = log_abs_det(whole.transform, row)
        torch.testing.assert_close(value, true, atol=1e-3, rtol=0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(1e-3, 100))
def test_constrained_u_keeps_every_step_invertible(seed, scale):
    p = parameters(seed, scale=scale)
    u = constrain_u(p.u, p.w)
    assert ((p.w * u).sum(-1) >= -1 - 1e-9).all()
    # only the part along w moves
    moved = u - p.u
    along = (moved * p.w).sum(-1, keepdim=True) / p.w.square().sum(-1, keepdim=True) * p.w
    torch.testing.assert_close(moved, along, rtol=1e-8, atol=1e-8)


def test_constrained_step_is_strictly_monotone_along_w():
    p = parameters(3, scale=3)
    grid = torch.linspace(-4, 4, 4001, dtype=torch.float64)[:, None]
    for u, w, b in zip(constrain_u(p.u, p.w), p.w, p.b, strict=True):
        direction = w / w.norm()
        out, _ = planar_step(grid * direction, u, w, b)
        assert ((out @ direction).diff() > -1e-12).all()


def test_unconstrained_step_may_fold():
    w = torch.tensor([2.0, 0.0])
    u, b = torch.tensor([-3.0, 0.0]), torch.tensor(0.0)
    line = torch.linspace(-2, 2, 101)[:, None] * torch.tensor([1.0, 0.0])
    assert (planar_step(line, u, w, b)[0][:, 0].diff() < 0).any()
    assert (planar_step(line, constrain_u(u, w), w, b)[0][:, 0].diff() > 0).all()


def test_inverse_found_by_bisection_returns_the_start():
    whole = flow(11, constrained=True)
    z = points(3)
    result, _ = whole.transform(z)
    # undo the steps from the last: alpha = w.z solves alpha + w.u tanh(alpha + b) = w.y
    p = parameters(11)
    u = constrain_u(p.u, p.w)
    for k in reversed(range(LENGTH)):
        target, wu = result @ p.w[k], p.w[k] @ u[k]
        low, high = target - abs(wu) - 1, target + abs(wu) + 1
        for _ in range(80):
            middle = (low + high) / 2
            below = middle + wu * torch.tanh(middle + p.b[k]) < target
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        result = result - u[k] * torch.tanh(low + p.b[k])[:, None]
    torch.testing.assert_close(result, z, atol=1e-7, rtol=0)


@pytest.mark.parametrize("constrained", [True, False])
@pytest.mark.parametrize("zero_w", [True, False])
def test_gradient_reaches_every_parameter_and_is_finite(constrained, zero_w):
    p = parameters(5)
    w = torch.zeros_like(p.w) if zero_w else p.w
    u, w, b = (x.float().clone().requires_grad_() for x in (p.u, w, p.b))
    mean, std = torch.zeros(WIDTH, requires_grad=True), torch.ones(WIDTH, requires_grad=True)
    whole = PlanarFlow(mean, std, PlanarParameters(u, w, b), constrained=constrained)
    sample = whole.rsample(points(3).float())
    (sample.z.square().sum() + sample.log_base.sum() - sample.log_det.sum()).backward()
    for leaf in (u, w, b, mean, std):
        assert leaf.grad.isfinite().all()
    assert w.grad.abs().sum() > 0 and mean.grad.abs().sum() > 0 and std.grad.abs().sum() > 0
    assert all(torch.isfinite(x).all() for x in (sample.z, sample.log_base, sample.log_det))


def test_log_base_is_the_normal_density_without_its_constant():
    p = parameters(2)
    mean, std = torch.randn(WIDTH).double(), torch.rand(WIDTH).double() + 0.1
    noise = points(8)
    sample = PlanarFlow(mean, std, p, constrained=False).rsample(noise)
    density = torch.distributions.Normal(mean, std).log_prob(mean + std * noise).sum(-1)
    torch.testing.assert_close(sample.log_base, density + WIDTH / 2 * math.log(2 * math.pi))


def test_density_integrates_to_one():
    """The change of variables in one dimension, with every part in it."""
    p = PlanarParameters(
        *(
            x[:, :1] if x.ndim == 2 else x
            for x in (parameters(9).u, parameters(9).w, parameters(9).b)
        )
    )
    std = torch.full((1,), 0.8, dtype=torch.float64)
    flow_1d = PlanarFlow(torch.zeros(1).double(), std, p, constrained=True)
    noise = torch.linspace(-7, 7, 20001, dtype=torch.float64)[:, None]
    sample = flow_1d.rsample(noise)
    density = (sample.log_base - 0.5 * math.log(2 * math.pi) - sample.log_det).exp()
    assert float(torch.trapezoid(density, sample.z[:, 0])) == pytest.approx(1, abs=1e-3)


def test_batch_shape_is_row_by_row():
    p = parameters(4, batch=(3,))
    mean, std = torch.randn(3, WIDTH).double(), torch.rand(3, WIDTH).double() + 0.5
    noise = points(5)
    together = PlanarFlow(mean, std, p, constrained=True).rsample(noise)
    for row in range(3):
        alone = PlanarFlow(
            mean[row], std[row], PlanarParameters(p.u[row], p.w[row], p.b[row]), constrained=True
        ).rsample(noise)
        for name in ("z", "log_base", "log_det"):
            torch.testing.assert_close(getattr(together, name)[row], getattr(alone, name))


def test_length_zero_is_the_gaussian_itself():
    empty = PlanarParameters(torch.zeros(0, 3), torch.zeros(0, 3), torch.zeros(0))
    sample = PlanarFlow(torch.ones(3), torch.ones(3) * 2, empty, constrained=True).rsample(
        torch.ones(1, 3)
    )
    assert sample.z.tolist() == [[3.0, 3.0, 3.0]] and sample.log_det.tolist() == [0.0]


@pytest.mark.parametrize("constrained", [True, False])
def test_image_specific_flow_depends_on_the_image(constrained):
    flows = ImageSpecificFlow(8, 4, FlowConfig(3, constrained))
    first, second = torch.randn(2, 8)
    noise = torch.randn(5, 8)
    both = flows(torch.stack([first, second])).rsample(noise)
    assert both.z.shape == (2, 5, 8) and both.log_det.shape == both.log_base.shape == (2, 5)
    assert not torch.allclose(both.z[0], both.z[1])
    torch.testing.assert_close(flows(second[None]).rsample(noise).z[0], both.z[1])


def test_published_variance_is_exp_of_half_the_output():
    flows = ImageSpecificFlow(8, 4, FlowConfig(1))
    pooled = torch.randn(1, 8)
    _, std = flows.base(pooled)
    torch.testing.assert_close(std**2, torch.exp(flows.base.log_variance(pooled) / 2))


def test_both_states_share_the_base_networks_but_nothing_else():
    flows = ImageAgnosticFlow(8, 4, FlowConfig(2))
    normal, abnormal = flows()
    assert not torch.allclose(normal.mean, abnormal.mean)
    normal.rsample(torch.randn(1, 8)).z.sum().backward()
    assert flows.base.mean[0].weight.grad.abs().sum() > 0
    assert flows.normal.vector.grad is not None and flows.abnormal.vector.grad is None
