"""The rows of a scoreboard: a checkpoint, CLIP with prompts by hand, local contrast.

Each has a name, unique among the rows, and a reason why it gives no maps, None if it does. It gives
scores (B,) and, where it can, smoothed maps (B, S, S); higher is more anomalous.

Prompts by hand show what training adds to a backbone. Every state is set into every template, as
zero-shot classifiers of CLIP do it (Radford et al. 2021, section 3.1.4: an ensemble of prompts,
averaged in the space of embeddings). Maps come from the patches in CLIP's joint space. What the
tower does to its pooled features is done to each place by itself. Where the tower pools by an
average and projects linearly, the mean of the places is then the global embedding. (The last
attention of a transformer is left as it is.)

Symbols: B images, S model's image side, N = h*w patches, V vision width, D joint width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bayes_pfl.clip.frozen_clip import FrozenCLIP, ImageFeatures
from bayes_pfl.data.wording import synonyms
from bayes_pfl.detect.scorer import normalised, smoothing_sigma
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.model.sampling import RunSamples, TextCache
from bayes_pfl.model.scoring import DEPLOY_FRACTION, deploy_score, gaussian_smooth, top_mean

CONTRAST_SIDE = 256
"""Side in pixels at which the sigmas of the local contrast hold; they grow with the side."""

NORMAL_STATES = (
    "{}",
    "flawless {}",
    "intact {}",
    "{} in good condition",
    "{} without any defect",
)
DAMAGED_STATES = (
    "damaged {}",
    "broken {}",
    "{} with a defect",
    "{} with a flaw",
    "{} in bad condition",
)
TEMPLATES = (
    "a photo of a {}",
    "a close-up photo of the {}",
    "a picture of one {} for inspection",
)

LOGIT_SCALE = 100.0
"""Of the cosines in the softmax, CLIP's own limit. Ranks, so AUROC and AP, do not depend on it."""


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


class HandcraftedPrompts:
    """Scores and maps of a frozen backbone from the averaged embeddings of two kinds of sentences.

    Attributes:
        sigma: of the smoothing of maps, in pixels.
        reason: why there are no maps; None if there are.
    """

    def __init__(
        self, backbone: FrozenCLIP, name: str = "prompts by hand", sigma: float = 0.0
    ) -> None:
        self.backbone, self.name, self.sigma = backbone, name, sigma
        self.reason = dense_reason(backbone)
        self._texts = TextCache()

    def score(self, batch: EncodedBatch) -> tuple[Tensor, Tensor | None]:
        """A softmax of cosines, and maps smoothed as a checkpoint's are; None with a ``reason``."""
        scores = self.image_scores(batch.features, batch.class_names)
        if self.reason is not None:
            return scores, None
        maps = self.maps(batch.images, batch.features, batch.class_names)
        return scores, gaussian_smooth(maps, self.sigma)

    @torch.no_grad()
    def embeddings(self, class_names: Sequence[str]) -> Tensor:
        """Normal and damaged direction of each class name, normalised (B, 2, D)."""
        return self._texts.embeddings(class_names, self._encode)

    def _encode(self, class_names: list[str]) -> Tensor:
        sides = [
            torch.stack([self._direction(sentences(name, states)) for name in class_names])
            for states in (NORMAL_STATES, DAMAGED_STATES)
        ]
        return torch.stack(sides, dim=1)

    def _direction(self, texts: list[str]) -> Tensor:
        """Mean of the normalised embeddings of texts, normalised again: (D,)."""
        width = self.backbone.text.width
        nothing = torch.empty(len(texts), 1, 0, width, device=self.backbone.device)
        encoded = self.backbone.text(nothing, self.backbone.text.tokenize(texts, 0))
        return F.normalize(F.normalize(encoded[:, 0].float(), dim=-1).mean(0), dim=-1)

    @torch.no_grad()
    def image_scores(self, features: ImageFeatures, class_names: Sequence[str]) -> Tensor:
        """Softmax over the cosines of the global embedding: of "damaged", float64 (B,)."""
        pooled = F.normalize(features.pooled.float(), dim=-1)
        cosines = (self.embeddings(class_names) * pooled[:, None]).sum(-1)
        # In double precision: sure images must not become ties.
        return (cosines.double() * LOGIT_SCALE).softmax(dim=-1)[:, 1]

    @torch.no_grad()
    def maps(self, images: Tensor, features: ImageFeatures, class_names: Sequence[str]) -> Tensor:
        """(1 + cosine with "damaged" - cosine with "normal") / 2, upsampled: (B, S, S).

        Not a softmax, which would make equal pixels of all that are sure. Only without a
        ``reason``.
        """
        patches, grid = joint_patches(self.backbone, images, features)
        patches = F.normalize(patches.float(), dim=-1)
        normal, damaged = self.embeddings(class_names).unbind(1)
        # A product and a sum, for autocast would take a matrix product to half precision: ties.
        values = (1 + (patches * (damaged - normal)[:, None]).sum(-1)) / 2
        size = self.backbone.image_size
        return F.interpolate(
            values.unflatten(1, grid)[:, None], (size, size), mode="bilinear", align_corners=True
        )[:, 0]


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


def sentences(class_name: str, states: tuple[str, ...]) -> list[str]:
    """Every state of the class, by each of its synonyms, in every template.

    >>> sentences("metal nut", NORMAL_STATES)[1]
    'a photo of a flawless metal nut'
    """
    things = [state.format(name) for name in synonyms(class_name) for state in states]
    return [template.format(thing) for template in TEMPLATES for thing in things]


def dense_reason(backbone: FrozenCLIP) -> str | None:
    """Why this tower has no patches in the joint space; None if it has."""
    visual = backbone.visual
    plain = hasattr(visual, "transformer")
    trunk = visual if plain else getattr(visual, "trunk", None)
    attends = getattr(trunk, "attn_pool", None) is not None
    if trunk is None or attends or (not plain and hasattr(visual.head, "pool")):
        return "the image tower pools by attention: its patches are not in the joint space"
    if plain and backbone.layers[-1] != len(visual.transformer.resblocks):
        return "the last block of the image tower is not tapped"
    projects = plain or hasattr(trunk, "fc_norm")
    if not projects and getattr(trunk, "output_fmt", "NCHW") != "NCHW":
        return f"patches of {type(trunk).__name__} cannot be projected one by one"
    return None


def joint_patches(
    backbone: FrozenCLIP, images: Tensor, features: ImageFeatures
) -> tuple[Tensor, tuple[int, int]]:
    """Patches in the joint space, (B, N, D), not normalised, and their grid (h, w).

    Only for towers without a :func:`dense_reason`.

    Args:
        images: (B, 3, S, S), normalised.
        features: of the same images; those of transformers need no second pass.
    """
    visual = backbone.fast_visual()
    if hasattr(visual, "transformer"):
        tokens = visual.ln_post(features.tokens[-1])
        return tokens if visual.proj is None else tokens @ visual.proj, features.grid
    maps = visual.trunk.forward_features(images)
    if maps.ndim == 4:
        return _places(visual, maps), (maps.shape[-2], maps.shape[-1])
    trunk = visual.trunk
    tokens = trunk.fc_norm(maps[:, trunk.num_prefix_tokens :])
    tokens = visual.head(trunk.head(tokens) if trunk.num_classes else tokens)
    side = math.isqrt(tokens.shape[1])  # inputs are square
    return tokens, (side, side)


def _places(visual: Any, maps: Tensor) -> Tensor:
    """(B, V, h, w) -> (B, N, D): each place goes through the head as a map of one pixel."""
    places = maps.flatten(2).transpose(1, 2)  # (B, N, V)
    alone = places.flatten(0, 1)[..., None, None]
    pooled = visual.trunk.forward_head(alone, pre_logits=visual.trunk.num_classes == 0)
    return visual.head(pooled).unflatten(0, places.shape[:2])
