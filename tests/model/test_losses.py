"""Loss terms against plain references and torch.distributions."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bayes_pfl.model.flows import FlowSample, PlanarFlow, PlanarParameters
from bayes_pfl.model.losses import dice_loss, flow_loss, focal_loss, orthogonal_loss


def probability_and_mask(seed=0, shape=(2, 5, 5)):
    generator = torch.Generator().manual_seed(seed)
    p = torch.rand(shape, generator=generator, dtype=torch.float64) * 0.98 + 0.01
    return p, (torch.rand(shape, generator=generator) > 0.6).double()


def focal_by_hand(p, mask, gamma):
    total = 0.0
    for value in (1, 0):
        terms = []
        for x, y in zip(p.flatten().tolist(), mask.flatten().tolist(), strict=True):
            if y == value:
                true = torch.tensor(x if y else 1 - x, dtype=torch.float64)
                terms.append(float(-((1 - true) ** gamma) * true.log()))
        total += sum(terms) / len(terms) if terms else 0.0
    return total


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 3.5])
def test_focal_equals_the_pixel_by_pixel_sum(gamma):
    p, mask = probability_and_mask()
    assert float(focal_loss(p, mask, gamma)) == pytest.approx(focal_by_hand(p, mask, gamma))


def test_focal_without_gamma_is_balanced_cross_entropy():
    p, mask = probability_and_mask(1)
    entropy = torch.nn.functional.binary_cross_entropy(p, mask, reduction="none")
    wanted = entropy[mask == 1].mean() + entropy[mask == 0].mean()
    torch.testing.assert_close(focal_loss(p, mask, 0.0), wanted)


def test_focal_of_a_batch_without_anomaly_is_the_background_alone():
    p, _ = probability_and_mask()
    for value in (0.0, 1.0):
        mask = torch.full_like(p, value)
        assert float(focal_loss(p, mask)) == pytest.approx(focal_by_hand(p, mask, 2.0))


def test_focal_averages_each_class_by_itself():
    p = torch.tensor([0.3, 0.2, 0.2, 0.2])
    few = focal_loss(p[:2], torch.tensor([1.0, 0.0]))
    many = focal_loss(p, torch.tensor([1.0, 0.0, 0.0, 0.0]))
    torch.testing.assert_close(few, many)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_certain_predictions_give_finite_losses_and_gradients(value):
    for loss in (focal_loss, dice_loss):
        p = torch.full((2, 3, 3), value, requires_grad=True)
        mask = torch.zeros(2, 3, 3)
        mask[0, 0] = 1
        result = loss(p, mask)
        result.backward()
        assert result.isfinite() and p.grad.isfinite().all()


def test_dice_equals_twice_the_overlap_over_the_sum():
    p, mask = probability_and_mask(2)
    overlap = sum(a * b for a, b in zip(p.flatten(), mask.flatten(), strict=True))
    wanted = 1 - (2 * overlap + 1e-5) / (p.sum() + mask.sum() + 1e-5)
    torch.testing.assert_close(dice_loss(p, mask), wanted)


def test_dice_bounds():
    _, mask = probability_and_mask(3)
    assert float(dice_loss(mask, mask)) == pytest.approx(0, abs=1e-9)
    assert float(dice_loss(1 - mask, mask)) == pytest.approx(1, abs=1e-5)
    empty = torch.zeros_like(mask)
    assert float(dice_loss(empty, empty)) == pytest.approx(0, abs=1e-9)


def test_dice_is_over_the_whole_batch_at_once():
    p, mask = probability_and_mask(4)
    apart = torch.stack([dice_loss(a, b) for a, b in zip(p, mask, strict=True)]).mean()
    together = dice_loss(p, mask)
    assert not torch.allclose(apart, together)
    torch.testing.assert_close(together, dice_loss(p.flatten(), mask.flatten()))


def gaussian_sample(mean, std, noise):
    """A flow of one step whose u is zero: z_K = z_0, log|det| = log(1 + 1e-5)."""
    width = mean.shape[-1]
    batch = mean.shape[:-1]
    step = PlanarParameters(
        torch.zeros(*batch, 1, width), torch.ones(*batch, 1, width), torch.zeros(*batch, 1)
    )
    return PlanarFlow(mean, std, step, constrained=False).rsample(noise)


def test_flow_loss_of_a_gaussian_is_its_divergence_from_the_standard_one():
    torch.manual_seed(0)
    mean, std = torch.randn(3, 4), torch.rand(3, 4) + 0.5
    noise = torch.randn(3, 1, 4)
    z = mean[:, None] + std[:, None] * noise
    q, p = torch.distributions.Normal(mean[:, None], std[:, None]), torch.distributions.Normal(0, 1)
    wanted = (q.log_prob(z) - p.log_prob(z)).sum(-1).mean()
    got = flow_loss(gaussian_sample(mean, std, noise), batch=3)
    torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-5)


def test_flow_loss_estimates_the_kl_divergence():
    torch.manual_seed(0)
    mean, std = torch.randn(1, 4) * 0.5, torch.rand(1, 4) + 0.5
    sample = gaussian_sample(mean, std, torch.randn(1, 60_000, 4))
    # with R draws in one row, the log-determinants are summed over the draws as well
    sample = FlowSample(sample.z, sample.log_base, torch.zeros_like(sample.log_det))
    normal = torch.distributions.Normal
    kl = torch.distributions.kl_divergence(normal(mean, std), normal(0, 1)).sum()
    assert float(flow_loss(sample, 1)) == pytest.approx(float(kl), rel=0.03)


def test_agnostic_flow_loss_divides_its_log_determinant_alone_by_the_batch():
    sample = FlowSample(torch.ones(1, 4), torch.tensor([0.3]), torch.tensor([1.2]))
    assert float(flow_loss(sample, 1)) == pytest.approx(0.3 + 2 - 1.2)
    assert float(flow_loss(sample, 4)) == pytest.approx(0.3 + 2 - 1.2 / 4)


def test_orthogonal_prompts_cost_nothing_and_equal_ones_the_most():
    eye = torch.eye(3)[None]
    assert float(orthogonal_loss(eye, eye)) == 0
    equal = torch.nn.functional.normalize(torch.ones(1, 3, 5), dim=-1)
    assert float(orthogonal_loss(equal, equal)) == pytest.approx(2 * 6 / 9)  # 6 of 9 entries
    assert float(orthogonal_loss(equal[:, :1], equal[:, :1])) == 0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 4))
def test_orthogonal_equals_the_loop_over_pairs(seed, count):
    generator = torch.Generator().manual_seed(seed)
    sets = torch.randn(2, 3, count, 6, generator=generator, dtype=torch.float64)
    sets = torch.nn.functional.normalize(sets, dim=-1)
    wanted = 0.0
    for state in sets:
        for image in state:
            for i in range(count):
                for j in range(count):
                    if i != j:
                        wanted += float(image[i] @ image[j]) ** 2 / (3 * count * count)
    assert float(orthogonal_loss(*sets)) == pytest.approx(wanted)
