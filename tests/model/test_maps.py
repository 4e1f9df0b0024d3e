"""Maps reduced as they come equal the plain path: both logits upsampled, softmax, mean."""

import pytest
import torch
import torch.nn.functional as F

from bayes_pfl.model import maps as anomaly_maps
from bayes_pfl.model.cross_attention import ResidualCrossModalAttention
from bayes_pfl.model.maps import mean_and_spread, pair_logits, upsampled_probability

BATCH, PAIRS, GRID, SIZE, WIDTH = 2, 6, (3, 4), 23, 8


def layer_logits(layers=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (layers, BATCH, 2, PAIRS, GRID[0] * GRID[1])
    return torch.randn(shape, generator=generator) * 4


def plain_path(logits):
    """(L, B, 2, K, N) -> probability (K, B, S, S), averaged over the layers, one by one."""
    pairs = []
    for k in range(PAIRS):
        layers = []
        for layer in logits:
            both = layer[:, :, k].unflatten(-1, GRID)
            both = F.interpolate(both, (SIZE, SIZE), mode="bilinear", align_corners=True)
            layers.append(both.softmax(1)[:, 1])
        pairs.append(torch.stack(layers).mean(0))
    return torch.stack(pairs)


def differences(logits):
    return [layer[:, 1] - layer[:, 0] for layer in logits]


@pytest.mark.parametrize("layers", [1, 3])
def test_mean_and_spread_equal_the_plain_path(layers):
    logits = layer_logits(layers)
    mean, spread = mean_and_spread(differences(logits), GRID, SIZE)
    plain = plain_path(logits)
    torch.testing.assert_close(mean, plain.mean(0), atol=1e-6, rtol=0)
    torch.testing.assert_close(spread, plain.std(0, correction=0), atol=1e-6, rtol=0)


@pytest.mark.parametrize("pixels", [1, 2 * SIZE * SIZE * BATCH, 10**9])
def test_chunking_has_no_influence(pixels, monkeypatch):
    given = differences(layer_logits())
    whole = mean_and_spread(given, GRID, SIZE)
    monkeypatch.setattr(anomaly_maps, "_PIXELS_AT_ONCE", pixels)
    for a, b in zip(whole, mean_and_spread(given, GRID, SIZE), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


def test_pairs_that_agree_have_no_spread():
    one = differences(layer_logits())
    same = [x[:, :1].expand(-1, PAIRS, -1) for x in one]
    mean, spread = mean_and_spread(same, GRID, SIZE)
    assert float(spread.max()) < 1e-6
    torch.testing.assert_close(mean, mean_and_spread([x[:, :1] for x in one], GRID, SIZE)[0])


def test_bounds_at_extreme_logits():
    sign = torch.ones(1, 4, 12) * torch.tensor([1.0, -1.0, 1.0, -1.0]).view(1, 4, 1)
    mean, spread = mean_and_spread([sign * 1e4], GRID, SIZE)
    torch.testing.assert_close(mean, torch.full_like(mean, 0.5))
    torch.testing.assert_close(spread, torch.full_like(spread, 0.5))
    mean, _ = mean_and_spread([torch.full((1, 3, 12), 1e4)], GRID, SIZE)
    assert float(mean.max()) <= 1 and float(mean.min()) > 1 - 1e-6


def test_half_precision_logits_give_float32_maps():
    given = [x.bfloat16() for x in differences(layer_logits())]
    assert all(x.dtype == torch.float32 for x in mean_and_spread(given, GRID, SIZE))
    assert upsampled_probability(given[0], GRID, SIZE).dtype == torch.float32


def test_corners_of_the_map_are_the_corner_patches():
    logits = torch.randn(1, 1, 12)
    corners = upsampled_probability(logits, GRID, SIZE)[0, 0][[0, 0, -1, -1], [0, -1, 0, -1]]
    torch.testing.assert_close(corners, logits.sigmoid()[0, 0, [0, 3, 8, 11]])


def test_pair_logits_are_differences_of_cosines():
    torch.manual_seed(0)
    attention = ResidualCrossModalAttention((5,), WIDTH, 4)
    text = F.normalize(torch.randn(BATCH, 2, PAIRS, WIDTH), dim=-1)
    patches = F.normalize(torch.randn(BATCH, 12, WIDTH), dim=-1)
    got = pair_logits(attention, text, patches, torch.tensor(3.0))
    for k in range(PAIRS):
        normal, abnormal = (attention.attend(text[:, s, k : k + 1], patches) for s in (0, 1))
        cosines = [torch.cosine_similarity(t, patches, dim=-1) for t in (normal, abnormal)]
        torch.testing.assert_close(got[:, k], 3 * (cosines[1] - cosines[0]), atol=1e-5, rtol=0)
