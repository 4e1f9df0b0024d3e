"""Patches of reference pictures, and the distance of an image's patches to the nearest of them.

Not in the paper: the nearest neighbour of PatchCore (CVPR 2022) and AnomalyDINO (WACV 2025) for
pictures known to be normal, the mutual scoring of MuSc (ICLR 2024) for pictures of which nothing
is known.

Symbols: B images, N patches of each, C channels, n reference pictures, M patches kept of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bayes_pfl.detect.whitening import Whitening
from bayes_pfl.model.scoring import top_mean
from bayes_pfl.support.precision import without_autocast

TOP_FRACTION = 0.01
"""Share of an image's patches that its memory score is the mean of (AnomalyDINO)."""

NEAREST_SHARE = 0.3
"""Share of the pictures, the nearest ones, that a mutual distance is the mean of (MuSc)."""

_AT_ONCE = 2**24  # similarities of a part of the batch: 64 MB


class Nearest(NamedTuple):
    """What a memory says about the patches of B images.

    Attributes:
        distance: half the squared distance to the nearest patch, (B, N): of unit vectors one
            minus the cosine, in [0, 2]. In mutual scoring the mean over the nearest pictures.
        patch: index of the nearest patch in the memory, (B, N).
    """

    distance: Tensor
    patch: Tensor


@dataclass(frozen=True)
class PatchMemory:
    """Patches of n pictures.

    Attributes:
        vectors: float16 (M, C), unit vectors; with a whitening whitened ones.
        owners: int32 (M,), the picture of each, in rising order.
        cells: int32 (M,), its cell, counted row by row.
        pictures: n.
        mutual: whether the pictures may be anomalous themselves: a distance is then the mean over
            the nearest 30% of the pictures, so that one picture with the same fault hides nothing.
        whitening: of the patches before they are compared; None for none.
    """

    vectors: Tensor
    owners: Tensor
    cells: Tensor
    pictures: int
    mutual: bool = False
    whitening: Whitening | None = None

    @classmethod
    def of(
        cls, patches: Tensor, most: int, *, mutual: bool = False, inside: Tensor | None = None
    ) -> PatchMemory:
        """The memory of n pictures with patches (n, N, C).

        Args:
            most: patches to keep, M at most; the same share of each picture, up to one patch.
            inside: bool (n, N), the patches that count; None for all.
        """
        pictures, cells, _ = patches.shape
        each = max(1, min(cells, most // pictures))
        masks = [None] * pictures if inside is None else list(inside.cpu())
        drawn = [spread_cells(cells, each, at, masks[at]) for at in range(pictures)]
        counts, chosen = torch.tensor(list(map(len, drawn))), torch.cat(drawn)
        owners = torch.arange(pictures).repeat_interleave(counts)
        place = patches.device
        vectors = patches[owners, chosen.to(place)].half()
        return cls(vectors, owners.int().to(place), chosen.int().to(place), pictures, mutual)

    def without(self, picture: int) -> PatchMemory:
        """The memory of the other pictures; their numbers stay."""
        kept = self.owners != picture
        return replace(
            self, vectors=self.vectors[kept], owners=self.owners[kept], cells=self.cells[kept]
        )

    def to(self, device: torch.device) -> PatchMemory:
        """The same on a device."""
        return replace(
            self,
            vectors=self.vectors.to(device),
            owners=self.owners.to(device),
            cells=self.cells.to(device),
            whitening=self.whitening.to(device) if self.whitening else None,
        )

    @property
    def bytes(self) -> int:
        """Size of the vectors."""
        return self.vectors.numel() * self.vectors.element_size()

    @torch.no_grad()
    def nearest(self, patches: Tensor) -> Nearest:
        """The nearest patches of B images, (B, N, C) unit vectors."""
        step = max(1, _AT_ONCE // (patches.shape[1] * len(self.vectors)))
        with without_autocast(patches.device):
            known = self.known()
            parts = [self._nearest(part, known) for part in patches.split(step)]
        return Nearest(*(torch.cat(columns) for columns in zip(*parts, strict=True)))

    def at_same_cells(self, patches: Tensor) -> Tensor:
        """Mean distance of each picture's patches to those of one image at the same cells; for a
        memory without a whitening.

        Args:
            patches: (N, C) unit vectors.

        Returns:
            (n,) in [0, 2]; infinite for a picture without patches.
        """
        own = patches.float()[self.cells.long()]  # (M, C)
        distance = 1 - (own * self.vectors.float()).sum(-1)
        found = torch.full((self.pictures,), torch.inf, device=distance.device)
        return found.scatter_reduce(0, self.owners.long(), distance, "mean", include_self=False)

    def known(self) -> Tensor:
        """What patches are multiplied with: the vectors, float32 (M, C); of whitened ones each
        with another channel, see :func:`lifted`, (M, C + 1)."""
        vectors = self.vectors.float()
        if self.whitening is None:
            return vectors
        return torch.cat([vectors, -_half_square(vectors)[:, None]], 1)

    def _nearest(self, patches: Tensor, known: Tensor) -> Nearest:
        own, base = patches.float(), torch.ones((), device=patches.device)
        if self.whitening is not None:
            own, base = lifted(self.whitening(own))
        similar = own @ known.T  # (B, N, M)
        best, place = similar.max(-1)  # (B, N)
        if not self.mutual:
            return Nearest(base - best, place)
        counts = torch.bincount(self.owners, minlength=self.pictures)
        pictures = [part.amax(-1) for part in similar.split(counts[counts > 0].tolist(), dim=-1)]
        few = max(1, int(NEAREST_SHARE * len(pictures)))
        nearest = torch.stack(pictures, dim=-1).topk(few, dim=-1, sorted=False).values
        return Nearest(base - nearest.mean(-1), place)


def lifted(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Whitened patches (..., C) with another channel of ones, (..., C + 1), and half the square of
    each, (...).

    The second minus the products of the first with :meth:`PatchMemory.known` are half the squared
    distances: |a - v|^2 / 2 = |a|^2 / 2 - (a v - |v|^2 / 2).
    """
    return F.pad(patches, (0, 1), value=1.0), _half_square(patches)


def _half_square(vectors: Tensor) -> Tensor:
    return 0.5 * (vectors * vectors).sum(-1)


def memory_score(distance: Tensor, farthest: int | None = None) -> Tensor:
    """Mean distance of the farthest patches of an image, (B, N) -> (B,).

    Args:
        farthest: how many; None for 1%.
    """
    if farthest is None:
        return top_mean(distance[:, None], fraction=TOP_FRACTION)
    return top_mean(distance[:, None], k=farthest)


def spread_cells(cells: int, count: int, picture: int, inside: Tensor | None = None) -> Tensor:
    """``count`` different cells, in rising order, drawn for the picture of this number.

    Args:
        inside: bool (cells,), those to draw among, of which there may be fewer; None for all.
    """
    generator = torch.Generator().manual_seed(picture)
    order = torch.randperm(cells, generator=generator)
    if inside is not None:
        order = order[inside[order]]
    return order[:count].sort().values
