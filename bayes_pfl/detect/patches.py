"""Patches of an image as directions, to be compared with those of reference pictures.

Not in the paper. The field compares raw tokens of a frozen tower by their cosine: PatchCore (CVPR
2022) takes middle stages of a convolutional tower, averaged over small windows; SubspaceAD (2026)
the mean of middle layers of a transformer.

Symbols: B images, N = h*w cells, V_l channels of layer l, C channels of a direction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from bayes_pfl.clip.frozen_clip import FrozenCLIP
from bayes_pfl.clip.joined_layers import to_grid
from bayes_pfl.config import ReferenceConfig
from bayes_pfl.errors import ConfigError

MOST_CELLS, MOST_CHANNELS = 20, 128
"""Cells along a side, and channels of a layer, by default, for towers in stages."""

_MORE_IN_TILES = 3


@dataclass(frozen=True)
class PatchSettings:
    """How the patches of a run are made, every default filled in; part of a profile.

    Attributes:
        layers: 1-based, of the backbone's tapped ones.
        windows: odd sides, in cells, of the windows that tokens are averaged over.
        grid: (h, w).
        width: channels of a layer, at most.
        most: patches that a memory keeps.
        whitened: whether they are compared by the Mahalanobis distance, not by the cosine, see
            :mod:`bayes_pfl.detect.whitening`.
        farthest: patches of a view whose mean distance is its memory score; None for 1%.

    Raises:
        ConfigError: values that :class:`bayes_pfl.config.ReferenceConfig` refuses.
    """

    layers: tuple[int, ...]
    windows: tuple[int, ...]
    grid: tuple[int, int]
    width: int
    most: int
    whitened: bool = False
    farthest: int | None = None

    def __post_init__(self) -> None:
        if self.farthest is not None and not 1 <= self.farthest <= math.prod(self.grid):
            raise ConfigError(f"farthest = {self.farthest}: 1 to as many as there are cells")
        for side in self.grid:  # a profile may come from a stranger: the config's bounds hold
            ReferenceConfig(self.layers, self.windows, side, self.width, self.most)


def patch_settings(backbone: FrozenCLIP, config: ReferenceConfig) -> PatchSettings:
    """The settings for a backbone: the config's, and the defaults for what that leaves open.

    Raises:
        ConfigError: a layer that is not tapped.
    """
    layers = config.layers or reference_layers(backbone)
    if unknown := [layer for layer in layers if layer not in backbone.layers]:
        raise ConfigError(
            f"references.layers = {list(layers)}: {unknown[0]} is not tapped; the backbone's "
            f"layers are {list(backbone.layers)}"
        )
    shapes = dict(zip(backbone.layers, backbone.stage_shapes, strict=True))
    rows, columns = max(shapes[layer][1:] for layer in layers)
    channels = max(shapes[layer][0] for layer in layers)
    if in_stages(backbone):
        rows, columns, channels = (
            min(rows, MOST_CELLS),
            min(columns, MOST_CELLS),
            min(channels, MOST_CHANNELS),
        )
    grid = (config.grid, config.grid) if config.grid else (rows, columns)
    width = config.width or channels
    return PatchSettings(tuple(layers), config.windows, grid, width, config.patches)


def tile_settings(backbone: FrozenCLIP, whole: PatchSettings) -> PatchSettings:
    """The settings for tiles of large pictures, from those for whole pictures.

    The faults that tiles are for are small: each cell counts by itself, the farthest one is the
    memory score, of a tower in stages only the finest of the layers counts, and the cells are
    whitened. There are three times as many patches, because tiles show more.
    """
    layers = (min(whole.layers),) if in_stages(backbone) else whole.layers
    most = _MORE_IN_TILES * whole.most
    return replace(whole, layers=layers, windows=(1,), most=most, whitened=True, farthest=1)


def in_stages(backbone: FrozenCLIP) -> bool:
    """Whether the layers get coarser and wider, as those of convolutional towers do."""
    return len(set(backbone.stage_shapes)) > 1


def reference_layers(backbone: FrozenCLIP) -> tuple[int, ...]:
    """The tapped layers that are compared by default.

    Of a tower in stages those whose cells are 8 pixels wide or more: finer ones see edges and
    noise. Of a transformer the middle ones: the last layer of CLIP has left its place in the image
    behind, and the first sees little.
    """
    if in_stages(backbone):
        coarse = [
            layer
            for layer, (_, height, _) in zip(backbone.layers, backbone.stage_shapes, strict=True)
            if height * 8 <= backbone.image_size
        ]
        return tuple(coarse) or backbone.layers
    return backbone.layers[1:-1] if len(backbone.layers) > 2 else backbone.layers


def patch_directions(
    stages: Sequence[Tensor], layers: Sequence[int], settings: PatchSettings
) -> Tensor:
    """Maps of the tapped layers -> unit vectors (B, N, C), float32.

    A layer is resampled to the grid and averaged over the windows, each average made a unit vector;
    their sum is the layer's direction. A layer that is too wide is projected at random, which
    changes cosines little (Johnson and Lindenstrauss 1984). Directions of one width are averaged
    over the layers, of several widths joined, each layer with the same weight.

    Args:
        stages: (B, V_l, h_l, w_l) of each tapped layer.
        layers: their numbers.
    """
    known = dict(zip(layers, stages, strict=True))
    found = []
    for layer in settings.layers:
        cells = to_grid(known[layer].float(), settings.grid)  # (B, V_l, h, w)
        views = [F.normalize(_averaged(cells, window), dim=1) for window in settings.windows]
        found.append(F.normalize(_narrowed(torch.stack(views).sum(0), settings.width), dim=1))
    if len({layer.shape[1] for layer in found}) == 1:
        joined = F.normalize(torch.stack(found).sum(0), dim=1)
    else:
        joined = torch.cat(found, dim=1) / math.sqrt(len(found))
    return joined.flatten(2).transpose(1, 2)  # (B, N, C)


def _averaged(cells: Tensor, window: int) -> Tensor:
    """The mean over a window around each cell, (B, V, h, w); cells outside do not count."""
    if window == 1:
        return cells
    return F.avg_pool2d(cells, window, stride=1, padding=window // 2, count_include_pad=False)


def _narrowed(cells: Tensor, width: int) -> Tensor:
    """(B, V, h, w) -> (B, width, h, w) where V is larger."""
    channels = cells.shape[1]
    if channels <= width:
        return cells
    return torch.einsum("bvhw,vc->bchw", cells, _projection(channels, width, cells.device))


@lru_cache(maxsize=8)
def _projection(channels: int, width: int, device: torch.device) -> Tensor:
    """Orthonormal columns (channels, width), the same on every machine up to rounding."""
    generator = torch.Generator().manual_seed(channels)
    drawn = torch.randn(channels, width, generator=generator, dtype=torch.float64)
    columns: Tensor = torch.linalg.qr(drawn).Q
    return columns.float().to(device)
