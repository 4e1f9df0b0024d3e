"""What the pixels of normal pictures' maps are, from sums alone: one map is held at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from bayes_pfl.detect.standards import PRIOR_WEIGHT, MapStandard

_MOST = 2_000_000  # pixels that a median is taken of


class MapSums:
    """Sums over maps (S, S) of one size, added one after the other.

    Args:
        least: smallest spread that a standard has.
        masked: whether only some pixels of each map count; they are counted then.
    """

    def __init__(self, least: float, masked: bool = False) -> None:
        self.least, self.count = least, 0
        self._pixels: Tensor | float | None = 0.0 if masked else None
        self._total: Tensor | float = 0.0
        self._squares: Tensor | float = 0.0

    def add(self, one: Tensor, inside: Tensor | None = None) -> None:
        """Add a map; of masked ones the pixels ``inside``, bool (S, S)."""
        values = one.double().cpu()
        if self._pixels is not None and inside is not None:
            values = values * inside.cpu()
            self._pixels = self._pixels + inside.cpu().double()
        self._total, self._squares = self._total + values, self._squares + values**2
        self.count += 1

    @classmethod
    def together(cls, parts: Sequence[MapSums]) -> MapSums:
        """The sums over the maps of all parts, for the pixels of all places together."""
        both = cls(parts[0].least, parts[0]._pixels is not None)
        both.count = sum(part.count for part in parts)
        if both._pixels is not None:
            both._pixels = sum(torch.as_tensor(part._pixels).sum() for part in parts)
            both._total = sum(torch.as_tensor(part._total).sum() for part in parts)
            both._squares = sum(torch.as_tensor(part._squares).sum() for part in parts)
            return both
        both._total = sum(torch.as_tensor(part._total).mean() for part in parts)
        both._squares = sum(torch.as_tensor(part._squares).mean() for part in parts)
        return both

    def standard(
        self, aligned: bool, without: Tensor | None = None, inside: Tensor | None = None
    ) -> MapStandard:
        """Mean and standard deviation of the pixels.

        Args:
            aligned: of each pixel by itself, drawn towards those of all pixels as if
                :data:`PRIOR_WEIGHT` further maps showed these at every place.
            without: a map that was added and is to be left out; ignored if it is the only one.
            inside: its pixels that count, bool (S, S); None for all.
        """
        left_out = 0.0 if without is None or self.count == 1 else without.double().cpu()
        if self._pixels is not None:
            return self._masked_standard(aligned, left_out, inside)
        count = self.count - isinstance(left_out, Tensor)
        mean = torch.as_tensor(self._total - left_out) / count
        square = torch.as_tensor(self._squares - left_out**2) / count
        centre, power = mean.mean(), square.mean()
        if aligned:
            share = count / (count + PRIOR_WEIGHT)
            centre, power = (
                share * mean + (1 - share) * centre,
                share * square + (1 - share) * power,
            )
        spread = (power - centre**2).clamp_min(self.least**2).sqrt()
        return MapStandard(centre.float(), spread.float())

    def _masked_standard(
        self, aligned: bool, left_out: Tensor | float, inside: Tensor | None
    ) -> MapStandard:
        """As :meth:`standard`, each pixel by the maps in which it counts."""
        mask = 0.0 if inside is None or isinstance(left_out, float) else inside.cpu().double()
        pixels = torch.as_tensor(self._pixels) - mask
        total = torch.as_tensor(self._total - left_out * mask)
        squares = torch.as_tensor(self._squares - left_out**2 * mask)
        centre, power = total.sum() / pixels.sum(), squares.sum() / pixels.sum()
        if aligned:
            share, known = pixels / (pixels + PRIOR_WEIGHT), pixels.clamp_min(1)
            centre, power = (
                share * total / known + (1 - share) * centre,
                share * squares / known + (1 - share) * power,
            )
        spread = (power - centre**2).clamp_min(self.least**2).sqrt()
        return MapStandard(centre.float(), spread.float())


def median_standard(maps: Iterable[Tensor], count: int, least: float) -> MapStandard:
    """Median of the pixels of ``count`` maps, and 1.4826 times the median distance from it."""
    kept = []
    for one in maps:
        step = max(1, count * one.numel() // _MOST)
        kept.append(one.flatten()[::step].float().cpu())
    values = torch.cat(kept)
    centre = values.median()
    spread = (1.4826 * (values - centre).abs().median()).clamp_min(least)
    return MapStandard(centre, spread)
