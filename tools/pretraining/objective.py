"""The contrastive losses of the pretraining. All embeddings are normalised."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def soft_contrastive(images: Tensor, texts: Tensor, true: Tensor, scale: Tensor) -> Tensor:
    """Symmetric cross entropy with every true pair as a target.

    CLIP's loss (Radford et al. 2021) takes one caption a picture and calls all others wrong. Here
    several captions are true of one picture, so its target is spread evenly over them.

    Args:
        images: (B, D). texts: (C, D).
        true: bool (B, C); every row and column with one at least.
        scale: factor on cosines.
    """
    logits = scale * images @ texts.T
    weights = true.to(logits.dtype)
    by_image = F.cross_entropy(logits, weights / weights.sum(1, keepdim=True))
    by_text = F.cross_entropy(logits.T, (weights / weights.sum(0)).T)
    return (by_image + by_text) / 2


def state_pairs(
    images: Tensor,
    normal: Tensor,
    defective: Tensor,
    applies: Tensor,
    labels: Tensor,
    scale: Tensor,
) -> Tensor:
    """Two-way cross entropy between a normal and a defective sentence about the same noun.

    It is the question that anomaly detection asks of the text tower.

    Args:
        images: (B, D). normal, defective: (P, D), the sentences of P pairs.
        applies: bool (B, P), which pairs speak of which pictures; one at least.
        labels: bool (B,), True for defective pictures.
    """
    margin = scale * images @ (defective - normal).T
    losses = F.binary_cross_entropy_with_logits(
        margin, labels.to(margin.dtype)[:, None].expand_as(margin), reduction="none"
    )
    return losses[applies].mean()


def named_classes(classes: Tensor, texts: Tensor, labels: Tensor, scale: Tensor) -> Tensor:
    """Symmetric cross entropy of names against class features.

    Args:
        classes: (1000, D), all class features. texts: (K, D), names of K different classes.
        labels: (K,), their classes.
    """
    logits = scale * texts @ classes.T
    by_text = F.cross_entropy(logits, labels)
    by_class = F.cross_entropy(logits[:, labels].T, torch.arange(len(labels), device=labels.device))
    return (by_text + by_class) / 2


def distilled_names(images: Tensor, texts: Tensor, logits: Tensor, scale: Tensor) -> Tensor:
    """Cross entropy of pictures over names, with a classifier's probabilities as the target.

    Args:
        images: (B, D). texts: (K, D), names of K different classes.
        logits: (B, K), the classifier's for these classes.
    """
    return F.cross_entropy(scale * images @ texts.T, logits.softmax(dim=1))
