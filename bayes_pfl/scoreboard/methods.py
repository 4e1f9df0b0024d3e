"""The rows of a scoreboard: a checkpoint, and local contrast; for CLIP alone see handcrafted.py.

Each has a name, unique among the rows, and a reason why it gives no maps, None if it does. It gives
scores (B,) and, where it can, smoothed maps (B, S, S); higher is more anomalous. Symbols: B images,
S side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from bayes_pfl.clip.frozen_clip import ImageFeatures
from bayes_pfl.detect.scorer import normalised, smoothing_sigma
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.model.sampling import RunSamples
from bayes_pfl.model.scoring import DEPLOY_FRACTION, deploy_score, gaussian_smooth, top_mean

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


class CheckpointMethod:
    """A trained model with one number of samples, scored as in the protocol ``deploy``."""

    reason: str | None = None

    def __init__(self, name: str, model: BayesPFLNetwork, draws: RunSamples) -> None:
        self.name, self.model, self.draws = name, model, draws
        self.sigma = smoothing_sigma(model)

    def score(self, batch: EncodedBatch) -> tuple[Tensor, Tensor | None]:
        """Half the text score, half the highest 0.75% of the map before smoothing."""
        found = self.model.score_encoded(batch.features, batch.class_names, self.draws)
        score = deploy_score(found.text_score, top_mean(found.map, fraction=DEPLOY_FRACTION))
        return score, gaussian_smooth(found.map, self.sigma)


class ContrastMethod:
    """Difference of each pixel from its surroundings; nothing is learned."""

    name = "local contrast"
    reason: str | None = None

    def score(self, batch: EncodedBatch) -> tuple[Tensor, Tensor | None]:
        """The score is the mean of the highest 0.75% of the map."""
        scale = batch.pixels.shape[1] / CONTRAST_SIDE
        maps = [local_contrast(pixels, 8 * scale, 4 * scale) for pixels in batch.pixels]
        stacked = torch.from_numpy(np.stack(maps))
        return top_mean(stacked, fraction=DEPLOY_FRACTION), stacked


def local_contrast(image: np.ndarray, blur: float = 8.0, smooth: float = 4.0) -> np.ndarray:
    """|image - blurred image|, mean over the channels, smoothed as anomaly maps are.

    Args:
        image: uint8 (H, W, 3).
        blur: sigma of the blur that is subtracted, in pixels.
        smooth: sigma of the smoothing of the result, in pixels.

    Returns:
        float32 (H, W), in [0, 1].
    """
    pixels = image.astype(np.float32) / 255
    contrast = np.abs(pixels - cv2.GaussianBlur(pixels, (0, 0), blur)).mean(axis=2)
    return cv2.GaussianBlur(contrast, (0, 0), smooth)


def encode(
    model: BayesPFLNetwork, pixels: Sequence[np.ndarray], class_names: Sequence[str]
) -> EncodedBatch:
    """Pictures, uint8 (S, S, 3) each, through the image tower."""
    images = normalised(model, pixels)
    features = model.backbone.encode_image(images)
    return EncodedBatch(images, np.stack(pixels), features, tuple(class_names))
