"""One run of the model: settings and draws fixed once, then any number of batches.

Symbols: B images, S model's image side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bayes_pfl.clip.frozen_clip import ImageFeatures
from bayes_pfl.errors import ConfigError
from bayes_pfl.model.network import BatchScores, BayesPFLNetwork
from bayes_pfl.model.sampling import PromptNoise, RunSamples
from bayes_pfl.model.scoring import DEPLOY_FRACTION, gaussian_smooth, top_mean
from bayes_pfl.support.precision import autocast, half_dtype

CREDIBLE_MASS = 0.95


@dataclass(frozen=True)
class ScoredImage:
    """Scores of one image, as in :class:`AnomalyResult`; its maps on the CPU at the model's size.

    Attributes:
        low, high: ends of the credible interval of the score.
        map: (S, S) in [0, 1]; None if maps were not asked for.
        spread: (S, S) in [0, 0.5]; likewise.
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
    def finite(self) -> bool:
        """False where half precision overflowed."""
        return bool(np.isfinite(self.score) and np.isfinite(self.uncertainty))


class Scorer:
    """A model with the settings and the random draws of one run; scores any number of batches.

    Every image meets the same draws, so its result does not depend on the batch it came in.

    Args:
        samples: R; 0 for the mean prompt; None for the checkpoint's.
        precision: float32 (exact), bfloat16 or float16; or fp32, bf16, fp16.
        seed, generator: of the draws; a generator is used, and advanced, in place of the seed.
        smoothing: of the maps; the scores never see it.
        maps, spread: whether the maps, and those of the uncertainty, are wanted.
        compile: the image tower through torch.compile, at the first batch: minutes, once.

    Raises:
        ConfigError: a setting that cannot be used.
    """

    def __init__(
        self,
        model: BayesPFLNetwork,
        *,
        samples: int | None = None,
        precision: str = "float32",
        seed: int = 0,
        generator: torch.Generator | None = None,
        smoothing: bool = True,
        maps: bool = True,
        spread: bool = True,
        compile: bool = False,
    ) -> None:
        half_dtype(precision)  # an unknown name should be told before any work
        self.model, self.precision = model, precision
        self.draws = run_draws(model, samples, seed, generator)
        self.sigma = model.config.scoring.smoothing * model.backbone.image_size if smoothing else 0
        self.maps, self.spread, self.compiled = maps, spread, compile
        encode = model.backbone.encode_image
        if compile:
            with autocast(model.device, precision):
                model.backbone.lean_visual()  # made here, not while it is traced
        self._encode = torch.compile(encode) if compile else encode

    @torch.no_grad()
    def __call__(
        self, pixels: Sequence[np.ndarray], class_names: Sequence[str]
    ) -> list[ScoredImage]:
        """Score B pictures, uint8 (S, S, 3) each, with their class names or synonyms a|b."""
        try:
            with autocast(self.model.device, self.precision):
                features = self._features(self._normalised(pixels))
                text = self.model.prompt_embeddings(features.pooled, self.draws, class_names)
                scores = self.model.score_features(features, text)
            return self._images(scores)
        except torch.OutOfMemoryError as error:
            raise ConfigError(
                f"{self.model.device} has no memory for a batch of {len(pixels)} with "
                f"{self.draws.count} samples; use a smaller batch size, or fewer samples"
            ) from error

    def _features(self, images: Tensor) -> ImageFeatures:
        try:
            return self._encode(images)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if not self.compiled:
                raise
            reason = " ".join(str(error).split())[:160]
            raise ConfigError(
                f"torch.compile failed ({reason}); it needs a C++ compiler: leave --compile out"
            ) from error

    def _normalised(self, pixels: Sequence[np.ndarray]) -> Tensor:
        """uint8 pictures -> float32 (B, 3, S, S) on the device; bytes travel, not floats."""
        device, backbone = self.model.device, self.model.backbone
        batch = torch.from_numpy(np.stack(pixels))
        if device.type == "cuda":
            batch = batch.pin_memory()
        values = batch.to(device, non_blocking=True).permute(0, 3, 1, 2).float() / 255
        mean = torch.tensor(backbone.mean, device=device).view(3, 1, 1)
        std = torch.tensor(backbone.std, device=device).view(3, 1, 1)
        return ((values - mean) / std).contiguous()

    def _images(self, scores: BatchScores) -> list[ScoredImage]:
        map_score = top_mean(scores.map, fraction=DEPLOY_FRACTION)
        columns = (
            (scores.text_score + map_score) / 2,
            scores.text_score,
            map_score,
            (scores.text_spread + top_spread(scores.map, scores.map_spread)) / 2,
            *credible_interval(scores.pair_scores),
        )
        rows = torch.stack([column.float() for column in columns], dim=1).tolist()
        nothing: Sequence[None] = [None] * len(rows)
        maps = gaussian_smooth(scores.map, self.sigma).cpu() if self.maps else nothing
        spreads = scores.map_spread.cpu() if self.spread else nothing
        return [ScoredImage(*row, *m) for row, *m in zip(rows, maps, spreads, strict=True)]


def credible_interval(pair_scores: Tensor, mass: float = CREDIBLE_MASS) -> tuple[Tensor, Tensor]:
    """Central interval that holds the share ``mass`` of the pairs' scores (B, K): both ends, (B,).

    Quantiles with linear interpolation: K pairs cannot tell of tails thinner than 1 / K.
    """
    tail = (1 - mass) / 2
    places = torch.tensor([tail, 1 - tail], device=pair_scores.device)
    low, high = pair_scores.float().quantile(places, dim=1)
    return low, high


def run_draws(
    model: BayesPFLNetwork, samples: int | None, seed: int, generator: torch.Generator | None = None
) -> RunSamples:
    """The draws of a run, from a seed or from the user's generator; the global one is not touched.

    Raises:
        ConfigError: a negative number of samples.
    """
    count = model.config.scoring.samples if samples is None else samples
    check_whole("samples", count, 0)
    with torch.no_grad():
        if generator is None or count == 0:
            return model.draw(count, seed)
        return model.samples_from(PromptNoise.draw(count, model.backbone.embed_dim, generator))


def top_spread(maps: Tensor, spread: Tensor, fraction: float = DEPLOY_FRACTION) -> Tensor:
    """Mean of the spread over the highest pixels of the maps: both (B, H, W) -> (B,).

    Ties at the limit are all taken: which of equal pixels comes first depends on the batch.
    """
    count = max(1, round(fraction * maps[0].numel()))
    limit = maps.flatten(1).topk(count, dim=1, sorted=True).values[:, -1]
    highest = maps >= limit.view(-1, 1, 1)
    return (spread * highest).sum((1, 2)) / highest.sum((1, 2))


def check_whole(name: str, value: Any, low: int) -> None:
    """Raise ConfigError unless ``value`` is a whole number of at least ``low``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ConfigError(f"{name} = {value!r}: must be a whole number, {low} at least")
