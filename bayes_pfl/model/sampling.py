"""The randomness of a run as explicit objects: drawn once from a seed, then passed on.

Symbols: B images, R samples, M prompt pairs, D joint width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bayes_pfl.model.flows import FlowSample


@dataclass(frozen=True)
class PromptNoise:
    """Standard-normal noise for R samples of the three distributions (paper: equation 5).

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
        """New noise on the generator's device.

        Args:
            samples: R.
            width: D.
            batch: B, for specific noise of each image; None to share it between images.
        """
        shared = (samples, width)
        shapes = (shared if batch is None else (batch, *shared), shared, shared)
        return cls(*(torch.randn(x, generator=generator, device=generator.device) for x in shapes))

    def to(self, device: torch.device) -> PromptNoise:
        """The same noise on ``device``."""
        return PromptNoise(*(x.to(device) for x in (self.specific, self.normal, self.abnormal)))


class TextCache:
    """Text embeddings of the mean prompt by class name: each name is encoded once in a run.

    Holds (2, M, D) per name, a few kilobytes.
    """

    def __init__(self) -> None:
        self._known: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return len(self._known)

    def embeddings(self, names: Sequence[str], encode: Callable[[list[str]], Tensor]) -> Tensor:
        """Embeddings (B, 2, M, D) of B names.

        Args:
            encode: maps n new names to their embeddings (n, 2, M, D); not called without any.
        """
        missing = [name for name in dict.fromkeys(names) if name not in self._known]
        if missing:
            self._known.update(zip(missing, encode(missing), strict=True))
        return torch.stack([self._known[name] for name in names])


@dataclass(frozen=True)
class RunSamples:
    """The draws of a run: samples of the agnostic flows, noise for the image-specific one.

    The paper draws the agnostic samples once and the specific ones per image (section 3.5). Here
    all images share the specific *noise*, which each image's own distribution transforms; so a
    score does not depend on the batch or the order in which its image came.

    Attributes:
        specific_noise: (R, D) or (B, R, D).
        normal, abnormal: samples of the agnostic flows, z (R, D).
        texts: embeddings of the mean prompt, see :meth:`bayes_pfl.BayesPFL.mean_samples`; None if
            prompts are sampled.
    """

    specific_noise: Tensor
    normal: FlowSample
    abnormal: FlowSample
    texts: TextCache | None = None

    @property
    def count(self) -> int:
        """R; 0 for the mean prompt."""
        return self.specific_noise.shape[-2]
