"""The kept patches of a profile as constants of a graph: whole pictures and tiles by one switch.

The arrays of both kinds are stacked, and the switch takes one of them. The kind with fewer patches
is padded by patches that are never the nearest, that with fewer channels by zeros.

Symbols: B views, N cells, C channels, M kept patches, n reference pictures, S image side.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bayes_pfl.detect.memory import lifted
from bayes_pfl.detect.patches import patch_directions
from bayes_pfl.detect.references import COPY_SHARE, References, Scale
from bayes_pfl.detect.standards import MapStandard, Standard
from bayes_pfl.detect.whitening import Whitening

_FAR = -3e4  # added to a similarity, it makes a patch one that is never the nearest; float16 has it


class KnownPatches(nn.Module):
    """What views are compared with.

    Args:
        references: of whole pictures, perhaps with those of tiles.
    """

    vectors: Tensor
    owners: Tensor
    own_cells: Tensor
    shares: Tensor
    without_patches: Tensor

    def __init__(self, references: References) -> None:
        super().__init__()
        kinds = [references, references.tiles] if references.tiles else [references]
        self.grid, self.pictures = references.settings.grid, references.memory.pictures
        self.settings = [kind.settings for kind in kinds]
        most = max(len(kind.memory.vectors) for kind in kinds)
        # In float16, as they are kept, unless a channel of a whitening needs more.
        vectors = [
            kind.memory.known() if kind.memory.whitening else kind.memory.vectors for kind in kinds
        ]
        self.width = max(part.shape[1] for part in vectors)
        self._keep("vectors", [_padded(_wide(part, self.width), most, 0) for part in vectors])
        self.whitenings = nn.ModuleList(_Whitened(kind.memory.whitening) for kind in kinds)
        self._keep("owners", [_padded(kind.memory.owners.long(), most, -1) for kind in kinds])
        for name in ("words", "memory"):
            self._keep(name, [torch.tensor([*getattr(kind.scale, name)]) for kind in kinds])
        self._keep("pairs", [kind.scale.pairs for kind in kinds])
        for name in ("words_map", "memory_map"):
            maps = torch.broadcast_tensors(*(x for k in kinds for x in getattr(k.scale, name)))
            self._keep(name, [torch.stack(maps[at : at + 2]) for at in range(0, len(maps), 2)])
        # Copies of a reference are looked for among whole pictures alone.
        owners = F.one_hot(references.memory.owners.long().cpu(), self.pictures).float()  # (M, n)
        counts = owners.sum(0)
        self.register_buffer("shares", owners / counts.clamp_min(1))
        self.register_buffer("without_patches", (counts == 0).float())
        self.register_buffer("own_cells", references.memory.cells.long().cpu())
        self.copy_limit = COPY_SHARE * float(references.scale.memory_map.centre.mean())

    def _keep(self, name: str, values: Sequence[Tensor]) -> None:
        self.register_buffer(name, torch.stack([value.cpu() for value in values]))

    def scale(self, kind: Tensor) -> Scale:
        """The scale of a kind of views, () int64: 0 for whole pictures, 1 for tiles."""
        words, memory, pairs, words_map, memory_map = (
            getattr(self, name)[kind]
            for name in ("words", "memory", "pairs", "words_map", "memory_map")
        )
        # Numbers of a graph are tensors.
        return Scale(
            Standard(words[0], words[1]),  # type: ignore[arg-type]
            Standard(memory[0], memory[1]),  # type: ignore[arg-type]
            pairs,
            MapStandard(words_map[0], words_map[1]),
            MapStandard(memory_map[0], memory_map[1]),
        )

    def forward(
        self, stages: Sequence[Tensor], layers: Sequence[int], twin: Tensor, kind: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Distances (B, N) to the nearest patches, and their indices (B, N).

        Args:
            stages, layers: of :func:`bayes_pfl.detect.patches.patch_directions`.
            twin: number of the reference that a view is of, (B,); -1 where none is known. Of whole
                pictures, those that are copies of a reference are found here.
            kind: see :meth:`scale`.
        """
        vectors, owners = self.vectors[kind], self.owners[kind]  # (M, C), (M,)
        views = [self._views(stages, layers, at) for at in range(len(self.settings))]
        patches, base = (torch.stack(parts)[kind] for parts in zip(*views, strict=True))
        similar = patches @ vectors.float().T  # (B, N, M)
        if self.pictures > 1:
            copied = torch.where(kind == 0, self._copied(similar), torch.full_like(twin, -1))
            twin = torch.where(twin < 0, copied, twin)
        else:
            twin = torch.full_like(twin, -2)
        left_out = (owners == twin[:, None]) | (owners < 0)  # (B, M)
        best, place = (similar + _FAR * left_out[:, None].float()).max(-1)
        return base - best, place

    def _views(
        self, stages: Sequence[Tensor], layers: Sequence[int], kind: int
    ) -> tuple[Tensor, Tensor]:
        """Patches (B, N, C) of a kind of views, and what similarities to them are subtracted from
        to be distances, (B, N)."""
        patches = patch_directions(stages, layers, self.settings[kind])
        patches, base = self.whitenings[kind](patches)
        return _wide(patches, self.width), base

    def _copied(self, similar: Tensor) -> Tensor:
        """Numbers of the references that whole pictures are copies of, (B,); -1 for none."""
        count = self.own_cells.shape[0]
        at = self.own_cells.expand(similar.shape[0], 1, count)
        same = similar[..., :count].gather(1, at)[:, 0]  # (B, M): each patch at its own cell
        distance = (1 - same) @ self.shares + 4 * self.without_patches  # (B, n)
        nearest = distance.min(1)
        return torch.where(nearest.values < self.copy_limit, nearest.indices, -1)


class _Whitened(nn.Module):
    """Unit vectors (B, N, C), whitened and lifted if at all, and what similarities to them are
    subtracted from to be distances, (B, N)."""

    mean: Tensor
    matrix: Tensor

    def __init__(self, whitening: Whitening | None) -> None:
        super().__init__()
        self.whitened = whitening is not None
        for name, value in whitening._asdict().items() if whitening else ():
            self.register_buffer(name, value.cpu())

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        if not self.whitened:
            return patches, torch.ones_like(patches[..., 0])
        return lifted((patches - self.mean) @ self.matrix)


def _wide(vectors: Tensor, width: int) -> Tensor:
    """(..., c) -> (..., C), filled up with zeros."""
    return F.pad(vectors, (0, width - vectors.shape[-1]))


def _padded(values: Tensor, length: int, value: int) -> Tensor:
    """(m, ...) -> (length, ...)."""
    padded = values.new_full((length, *values.shape[1:]), value)
    padded[: len(values)] = values
    return padded
