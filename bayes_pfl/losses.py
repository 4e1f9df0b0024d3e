"""The training objective (paper: section 3.5 and its supplement).

Symbols: B images, S image side, M prompt pairs, D joint width, R samples.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bayes_pfl.flows import FlowSample

DICE_SMOOTHING = 1e-5
FOCAL_GAMMA = 2.0


def focal_loss(abnormal: Tensor, mask: Tensor, gamma: float = FOCAL_GAMMA) -> Tensor:
    """Focal loss -(1 - p)^gamma log p, averaged over foreground and background apart, then added.

    Args:
        abnormal: probability of the abnormal class, any shape, in [0, 1].
        mask: 1 where abnormal, 0 elsewhere, of the same shape.

    A class without a pixel in the batch adds nothing (Lin et al. 2017, equation 4).
    """
    p = torch.where(mask > 0.5, abnormal, 1 - abnormal)
    loss = -((1 - p) ** gamma) * p.clamp_min(torch.finfo(p.dtype).tiny).log()
    foreground, background = mask, 1 - mask
    return sum(
        ((loss * part).sum() / part.sum().clamp_min(1) for part in (foreground, background)),
        start=loss.new_zeros(()),
    )


def dice_loss(abnormal: Tensor, mask: Tensor, smoothing: float = DICE_SMOOTHING) -> Tensor:
    """1 - Dice of the abnormal map against the mask, over the whole batch at once."""
    overlap = (abnormal * mask).sum()
    return 1 - (2 * overlap + smoothing) / (abnormal.sum() + mask.sum() + smoothing)


def flow_loss(sample: FlowSample, batch: int) -> Tensor:
    """Mean of log q(z_0) - log N(z_K; 0, I), less the sum of log|det| over ``batch``.

    All without the 2*pi constants (Rezende & Mohamed 2015, equation 15; paper: equation 11). For
    the image-specific flow, with one row per image, this is the plain mean. The agnostic flows have
    one row for the whole batch, and the published code divides their log-determinant, alone, by the
    batch size.
    """
    log_prior = -sample.z.square().sum(-1) / 2
    return (sample.log_base - log_prior).mean() - sample.log_det.sum() / batch


def orthogonal_loss(normal: Tensor, abnormal: Tensor) -> Tensor:
    """Squared cosines between different prompts of one state, summed over the two states.

    The published mean counts all M*M entries, the zeroed diagonal among them.

    Args:
        normal, abnormal: normalised text embeddings (B, M, D). One prompt alone costs nothing.
    """
    return _mean_squared_cosine(normal) + _mean_squared_cosine(abnormal)


def _mean_squared_cosine(embeddings: Tensor) -> Tensor:
    count = embeddings.shape[1]
    cosines = embeddings @ embeddings.transpose(1, 2)
    off_diagonal = 1 - torch.eye(count, dtype=cosines.dtype, device=cosines.device)
    return (cosines * off_diagonal).square().mean()
