"""The training objective over the network: what one step minimises (paper: section 3.5).

Symbols: B images, S image side, M prompt pairs, K of them that are trained (1, or M), L layers,
N patches, D joint width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bayes_pfl.clip.frozen_clip import ImageFeatures
from bayes_pfl.model.losses import (
    WHOLE_BATCH,
    BatchPart,
    PixelSums,
    dice_loss,
    flow_loss,
    focal_loss,
    orthogonal_loss,
    pixel_sums,
)
from bayes_pfl.model.maps import upsampled_probability
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.model.sampling import PromptNoise


@dataclass(frozen=True)
class TrainingBatch:
    """What the losses of one step are computed from.

    Attributes:
        features: of B images.
        class_names: one for each image.
        masks: (B, S, S) in {0, 1}, 1 where abnormal.
        labels: int64 (B,) in {0, 1}, 1 for abnormal images.
        noise: one sample: specific (B, 1, D), normal and abnormal (1, D).
        pair: index below M of the prompt pair that maps and logits are computed for; None for
            every pair, each as if it were an image of its own.
    """

    features: ImageFeatures
    class_names: Sequence[str]
    masks: Tensor
    labels: Tensor
    noise: PromptNoise
    pair: int | None


def training_losses(
    model: BayesPFLNetwork,
    batch: TrainingBatch,
    *,
    stage: int = 1,
    flow_weight: float = 0.01,
    part: BatchPart = WHOLE_BATCH,
) -> dict[str, Tensor]:
    """Loss terms of one step, already weighted, and their sum as "total"; each a number.

    Args:
        stage: 1, or 2 to train on the image loss alone.
        flow_weight: of the three flow losses.
        part: which part of a larger batch this is; the terms are then its shares of the batch's.
    """
    samples = model.samples_from(batch.noise)
    with torch.set_grad_enabled(stage == 1 and torch.is_grad_enabled()):
        specific = model.specific_sample(batch.features.pooled, samples)
        text = model.text_embeddings(specific, samples, batch.class_names)  # (B, 2, M, D)
    trained = text if batch.pair is None else text[:, :, batch.pair : batch.pair + 1]
    classification = _classification_loss(model, batch, trained, stage)
    terms = {"classification": classification / part.count}
    if stage == 1:
        images = len(batch.labels)
        terms |= _map_losses(model, batch, trained, part)
        flows = {
            "flow_specific": flow_loss(specific, images),
            "flow_normal": flow_loss(samples.normal, images * part.count),
            "flow_abnormal": flow_loss(samples.abnormal, images * part.count),
        }
        terms |= {name: flow_weight * loss / part.count for name, loss in flows.items()}
        terms["orthogonal"] = orthogonal_loss(text[:, 0], text[:, 1]) / part.count
    return {"total": torch.stack(list(terms.values())).sum(), **terms}


@torch.no_grad()
def training_sums(model: BayesPFLNetwork, batch: TrainingBatch) -> Tensor:
    """:class:`PixelSums` of each layer, (L, 4), by which :func:`training_losses` would divide.

    Computed before the losses where a batch is taken in parts.
    """
    samples = model.samples_from(batch.noise)
    specific = model.specific_sample(batch.features.pooled, samples)
    text = model.text_embeddings(specific, samples, batch.class_names, batch.pair)
    return _sums(_layer_maps(model, batch.features, text), batch.masks)


def _classification_loss(
    model: BayesPFLNetwork, batch: TrainingBatch, text: Tensor, stage: int
) -> Tensor:
    """Cross-entropy of every pair's logits against the label of its image."""
    logits = model.image_logits(batch.features, text, stage)  # (B, 2, K)
    pair_logits = logits.transpose(1, 2).flatten(0, 1)  # (B*K, 2)
    targets = batch.labels.repeat_interleave(logits.shape[2])  # (B*K,)
    return F.cross_entropy(pair_logits, targets)


def _map_losses(
    model: BayesPFLNetwork, batch: TrainingBatch, text: Tensor, part: BatchPart
) -> dict[str, Tensor]:
    """Focal and dice loss, each summed over the layers."""
    maps = _layer_maps(model, batch.features, text)
    masks = batch.masks[:, None].expand_as(maps[0])  # (B, K, S, S)
    whole = [PixelSums(*sums) for sums in part.whole_sums(_sums(maps, batch.masks))]
    focal = [focal_loss(x, masks, whole=w) for x, w in zip(maps, whole, strict=True)]
    dice = [dice_loss(x, masks, w, part.count) for x, w in zip(maps, whole, strict=True)]
    return {"focal": torch.stack(focal).sum(), "dice": torch.stack(dice).sum()}


def _layer_maps(model: BayesPFLNetwork, features: ImageFeatures, text: Tensor) -> list[Tensor]:
    """Abnormal probability by each layer, (B, K, S, S), for prompt pairs (B, 2, K, D)."""
    layers, size = model.layer_logits(features, text), model.backbone.image_size
    return [upsampled_probability(logits, features.grid, size) for logits in layers]


def _sums(maps: list[Tensor], masks: Tensor) -> Tensor:
    return torch.stack([pixel_sums(x, masks[:, None].expand_as(x)) for x in maps])
