"""The randomness of a run, as explicit objects: draw once, pass everywhere, repeat by seed.

Symbols: B images, R samples, M prompt pairs, D joint width, T text width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bayes_pfl.model.flows import FlowSample


@dataclass(frozen=True)
class PromptNoise:
    """Standard-normal draws behind R samples of the three distributions.

    Attributes:
        specific: (R, D) shared by all images, or (B, R, D).
        normal, abnormal: (R, D).
    """

    specific: Tensor
    normal: Tensor
    abnormal: Tensor

    @classmethod
    def draw(
        cls, samples: int, width: int, generator: torch.Generator, batch: int | None = None
    ) -> PromptNoise:
        """New draws on the generator's device; with ``batch``, specific ones for each image."""
        device = generator.device
        shape = (samples, width) if batch is None else (batch, samples, width)
        return cls(
            torch.randn(shape, generator=generator, device=device),
            torch.randn(samples, width, generator=generator, device=device),
            torch.randn(samples, width, generator=generator, device=device),
        )

    def to(self, device: torch.device) -> PromptNoise:
        """The same draws on ``device``."""
        return PromptNoise(
            self.specific.to(device), self.normal.to(device), self.abnormal.to(device)
        )


class TextCache:
    """Text embeddings of the mean prompt by class name: each name is encoded once in a run.

    Holds (2, M, D) per name, a few kilobytes.
    """

    def __init__(self) -> None:
        self._known: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return len(self._known)

    def embeddings(self, names: Sequence[str], encode: Callable[[list[str]], Tensor]) -> Tensor:
        """(B, 2, M, D); ``encode`` is asked for the names, one or more, that are not known yet."""
        missing = [name for name in dict.fromkeys(names) if name not in self._known]
        if missing:
            self._known.update(zip(missing, encode(missing), strict=True))
        return torch.stack([self._known[name] for name in names])


@dataclass(frozen=True)
class RunSamples:
    """What stays fixed over a run: samples of the agnostic flows, noise of the specific ones.

    The paper draws the agnostic samples once and the specific ones per image (section 3.5). Sharing
    the specific *noise* between images keeps that, as each image's own distribution shapes it, and
    makes a score independent of the batch and order in which its image came.

    Attributes:
        specific_noise: (R, D) or (B, R, D).
        normal, abnormal: draws of the agnostic flows, z of (R, D).
        texts: of the mean prompt, see :meth:`bayes_pfl.BayesPFL.mean_samples`; None where prompts
            are sampled.
    """

    specific_noise: Tensor
    normal: FlowSample
    abnormal: FlowSample
    texts: TextCache | None = None

    @property
    def count(self) -> int:
        """R; 0 for the mean prompt."""
        return self.specific_noise.shape[-2]
