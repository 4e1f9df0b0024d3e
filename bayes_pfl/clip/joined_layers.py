"""All tapped layers joined to one, with how unlike the rest of its image each token is.

Not in the paper, which uses each layer of a large ViT by itself. A small convolutional tower
extracts fine detail in one stage and meaning in another, and no token depends on the whole image: a
linear map of one stage separates *busy* from *smooth*, hardly *unusual* from *usual*.

Symbols: B images, C channels and h*w cells of a layer, N tokens of the common grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bayes_pfl.clip.fast_image_tower import should_split
from bayes_pfl.support.tracing import is_exporting

UNLIKENESS_CHANNELS = 4
"""Channels added for each layer: two measures, each plain and standardised over the image."""

_NEAR = 0.1  # of the side: nearer cells share most of their pixels, and are not compared
_EPSILON = 1e-6
_AT_ONCE = 2**23  # numbers of the (N, N) similarities of a part of the batch: 32 MB
_CACHED = 2**20  # the same on a CPU: 4 MB, which most last-level caches hold


def join_layers(layers: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
    """Maps (B, C_l, h_l, w_l) of each of L layers -> one layer of tokens (B, N, V).

    V = sum(C_l) + 4 L + 1: for each layer its channels, divided by their root mean square over the
    image, and its :func:`unlikeness`; last a constant 1, which gives linear maps a bias.
    """
    parts = []
    for layer in layers:
        layer = layer.float()
        unlike = torch.cat([unlikeness(to_grid(x, grid, True)) for x in _parts(layer, grid)])
        power = layer.square().mean((1, 2, 3), keepdim=True)
        parts += [to_grid(layer * (power + _EPSILON).rsqrt(), grid), to_grid(unlike, grid)]
    joined = torch.cat([*parts, torch.ones_like(parts[0][:, :1])], dim=1)
    return joined.flatten(2).transpose(1, 2)  # (B, N, V)


def _parts(layer: Tensor, grid: tuple[int, int]) -> tuple[Tensor, ...]:
    """The batch in parts whose similarities between cells fit into memory."""
    if is_exporting():  # for any number of images: no parts
        return (layer,)
    cells = min(math.prod(layer.shape[-2:]), math.prod(grid))
    numbers = _CACHED if should_split(layer) else _AT_ONCE
    parts: tuple[Tensor, ...] = layer.split(max(1, numbers // cells**2))
    return parts


def unlikeness(layer: Tensor) -> Tensor:
    """Distance of each cell to the most similar one elsewhere in the image.

    Repeated texture gets low values, what occurs once gets high ones.

    Args:
        layer: (B, C, h, w).

    Returns:
        (B, 4, h, w): one minus the largest cosine to a cell farther away than a tenth of the side,
        for channels standardised over the image, and for plain channels; then both standardised
        over the image.
    """
    size = layer.shape[-2:]
    tokens = layer.flatten(2).transpose(1, 2)  # (B, N, C)
    spread = _spread(tokens, 1)
    floor = spread.mean(-1, keepdim=True) / 4 + _EPSILON  # a channel that hardly varies is noise
    standardised = (tokens - tokens.mean(1, keepdim=True)) / (spread + floor)
    near = _near(size[0], size[1], layer.device)
    distances = [_distance_to_nearest(x, near) for x in (standardised, tokens)]
    found = torch.stack(distances, dim=1)  # (B, 2, N)
    middle, width = found.mean(-1, keepdim=True), _spread(found, -1)
    measures = torch.cat([5 * found, (found - middle) / (width + 0.02)], dim=1)  # (B, 4, N)
    return measures.view(*measures.shape[:2], *size)  # (B, 4, h, w)


def to_grid(layer: Tensor, grid: tuple[int, int], only_coarser: bool = False) -> Tensor:
    """Resample (B, C, h, w) to ``grid``; ``only_coarser`` returns coarser layers unchanged."""
    size = tuple(layer.shape[-2:])
    if size == grid or (only_coarser and size < grid):
        return layer
    # In float32: half precision has no antialiased resizing on the CPU.
    layer = layer.float()
    if is_exporting():  # runtimes differ in what they do at antialiased resizing
        rows, columns = (_resizing(*lengths) for lengths in zip(size, grid, strict=True))
        return rows @ layer @ columns.T
    return F.interpolate(layer, grid, mode="bilinear", align_corners=False, antialias=True)


def _resizing(cells: int, wanted: int) -> Tensor:
    """What each cell of a line counts for each of the wanted ones, (wanted, cells), antialiased."""
    scale = cells / wanted
    centre = scale * (np.arange(wanted) + 0.5)
    distance = np.abs(np.arange(cells) + 0.5 - centre[:, None]) / max(scale, 1)
    weights = np.maximum(0, 1 - distance)
    return torch.from_numpy((weights / weights.sum(1, keepdims=True)).astype(np.float32))


def _spread(values: Tensor, dim: int) -> Tensor:
    """Standard deviation along ``dim``, which stays with length 1; 0 for a single value."""
    return values.std(dim, correction=min(1, values.shape[dim] - 1), keepdim=True)


def _distance_to_nearest(tokens: Tensor, near: Tensor) -> Tensor:
    """(B, N, C) -> (B, N): one minus the largest cosine to a token that is not near."""
    directions = F.normalize(tokens, dim=-1)
    similar = directions @ directions.transpose(1, 2)  # (B, N, N)
    if is_exporting():  # runtimes add faster than they choose
        return 1 - (similar - 2 * near.float()).amax(-1).clamp_min(-1)
    return 1 - similar.masked_fill_(near, -1.0).amax(-1)


@lru_cache(maxsize=16)
def _near(height: int, width: int, device: torch.device) -> Tensor:
    """(N, N), True for pairs of cells nearer than _NEAR, and for each cell with itself."""
    rows = torch.arange(height, device=device).repeat_interleave(width)
    columns = torch.arange(width, device=device).repeat(height)
    apart = torch.maximum((rows[:, None] - rows).abs(), (columns[:, None] - columns).abs())
    return apart <= max(1, round(_NEAR * max(height, width)))
