"""Anomaly maps from text embeddings and patches: mean and spread over pairs, a few pairs at a time.

Symbols: B images, K = R*M prompt pairs, N = h*w patches, L layers, S image side, D joint width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bayes_pfl.model.cross_attention import ResidualCrossModalAttention
from bayes_pfl.support.precision import without_autocast
from bayes_pfl.support.tracing import is_exporting

_PIXELS_AT_ONCE = 1_000_000  # floats of an upsampled chunk: 4 MB, which most CPU caches hold


def pair_logits(
    attention: ResidualCrossModalAttention, text: Tensor, patches: Tensor, scale: Tensor
) -> Tensor:
    """Logit of the abnormal against the normal prompt of every pair, at every patch of one layer.

    A two-way softmax is a sigmoid of the difference, so only the difference is computed.

    Args:
        text: normalised embeddings (B, 2, K, D), normal first.
        patches: projected patches F_s of the layer (B, N, D).
        scale: exp of the pixel temperature.

    Returns:
        (B, K, N).
    """
    attended = attention.attend(text.flatten(1, 2), patches)  # (B, 2*K, D)
    normal, abnormal = attended.chunk(2, dim=1)  # (B, K, D)
    return (abnormal - normal) @ patches.transpose(1, 2) * scale  # (B, K, N)


def upsampled_probability(logits: Tensor, grid: tuple[int, int], size: int) -> Tensor:
    """Logits at patches (B, K, N) -> abnormal probability at pixels (B, K, S, S).

    Bilinear upsampling is linear, so upsampling the difference equals upsampling both logits.
    """
    logits = logits.float().unflatten(-1, grid)  # (B, K, h, w)
    if logits.device.type != "cpu":
        return F.interpolate(logits, (size, size), mode="bilinear", align_corners=True).sigmoid()
    # On a CPU two products with the weights of each axis take half the time.
    rows, columns = (_bilinear_weights(cells, size) for cells in grid)
    with without_autocast(logits.device):
        return (rows @ (logits @ columns.T)).sigmoid()


def _bilinear_weights(cells: int, size: int) -> Tensor:
    """Weight of each cell at each pixel of one axis, (S, cells), with aligned corners."""
    step = np.float32(cells - 1) / np.float32(max(1, size - 1))
    place = step * np.arange(size, dtype=np.float32)  # in cells
    distance = np.abs(place[:, None] - np.arange(cells, dtype=np.float32))  # (S, cells)
    return torch.from_numpy(np.maximum(0, 1 - distance))


def mean_and_spread(
    logits: Sequence[Tensor], grid: tuple[int, int], size: int
) -> tuple[Tensor, Tensor]:
    """Anomaly map and its uncertainty, without holding the maps of all pairs and layers.

    Args:
        logits: (B, K, N) of each layer.

    Returns:
        Mean over pairs and layers, and standard deviation over pairs of the mean over layers;
        both (B, S, S), the mean in [0, 1], the deviation in [0, 0.5].
    """
    batch, pairs, _ = logits[0].shape
    # Sums of deviations from the first pair: squares of the values themselves would cancel badly
    # where the pairs agree.
    first = _layer_mean(logits, slice(0, 1), grid, size)
    total = torch.zeros_like(first[:, 0])
    squares = torch.zeros_like(total)
    # A graph for any number of images has one number of chunks: that of a single image.
    images = 1 if is_exporting() else batch
    step = max(1, _PIXELS_AT_ONCE // (images * size * size))
    for start in range(0, pairs, step):
        deviation = _layer_mean(logits, slice(start, start + step), grid, size) - first
        total += deviation.sum(1)
        squares += deviation.square().sum(1)
    shift = total / pairs
    spread = (squares / pairs - shift.square()).clamp_min(0).sqrt()
    return (first[:, 0] + shift).clamp(0, 1), spread


def highest_pixels(maps: Tensor, fraction: float) -> Tensor:
    """Indices of the highest pixels of each map, (B, S, S) -> (B, T), counted row by row.

    Of equal pixels the first ones are taken, so that the choice is the same in every batch.

    Args:
        maps: in [0, 1].
        fraction: T is this share of the S*S pixels, at least 1.
    """
    values = maps.flatten(1)  # (B, S*S)
    pixels = values.shape[1]
    count = max(1, round(fraction * pixels))
    if is_exporting():  # the TopK of ONNX takes the first of equal values
        return values.topk(count, dim=1).indices
    # The bits of non-negative floats, read as integers, are ordered as the floats are; each gets
    # the pixel's place in its lower digits.
    ranks = (values.float() + 0.0).contiguous().view(torch.int32).long() * pixels
    ranks += torch.arange(pixels - 1, -1, -1, device=maps.device)
    return ranks.topk(count, dim=1, sorted=False).indices


def pairs_at(
    logits: Sequence[Tensor],
    grid: tuple[int, int],
    size: int,
    places: Tensor,
    counted: Tensor | None = None,
) -> Tensor:
    """Mean of each pair's own map over the given pixels: (B, K), in [0, 1].

    Args:
        logits: (B, K, N) of each layer.
        places: indices (B, T) of pixels, counted row by row.
        counted: bool (B, T); a pixel that does not count is 0 in every map. None for all.
    """
    corners = torch.stack([places % size, places // size], dim=-1).float()  # (B, T, 2), x before y
    points = (corners * (2 / max(1, size - 1)) - 1)[:, None]  # (B, 1, T, 2), in [-1, 1]
    total = torch.zeros((), device=places.device)
    for layer in logits:
        values = layer.float().unflatten(-1, grid)  # (B, K, h, w)
        at = F.grid_sample(values, points, padding_mode="border", align_corners=True)
        values_there = at[:, :, 0].sigmoid()  # (B, K, T)
        if counted is not None:
            values_there = values_there * counted[:, None]
        total = total + values_there.mean(-1)
    return total / len(logits)


def _layer_mean(logits: Sequence[Tensor], pairs: slice, grid: tuple[int, int], size: int) -> Tensor:
    """Probability of some pairs, averaged over the layers, (B, k, S, S)."""
    total = upsampled_probability(logits[0][:, pairs], grid, size)
    for layer in logits[1:]:
        total += upsampled_probability(layer[:, pairs], grid, size)
    return total / len(logits)
