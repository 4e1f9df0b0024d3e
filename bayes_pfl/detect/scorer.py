"""One run of the model: settings and random draws fixed once, then any number of batches.

Every job scores its images here. Symbols: B images, S the model's image side.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bayes_pfl.clip.frozen_clip import ImageFeatures
from bayes_pfl.data.decoding import Decoded
from bayes_pfl.data.transforms import normalise
from bayes_pfl.detect.inputs import Loaded
from bayes_pfl.detect.settings import ScoringSettings
from bayes_pfl.errors import ConfigError
from bayes_pfl.model.cost import scoring_bytes
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.model.sampling import PromptNoise, RunSamples
from bayes_pfl.model.scoring import BatchScores, deploy_scores, gaussian_smooth
from bayes_pfl.support.error_text import one_line
from bayes_pfl.support.memory import available_memory
from bayes_pfl.support.precision import autocast

_DEFAULTS = ScoringSettings()


@dataclass(frozen=True)
class ScoredImage:
    """Scores of one image, as in :class:`bayes_pfl.AnomalyResult`; maps at the model's size.

    Attributes:
        low, high: ends of the credible interval of the score.
        map: (S, S) in [0, 1] on the CPU; None if maps were not asked for.
        spread: (S, S) in [0, 0.5], the uncertainty map; likewise.
    """

    score: float
    text_score: float
    map_score: float
    uncertainty: float
    low: float
    high: float
    map: Tensor | None
    spread: Tensor | None

    @property
    def figures(self) -> dict[str, Any]:
        """The four scores of an image that all results have, by their names."""
        names = ("score", "text_score", "map_score", "uncertainty")
        return {name: getattr(self, name) for name in names}

    @property
    def finite(self) -> bool:
        """False where half precision overflowed."""
        return math.isfinite(self.score) and math.isfinite(self.uncertainty)


class Scorer:
    """A model with the settings and the random draws of one run; scores any number of batches.

    Every image is scored with the same draws, so its scores do not depend on its batch.

    Args:
        generator: source of the draws, in place of ``settings.seed``; it is advanced.
        maps, spread: whether maps, and maps of the uncertainty, are wanted.

    Raises:
        ConfigError: a setting that cannot be used.
    """

    def __init__(
        self,
        model: BayesPFLNetwork,
        settings: ScoringSettings = _DEFAULTS,
        *,
        generator: torch.Generator | None = None,
        maps: bool = True,
        spread: bool = True,
    ) -> None:
        self.model, self.settings = model, settings
        self.draws = run_draws(model, settings, generator)
        self.sigma = smoothing_sigma(model) if settings.smoothing else 0.0
        self.maps, self.spread = maps, spread
        self._encode: Any = model.backbone.encode_image
        if settings.compile:
            with autocast(model.device, settings.precision):
                model.backbone.fast_visual()  # made here, not while it is traced
            self._encode = torch.compile(self._encode)

    def __call__(
        self, pixels: Sequence[np.ndarray], class_names: Sequence[str]
    ) -> list[ScoredImage]:
        """Score B pictures, uint8 (S, S, 3) each, with their class names or synonyms a|b."""
        with out_of_memory_explained(self.model, len(pixels), self.draws):
            return self._images(self.batch(pixels, class_names))

    def decoded(
        self, items: Sequence[Decoded | Loaded], class_names: Sequence[str]
    ) -> list[ScoredImage | None]:
        """Score the images that could be read; None for each of the others."""
        pixels = [item.pixels for item in items if item.pixels is not None]
        pairs = zip(items, class_names, strict=True)
        names = [name for item, name in pairs if item.pixels is not None]
        scored = iter(self(pixels, names) if pixels else ())
        return [None if item.pixels is None else next(scored) for item in items]

    @torch.no_grad()
    def batch(self, pixels: Sequence[np.ndarray], class_names: Sequence[str]) -> BatchScores:
        """The raw scores of B pictures, uint8 (S, S, 3) each, on the model's device."""
        with (
            out_of_memory_explained(self.model, len(pixels), self.draws),
            autocast(self.model.device, self.settings.precision),
        ):
            self._check_room(len(pixels))
            features = self._features(normalised(self.model, pixels))
            return self.model.score_encoded(features, class_names, self.draws)

    def _check_room(self, images: int) -> None:
        """Raise before a processor's memory is full: then the system would end the process."""
        costs = scoring_bytes(self.model.config, self.model.backbone, self.draws.count)
        if self.model.device.type == "cpu" and images * sum(costs.values()) > available_memory():
            raise torch.OutOfMemoryError

    def smoothed(self, maps: Tensor) -> Tensor:
        """Anomaly maps (B, S, S) smoothed as the settings say."""
        return gaussian_smooth(maps, self.sigma)

    def _features(self, images: Tensor) -> ImageFeatures:
        try:
            features: ImageFeatures = self._encode(images)
            return features
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if not self.settings.compile:
                raise
            reason = one_line(error, 160)
            raise ConfigError(
                f"torch.compile failed ({reason}); it needs a C++ compiler: leave --compile out"
            ) from error

    def _images(self, scores: BatchScores) -> list[ScoredImage]:
        rows = deploy_scores(scores).rows()
        nothing: Sequence[None] = [None] * len(rows)
        maps = self.smoothed(scores.map).cpu() if self.maps else nothing
        spreads = scores.map_spread.cpu() if self.spread else nothing
        return [
            ScoredImage(score, text, map_score, uncertainty, low, high, one, spread)
            for (score, text, map_score, uncertainty, low, high), one, spread in zip(
                rows, maps, spreads, strict=True
            )
        ]


def run_draws(
    model: BayesPFLNetwork, settings: ScoringSettings, generator: torch.Generator | None = None
) -> RunSamples:
    """The draws of a run, from its seed or the user's generator; the global one is not touched."""
    count = settings.sample_count(model)
    with torch.no_grad():
        if generator is None or count == 0:
            return model.draw(count, settings.seed)
        return model.samples_from(PromptNoise.draw(count, model.backbone.embed_dim, generator))


def smoothing_sigma(model: BayesPFLNetwork) -> float:
    """Sigma in pixels of the Gaussian on the model's maps."""
    return model.config.scoring.smoothing * model.backbone.image_size


def normalised(model: BayesPFLNetwork, pixels: Sequence[np.ndarray]) -> Tensor:
    """Pictures, uint8 (S, S, 3) each -> float32 (B, 3, S, S) on the model's device.

    Bytes travel to the device, not floats.
    """
    device, backbone = model.device, model.backbone
    batch = torch.from_numpy(np.stack(pixels))
    if device.type == "cuda":
        batch = batch.pin_memory()
    planes = batch.to(device, non_blocking=True).permute(0, 3, 1, 2)  # (B, 3, S, S)
    return normalise(planes, backbone.mean, backbone.std).contiguous()


@contextmanager
def out_of_memory_explained(
    model: BayesPFLNetwork, images: int, draws: RunSamples | None = None
) -> Iterator[None]:
    """Within, a device without memory raises a ConfigError that says what to change."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        samples = f" with {draws.count} samples" if draws else ""
        raise ConfigError(
            f"{model.device} has no memory for a batch of {images}{samples}; use a smaller batch "
            "size, or fewer samples"
        ) from error
