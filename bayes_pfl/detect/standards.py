"""What normal pictures score, and how far above that a score lies: the scale of a combination.

Words and memory give numbers that mean nothing to each other. Each is measured in standard
deviations of normal pictures, and both are combined so that either can raise the result alone. Not
in the paper; how the formula was chosen, and on which pictures, is in the model card.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

PRIOR_WEIGHT = 4
"""Pictures that the assumed spread counts as."""

WORDS_SPREAD = 0.8
"""Standard deviation of the log-odds of a score over normal pictures of one thing, assumed."""

MEMORY_SPREAD = 0.2
"""Likewise of a memory score, as a share of its mean."""

ODDS_OF_HALF = 8.0
"""Combined odds at which the score is 0.5: 8 deviations of one source while the other is far below
the normal pictures, 4.3 while it is at their centre."""

_LEAST = 1e-4  # probabilities nearer to 0 or 1 are as sure as they get


class Standard(NamedTuple):
    """The scores of normal pictures.

    Attributes:
        centre: their mean.
        spread: their standard deviation, with what is not known of the mean added.
    """

    centre: float
    spread: float

    @classmethod
    def of(cls, scores: Sequence[float] | np.ndarray, assumed: float) -> Standard:
        """From n scores of normal pictures, one at least.

        The variance is the mean of theirs and the assumed one, weighted by n - 1 and
        :data:`PRIOR_WEIGHT`; times 1 + 1/n, as for the next draw from a normal distribution.

        Args:
            assumed: spread before any picture has been seen.
        """
        values = np.asarray(scores, np.float64)
        count = len(values)
        squares = float(((values - values.mean()) ** 2).sum())
        variance = (PRIOR_WEIGHT * assumed**2 + squares) / (PRIOR_WEIGHT + count - 1)
        return cls(float(values.mean()), math.sqrt(variance * (1 + 1 / count)))

    @classmethod
    def robust(cls, scores: Sequence[float] | np.ndarray, least: float) -> Standard:
        """From scores of pictures of which some may be anomalous: median, and 1.4826 times the
        median distance from it, ``least`` at least."""
        values = np.asarray(scores, np.float64)
        centre = float(np.median(values))
        return cls(centre, max(least, 1.4826 * float(np.median(np.abs(values - centre)))))

    def deviations(self, scores: Tensor) -> Tensor:
        """Standard deviations above the centre, of the shape of ``scores``."""
        return (scores - self.centre) / self.spread


class MapStandard(NamedTuple):
    """The pixels of normal pictures' maps, for all pixels together or for each.

    Attributes:
        centre, spread: () or (S, S).
    """

    centre: Tensor
    spread: Tensor

    def deviations(self, maps: Tensor) -> Tensor:
        """Standard deviations above the centre of maps (B, S, S)."""
        return (maps - self.centre.to(maps.device)) / self.spread.to(maps.device)


def log_odds(probability: Tensor) -> Tensor:
    """log(p / (1 - p)), of probabilities cut to 0.0001 and 0.9999."""
    return probability.clamp(_LEAST, 1 - _LEAST).logit()


def combined(words: Tensor, memory: Tensor) -> Tensor:
    """One score in [0, 1) from the deviations of two sources, of one shape.

    Each source's excess is softplus(z) = log(1 + exp(z)): z far above the normal pictures, hardly
    anything below them. The odds (1 + excess of the words) (1 + excess of the memory) - 1 grow
    without bound with either. Were 1 / (1 + excess) the chance that a normal picture gets so far,
    this would be Fisher's way to combine two tests.
    """
    words, memory = torch.nn.functional.softplus(words), torch.nn.functional.softplus(memory)
    odds = words + memory + words * memory
    return odds / (odds + ODDS_OF_HALF)
