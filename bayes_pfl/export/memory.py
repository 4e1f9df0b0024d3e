"""The kept patches of a profile as constants of a graph: whole pictures and tiles by one switch.

Symbols: B views, N cells, C channels, M kept patches, n reference pictures, S image side.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bayes_pfl.detect.memory import PatchMemory, lifted, memory_score
from bayes_pfl.detect.patches import PatchSettings, patch_directions
from bayes_pfl.detect.references import COPY_SHARE, References, Scale
from bayes_pfl.detect.standards import MapStandard, Standard
from bayes_pfl.detect.whitening import Whitening

_FAR = -3e4  # added to a similarity, it makes a patch one that is never the nearest; float16 has it


class KnownPatches(nn.Module):
    """What views are compared with.

    Args:
        references: of whole pictures, perhaps with those of tiles.
    """

    def __init__(self, references: References) -> None:
        super().__init__()
        kinds = [references, references.tiles] if references.tiles else [references]
        self.grid = references.settings.grid
        usual = float(references.scale.memory_map.centre.mean())
        # Copies of a reference are looked for among whole pictures alone.
        limits = [COPY_SHARE * usual, None]
        self.memories = nn.ModuleList(
            _Memory(kind.memory, kind.settings, limit)
            for kind, limit in zip(kinds, limits, strict=False)
        )
        for name in ("words", "memory"):
            self._keep(name, [torch.tensor([*getattr(kind.scale, name)]) for kind in kinds])
        self._keep("pairs", [kind.scale.pairs for kind in kinds])
        for name in ("words_map", "memory_map"):
            maps = torch.broadcast_tensors(*(x for k in kinds for x in getattr(k.scale, name)))
            self._keep(name, [torch.stack(maps[at : at + 2]) for at in range(0, len(maps), 2)])

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
        self,
        stages: Sequence[Tensor],
        layers: Sequence[int],
        twin: Tensor,
        kind: Tensor,
        counted: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Distances (B, N) to the nearest patches, their indices (B, N), and memory scores (B,).

        Args:
            stages, layers: of :func:`bayes_pfl.detect.patches.patch_directions`.
            twin: number of the reference that a view is of, (B,); -1 where none is known. Of whole
                pictures, those that are copies of a reference are found here.
            kind: see :meth:`scale`.
            counted: bool (B, N), the cells that count; None for all. Others have the distance 0.
        """
        found = [memory(stages, layers, twin, counted) for memory in self.memories]
        distance, place, score = (torch.stack(parts)[kind] for parts in zip(*found, strict=True))
        return distance, place, score


class _Memory(nn.Module):
    """The kept patches of one kind of views.

    Args:
        copy_limit: mean distance below which a view is a copy of a reference; None where copies
            are not looked for.
    """

    vectors: Tensor
    owners: Tensor
    cells: Tensor
    shares: Tensor
    without_patches: Tensor
    mean: Tensor
    matrix: Tensor

    def __init__(
        self, memory: PatchMemory, settings: PatchSettings, copy_limit: float | None
    ) -> None:
        super().__init__()
        self.settings, self.pictures, self.copy_limit = settings, memory.pictures, copy_limit
        self.whitened = memory.whitening is not None
        if memory.whitening is not None:
            self.register_buffer("mean", memory.whitening.mean.cpu())
            self.register_buffer("matrix", memory.whitening.matrix.cpu())
        known = memory.known() if self.whitened else memory.vectors
        self.register_buffer("vectors", known.cpu())
        self.register_buffer("owners", memory.owners.long().cpu())
        self.register_buffer("cells", memory.cells.long().cpu())
        owners = F.one_hot(self.owners, self.pictures).float()  # (M, n)
        counts = owners.sum(0)
        self.register_buffer("shares", owners / counts.clamp_min(1))
        self.register_buffer("without_patches", (counts == 0).float())

    def forward(
        self,
        stages: Sequence[Tensor],
        layers: Sequence[int],
        twin: Tensor,
        counted: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As :meth:`KnownPatches.forward`."""
        patches = patch_directions(stages, layers, self.settings)  # (B, N, C)
        base = torch.ones_like(patches[..., 0])
        if self.whitened:
            patches, base = lifted(Whitening(self.mean, self.matrix)(patches))
        similar = patches @ self.vectors.float().T  # (B, N, M)
        if self.pictures > 1:
            if self.copy_limit is not None:
                twin = torch.where(twin < 0, self._copied(similar, self.copy_limit), twin)
            left_out = (self.owners == twin[:, None]).float()  # (B, M)
            similar = similar + _FAR * left_out[:, None]
        best, place = similar.max(-1)
        distance = base - best
        if counted is not None:
            distance = distance * counted
        return distance, place, memory_score(distance, self.settings.farthest)

    def _copied(self, similar: Tensor, limit: float) -> Tensor:
        """Numbers of the references that whole pictures are copies of, (B,); -1 for none."""
        at = self.cells.expand(similar.shape[0], 1, -1)
        same = similar.gather(1, at)[:, 0]  # (B, M): each patch at its own cell
        distance = (1 - same) @ self.shares + 4 * self.without_patches  # (B, n)
        nearest = distance.min(1)
        return torch.where(nearest.values < limit, nearest.indices, -1)
