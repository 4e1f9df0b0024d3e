"""The image trunk cut in two: early blocks that stay as they are, and late ones that may be tuned.

Symbols: B images, S image side, C channels, h*w cells, V pooled width (1280).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bayes_pfl.clip.fast_image_tower import should_split
from pretraining.lite_weights import LiteWeights


@dataclass(frozen=True)
class LateMaps:
    """What the late part gives: the layers that a head taps, and the last map before pooling.

    Attributes:
        taps: (B, C_l, h_l, w_l) of each layer, the finest first.
        last: (B, V, h, w).
    """

    taps: list[Tensor]
    last: Tensor

    @property
    def pooled(self) -> Tensor:
        """Global average, (B, V): what the trunk itself gives."""
        return self.last.mean((2, 3))


def fill_trunk(trunk: Any, weights: LiteWeights, name: str) -> None:
    """Put pretrained weights into timm's network ``name``."""
    missing, unexpected = trunk.load_state_dict(weights.trunk, strict=False)
    if unexpected or any(not key.endswith("num_batches_tracked") for key in missing):
        raise RuntimeError(f"weights do not fit {name}: {missing} missing, {unexpected} unknown")


class SplitTrunk(nn.Module):
    """A network of timm's EfficientNet family without its classifier.

    Args:
        trunk: the network; its weights are used, not copied.
        late: how many of its last stages are the late part, at least 0.
    """

    def __init__(self, trunk: Any, late: int) -> None:
        super().__init__()
        self.trunk = trunk.to(memory_format=torch.channels_last)
        self.first = len(trunk.blocks) - late
        self._tapped = {int(x["module"].removeprefix("blocks.")) for x in trunk.feature_info}

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.trunk.parameters()).device

    def late_parameters(self) -> Iterable[nn.Parameter]:
        """Of the modules after the cut."""
        parts = (*self.trunk.blocks[self.first :], self.trunk.conv_head, self.trunk.bn2)
        return (p for part in parts for p in part.parameters())

    def early(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S), normalised -> the map at the cut (B, C, h, w)."""
        # The first maps are the widest: of more than one image they do not stay in a CPU's cache.
        parts = images.split(1) if should_split(images) else [images]
        return torch.cat([self._early(part) for part in parts])

    def _early(self, images: Tensor) -> Tensor:
        maps = self.trunk.bn1(self.trunk.conv_stem(images))
        for block in self.trunk.blocks[: self.first]:
            maps = block(maps)
        return maps

    def late(self, maps: Tensor) -> LateMaps:
        """The map at the cut -> the rest of the way."""
        taps = [maps] if self.first - 1 in self._tapped else []
        for number in range(self.first, len(self.trunk.blocks)):
            maps = self.trunk.blocks[number](maps)
            if number in self._tapped:
                taps.append(maps)
        return LateMaps(taps, self.trunk.bn2(self.trunk.conv_head(maps)))
