"""Pooled features of views, and of single places in them: what the text tower learns to read.

Symbols: N views, V pooled width (1280), P places of each, h*w cells of the last map.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from pretraining.captions import PictureFacts
from pretraining.pictures import PictureMaps
from pretraining.split_trunk import SplitTrunk

_AT_ONCE = 64
_DEFECTIVE = 0.3  # share of a cell from which on it is called defective; less is not used


@dataclass(frozen=True)
class FeatureSet:
    """What the frozen trunk sees of N views.

    Attributes:
        features: pooled, float32 (N, V).
        subjects: what the views show.
        places: float16 (N, P, V): the last map at single cells, which a pooling by average and
            a linear projection can take for small pictures.
        spoiled: bool (N, P), which of them show a defect.
    """

    features: Tensor
    subjects: tuple[PictureFacts, ...]
    places: Tensor
    spoiled: Tensor

    @property
    def spread(self) -> float:
        """Mean distance of the pooled features from their mean."""
        return (self.features - self.features.mean(0)).norm(dim=1).mean().item()

    def to(self, device: torch.device) -> FeatureSet:
        """The same on ``device``."""
        names = ("features", "places", "spoiled")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


@torch.no_grad()
def read_features(trunk: SplitTrunk, pictures: PictureMaps, places: int, seed: int) -> FeatureSet:
    """Send the maps of all views through the late trunk, where it lies; the result is on the CPU.

    Args:
        places: P, of each view; half of them in the defect of those that show one.
        seed: of the choice of places.
    """
    generator = torch.Generator().manual_seed(seed)
    features, chosen, spoiled = [], [], []
    batches = zip(pictures.maps.split(_AT_ONCE), pictures.masks.split(_AT_ONCE), strict=True)
    for maps, masks in batches:
        maps = maps.float().contiguous(memory_format=torch.channels_last)
        last = trunk.late(maps.to(trunk.device)).last.cpu()
        features.append(last.mean((2, 3)))
        shares = F.adaptive_avg_pool2d(masks.float() / 255, last.shape[-2:]).flatten(1)
        cells = _choose(shares, places, generator)
        rows = torch.arange(len(cells))[:, None]
        chosen.append(last.flatten(2).transpose(1, 2)[rows, cells].half())
        spoiled.append(shares[rows, cells] > _DEFECTIVE)
    return FeatureSet(torch.cat(features), pictures.subjects, torch.cat(chosen), torch.cat(spoiled))


def _choose(shares: Tensor, places: int, generator: torch.Generator) -> Tensor:
    """Cells (B, P) of views with defective shares (B, h*w)."""
    sound, broken = (shares == 0).float(), (shares > _DEFECTIVE).float()
    # Where there is none of the one kind (a tiny defect, a large one), all cells stand in.
    half = places // 2
    kinds = ((broken, half), (sound, places - half))
    usable = [(_or_other(kind, sound + broken), count) for kind, count in kinds if count]
    drawn = [torch.multinomial(w, count, True, generator=generator) for w, count in usable]
    return torch.cat(drawn, dim=1) if drawn else torch.zeros(len(shares), 0, dtype=torch.long)


def _or_other(kind: Tensor, other: Tensor) -> Tensor:
    """Weights of cells: ``kind``, else ``other``, else all alike."""
    other = torch.where(other.sum(1, keepdim=True) > 0, other, torch.ones_like(other))
    return torch.where(kind.sum(1, keepdim=True) > 0, kind, other)
