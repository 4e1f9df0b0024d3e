"""All tapped layers side by side as one, with how unlike the rest of its image each token is.

Not in the paper, which reads every layer of a large ViT by itself. A small convolutional tower sees
fine detail in one stage and meaning in another, and none of its tokens knows of the whole image: a
linear map of one stage can tell *busy* from *smooth*, hardly *unusual* from *usual*.

Symbols: B images, C channels and h*w cells of a layer, N tokens of the common grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from bayes_pfl.clip.fast_image_tower import few_at_once

UNLIKENESS_CHANNELS = 4
"""Of each layer: two measures, each as it is and standardised over the image."""

_NEAR = 0.1  # of the side: cells so near share most of what they see, and do not count as others
_EPSILON = 1e-6
_AT_ONCE = 2**23  # numbers of the (N, N) similarities of a part of the batch: 32 MB
_CACHED = 2**20  # the same on a CPU, within the reach of a last cache


def join_layers(layers: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
    """Maps (B, C_l, h_l, w_l) of each layer -> one layer of tokens (B, N, V).

    V = sum(C_l) + 4 L + 1: of each layer its channels, divided by their root mean square over the
    image, and its :func:`unlikeness`; at the end a constant, by which a linear map gets its bias.
    """
    parts = []
    for layer in layers:
        layer = layer.float()
        unlike = torch.cat([unlikeness(to_grid(x, grid, True)) for x in _parts(layer, grid)])
        power = layer.square().mean((1, 2, 3), keepdim=True)
        parts += [to_grid(layer * (power + _EPSILON).rsqrt(), grid), to_grid(unlike, grid)]
    joined = torch.cat([*parts, torch.ones_like(parts[0][:, :1])], dim=1)
    return joined.flatten(2).transpose(1, 2)


def _parts(layer: Tensor, grid: tuple[int, int]) -> tuple[Tensor, ...]:
    """As many images at once as the similarities of their cells leave room for."""
    cells = min(math.prod(layer.shape[-2:]), math.prod(grid))
    numbers = _CACHED if few_at_once(layer) else _AT_ONCE
    return layer.split(max(1, numbers // cells**2))


def unlikeness(layer: Tensor) -> Tensor:
    """Distance of each cell to the most similar one elsewhere in the image, (B, 4, h, w).

    One minus the largest cosine similarity to a cell farther away than a tenth of the side: of
    channels standardised over the image, and of the channels as they are; then both once more,
    standardised over the image. What is repeated in an image is low, what is there once is high.
    """
    size = layer.shape[-2:]
    tokens = layer.flatten(2).transpose(1, 2)
    spread = _spread(tokens, 1)
    floor = spread.mean(-1, keepdim=True) / 4 + _EPSILON  # a channel that hardly varies is noise
    standardised = (tokens - tokens.mean(1, keepdim=True)) / (spread + floor)
    near = _near(size[0], size[1], layer.device)
    found = torch.stack([_lonely(x, near) for x in (standardised, tokens)], dim=1)
    middle, width = found.mean(-1, keepdim=True), _spread(found, -1)
    return torch.cat([5 * found, (found - middle) / (width + 0.02)], dim=1).unflatten(-1, size)


def to_grid(layer: Tensor, grid: tuple[int, int], only_coarser: bool = False) -> Tensor:
    """Resample (B, C, h, w) to ``grid``; with ``only_coarser`` a coarser layer stays as it is."""
    size = tuple(layer.shape[-2:])
    if size == grid or (only_coarser and size < grid):
        return layer
    # In float32: half precision has no antialiased resizing on the CPU.
    layer = layer.float()
    return F.interpolate(layer, grid, mode="bilinear", align_corners=False, antialias=True)


def _spread(values: Tensor, dim: int) -> Tensor:
    """Standard deviation along ``dim``, which is kept; of a single value 0."""
    return values.std(dim, correction=min(1, values.shape[dim] - 1), keepdim=True)


def _lonely(tokens: Tensor, near: Tensor) -> Tensor:
    """(B, N, C) -> (B, N): one minus the largest cosine to a token that is not near."""
    directions = F.normalize(tokens, dim=-1)
    similar = directions @ directions.transpose(1, 2)
    return 1 - similar.masked_fill_(near, -1.0).amax(-1)


@lru_cache(maxsize=16)
def _near(height: int, width: int, device: torch.device) -> Tensor:
    """(N, N), True for cells so near to each other, and for each cell itself."""
    rows = torch.arange(height, device=device).repeat_interleave(width)
    columns = torch.arange(width, device=device).repeat(height)
    apart = torch.maximum((rows[:, None] - rows).abs(), (columns[:, None] - columns).abs())
    return apart <= max(1, round(_NEAR * max(height, width)))
