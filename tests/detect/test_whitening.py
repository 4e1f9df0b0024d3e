"""Whitening: unit covariance, distances against brute force, and surfaces that do not vary."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bayes_pfl.detect.memory import PatchMemory
from bayes_pfl.detect.whitening import LEAST_VARIANCE, SHRINKAGE, PatchSums

CHANNELS = 8


def patches(count, seed=0):
    """Unit vectors (count, C) that vary much along some channels and little along others."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(count, CHANNELS, generator=generator) * torch.logspace(0, -1, CHANNELS)
    return F.normalize(drawn + 1, dim=-1)


def whitening_of(known):
    sums = PatchSums(CHANNELS)
    for part in known.split(100):
        sums.add(part)
    return sums.whitening()


def test_normal_patches_have_a_covariance_of_one_over_the_channels_but_for_the_shrinkage():
    known = patches(5000)
    found = torch.cov(whitening_of(known)(known).T, correction=0)
    values = torch.linalg.eigvalsh(torch.cov(known.T, correction=0).double())
    shrunk = values / (values + SHRINKAGE * values.mean() + LEAST_VARIANCE)
    wanted = (shrunk / CHANNELS).sort().values.float()
    torch.testing.assert_close(torch.linalg.eigvalsh(found), wanted, atol=1e-4, rtol=1e-3)
    assert found.diagonal().mean() == pytest.approx(1 / CHANNELS, rel=0.05)


def test_distances_are_half_the_squared_mahalanobis_distance():
    known, new = patches(60), patches(14, seed=1).reshape(2, 7, CHANNELS)
    whitening = whitening_of(known)
    owners = torch.arange(60, dtype=torch.int32) // 20
    cells = torch.arange(60, dtype=torch.int32) % 20
    memory = PatchMemory(whitening(known).half(), owners, cells, 3, whitening=whitening)
    found = memory.without(1).nearest(new)

    variances, directions = np.linalg.eigh(np.cov(known.double().numpy().T, bias=True))
    variances = variances + SHRINKAGE * variances.mean() + LEAST_VARIANCE
    inverse = directions @ np.diag(1 / variances) @ directions.T
    others = known[owners != 1].double().numpy()
    away = new.double().numpy()[:, :, None] - others  # (2, 7, 40, C)
    wanted = np.einsum("bnmc,cd,bnmd->bnm", away, inverse, away) / (2 * CHANNELS)
    np.testing.assert_allclose(found.distance, wanted.min(2), rtol=0.02, atol=2e-3)
    assert (found.patch.numpy() == wanted.argmin(2)).mean() > 0.8  # float16 breaks ties


def test_mutual_distances_are_means_of_those_to_the_nearest_pictures():
    known, new = patches(100), patches(5, seed=1)[None]
    whitening = whitening_of(known)
    owners = torch.arange(100, dtype=torch.int32) // 10
    memory = PatchMemory(whitening(known).half(), owners, owners, 10, True, whitening)
    vectors = whitening(known).half().float()
    away = 0.5 * (whitening(new)[0][:, None] - vectors).square().sum(-1)  # (5, 100)
    nearest = away.unflatten(1, (10, 10)).amin(2).topk(3, largest=False).values.mean(1)
    torch.testing.assert_close(memory.nearest(new).distance[0], nearest, atol=1e-4, rtol=1e-4)


def test_an_even_surface_is_not_measured_by_its_rounding():
    even = torch.full((50, CHANNELS), CHANNELS**-0.5)
    whitening = whitening_of(even + 1e-7 * patches(50))
    assert float(whitening(even).abs().max()) < 1e-3
