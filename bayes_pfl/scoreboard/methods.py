"""The rows of a scoreboard: a checkpoint, CLIP with prompts by hand, local contrast.

Each gives a score for every image and, where it can, a smoothed map. Symbols: B images, S side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from bayes_pfl.clip.frozen_clip import ImageFeatures
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.model.sampling import RunSamples
from bayes_pfl.model.scoring import DEPLOY_FRACTION, gaussian_smooth, top_mean
from bayes_pfl.scoreboard.handcrafted import HandcraftedPrompts
from bayes_pfl.scoreboard.local_contrast import local_contrast

CONTRAST_SIDE = 256
"""Side in pixels at which the sigmas of the local contrast hold; they grow with the side."""


@dataclass(frozen=True)
class EncodedBatch:
    """Images that have been through the image tower.

    Attributes:
        images: (B, 3, S, S), normalised, on the model's device.
        pixels: the same as uint8 (B, S, S, 3).
        class_names: one for each.
    """

    images: Tensor
    pixels: np.ndarray
    features: ImageFeatures
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """Image scores, float64 (B,), and maps, float32 (B, S, S) or None; higher is more anomalous."""

    scores: np.ndarray
    maps: np.ndarray | None


class Method(Protocol):
    """A row of the scoreboard.

    Attributes:
        name: unique among the rows.
        reason: why it gives no maps; None if it does.
    """

    name: str
    reason: str | None

    def score(self, batch: EncodedBatch) -> Outcome:
        """Score a batch."""


class CheckpointMethod:
    """A trained model with one number of samples, scored as in the protocol ``deploy``."""

    reason = None

    def __init__(self, name: str, model: BayesPFLNetwork, draws: RunSamples) -> None:
        self.name, self.model, self.draws = name, model, draws
        self.sigma = model.config.scoring.smoothing * model.backbone.image_size

    def score(self, batch: EncodedBatch) -> Outcome:
        """Half the text score, half the highest 0.75% of the map before smoothing."""
        found = self.model.score_encoded(batch.features, batch.class_names, self.draws)
        highest = top_mean(found.map, fraction=DEPLOY_FRACTION)
        return _outcome((found.text_score + highest) / 2, gaussian_smooth(found.map, self.sigma))


class HandcraftedMethod:
    """CLIP alone: a score from the global embedding, a map from the patches."""

    def __init__(self, name: str, prompts: HandcraftedPrompts, sigma: float) -> None:
        self.name, self.prompts, self.sigma = name, prompts, sigma
        self.reason = prompts.reason

    def score(self, batch: EncodedBatch) -> Outcome:
        """Softmax of cosines; maps smoothed as the checkpoint's are."""
        scores = self.prompts.image_scores(batch.features, batch.class_names)
        if self.reason is not None:
            return _outcome(scores, None)
        maps = self.prompts.maps(batch.images, batch.features, batch.class_names)
        return _outcome(scores, gaussian_smooth(maps, self.sigma))


class ContrastMethod:
    """Difference of each pixel from its surroundings; nothing is learned."""

    name = "local contrast"
    reason = None

    def score(self, batch: EncodedBatch) -> Outcome:
        """The score is the mean of the highest 0.75% of the map."""
        scale = batch.pixels.shape[1] / CONTRAST_SIDE
        maps = [local_contrast(pixels, 8 * scale, 4 * scale) for pixels in batch.pixels]
        stacked = torch.from_numpy(np.stack(maps))
        return _outcome(top_mean(stacked, fraction=DEPLOY_FRACTION), stacked)


def encode(model: BayesPFLNetwork, images: Tensor, class_names: list[str]) -> EncodedBatch:
    """Normalised images (B, 3, S, S) through the image tower."""
    backbone = model.backbone
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (backbone.mean, backbone.std))
    pixels = ((images * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
    there = images.to(model.device)
    features = backbone.encode_image(there)
    return EncodedBatch(there, pixels.permute(0, 2, 3, 1).numpy(), features, tuple(class_names))


def _outcome(scores: Tensor, maps: Tensor | None) -> Outcome:
    smooth = None if maps is None else maps.float().cpu().numpy()
    return Outcome(scores.double().cpu().numpy(), smooth)
