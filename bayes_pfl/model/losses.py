"""The terms of the training objective (paper: section 3.5 and its supplement).

Symbols: B images, M prompt pairs, D joint width, R samples, L layers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from bayes_pfl.model.flows import FlowSample

DICE_SMOOTHING = 1e-5
FOCAL_FLOOR = 1e-8
"""Added to the probability before its logarithm, as in the published code."""


class PixelSums(NamedTuple):
    """Sums over the pixels of a whole batch, by which focal and dice loss divide; each a number.

    Attributes:
        foreground, background: number of abnormal pixels, and of normal ones.
        overlap: sum of the abnormal probability over the abnormal pixels.
        abnormal: its sum over all pixels.
    """

    foreground: Tensor
    background: Tensor
    overlap: Tensor
    abnormal: Tensor


def pixel_sums(abnormal: Tensor, mask: Tensor) -> Tensor:
    """The four :class:`PixelSums` of a map and its mask, (4,), without gradient."""
    p = abnormal.detach()
    mask = mask.detach().to(p.dtype)  # a half-precision mask would have its sums rounded
    return torch.stack([mask.sum(), (1 - mask).sum(), (p * mask).sum(), p.sum()])


@dataclass(frozen=True)
class BatchPart:
    """One of ``count`` equal parts of a batch: its losses are shares that add up to the batch's.

    Focal and dice loss are quotients of sums over the pixels of the batch, so a part needs the sums
    of the whole. With them the shares, and their gradients, are exact.

    Attributes:
        count: how many parts the batch has.
        whole_sums: maps the part's ``pixel_sums`` of each layer, (L, 4), to the batch's.
    """

    count: int = 1
    whole_sums: Callable[[Tensor], Tensor] = lambda sums: sums


WHOLE_BATCH = BatchPart()


def focal_loss(
    abnormal: Tensor, mask: Tensor, gamma: float = 2.0, whole: PixelSums | None = None
) -> Tensor:
    """Focal loss -(1 - p)^gamma log(p + 1e-8), the mean of the foreground plus the background's.

    A class without a pixel in the batch adds nothing (Lin et al. 2017, equation 4).

    Args:
        abnormal: probability of the abnormal class, any shape, in [0, 1].
        mask: 1 where abnormal, 0 elsewhere, of the same shape.
        whole: sums of the batch that this is a part of; the result is then the part's share.
    """
    whole = whole or PixelSums(*pixel_sums(abnormal, mask))
    p = torch.where(mask > 0.5, abnormal, 1 - abnormal).float()  # float16 has no 1e-8
    loss = -((1 - p) ** gamma) * (p + FOCAL_FLOOR).log()
    foreground = (loss * mask).sum() / whole.foreground.clamp_min(1)
    background = (loss * (1 - mask)).sum() / whole.background.clamp_min(1)
    return foreground + background


def dice_loss(
    abnormal: Tensor, mask: Tensor, whole: PixelSums | None = None, parts: int = 1
) -> Tensor:
    """Dice loss 1 - n / d with n = 2 sum(p m) + s and d = sum(p) + sum(m) + s over the batch.

    For a part of the batch, its terms of n are divided by the batch's d. That d moves with p as
    well is a term of value 0 with the gradient n / d^2. So values and gradients of the parts add up
    to those of the whole.

    Args:
        abnormal, mask: p and m, as in :func:`focal_loss`.
        whole: sums of the batch that this is a part of; the result is then the part's share.
        parts: how many parts the batch has.
    """
    whole = whole or PixelSums(*pixel_sums(abnormal, mask))
    numerator = 2 * whole.overlap + DICE_SMOOTHING
    denominator = whole.abnormal + whole.foreground + DICE_SMOOTHING
    own = (2 * (abnormal * mask).sum() + DICE_SMOOTHING / parts) / denominator
    total = abnormal.sum()
    moved = (total - total.detach()) * numerator / denominator.square()
    return 1 / parts - own + moved


def flow_loss(sample: FlowSample, batch: int) -> Tensor:
    """Mean of log q(z_0) - log N(z_K; 0, I), minus the sum of log|det| divided by ``batch``.

    All without the 2*pi constants (Rezende & Mohamed 2015, equation 15; paper: equation 11). For
    the image-specific flow, with one row per image, this is the plain mean. The agnostic flows have
    one row for the whole batch; the published code divides only their log-determinant by the batch
    size.

    Args:
        sample: draws (B, R, D), or (R, D).
        batch: number of images.
    """
    log_prior = -sample.z.square().sum(-1) / 2
    return (sample.log_base - log_prior).mean() - sample.log_det.sum() / batch


def orthogonal_loss(normal: Tensor, abnormal: Tensor) -> Tensor:
    """Squared cosines between different prompts of one state, summed over the two states.

    The published mean is over all M*M entries, including the zeroed diagonal. With one prompt the
    loss is 0.

    Args:
        normal, abnormal: normalised text embeddings (B, M, D).
    """
    return _mean_squared_cosine(normal) + _mean_squared_cosine(abnormal)


def _mean_squared_cosine(embeddings: Tensor) -> Tensor:
    count = embeddings.shape[1]
    cosines = embeddings @ embeddings.transpose(1, 2)  # (B, M, M)
    off_diagonal = 1 - torch.eye(count, dtype=cosines.dtype, device=cosines.device)
    return (cosines * off_diagonal).square().mean()
