"""The training objective (paper: section 3.5 and its supplement).

Symbols: B images, S image side, M prompt pairs, D joint width, R samples, L layers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from bayes_pfl.model.flows import FlowSample

DICE_SMOOTHING = 1e-5
FOCAL_GAMMA = 2.0


class PixelSums(NamedTuple):
    """Sums over all pixels of a batch that focal and dice divide by; each a number.

    Attributes:
        foreground, background: how many pixels are abnormal, and normal.
        overlap: of the probability of the abnormal class over the abnormal pixels.
        abnormal: of that probability over all pixels.
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


def _unchanged(sums: Tensor) -> Tensor:
    return sums


@dataclass(frozen=True)
class BatchPart:
    """One of ``count`` equal parts of a batch: its losses are shares that add up to the batch's.

    Focal and dice are quotients of sums over the pixels of the batch, so a part has to know the
    sums of the whole. With them the shares, and their gradients, are exact.

    Attributes:
        count: how many parts the batch has.
        whole_sums: turns the part's ``pixel_sums`` of each layer, (L, 4), into the batch's.
    """

    count: int = 1
    whole_sums: Callable[[Tensor], Tensor] = _unchanged


def focal_loss(
    abnormal: Tensor, mask: Tensor, gamma: float = FOCAL_GAMMA, whole: PixelSums | None = None
) -> Tensor:
    """Focal loss -(1 - p)^gamma log p, averaged over foreground and background apart, then added.

    Args:
        abnormal: probability of the abnormal class, any shape, in [0, 1].
        mask: 1 where abnormal, 0 elsewhere, of the same shape.
        whole: of the batch that this is a part of: the result is then the part's share.

    A class without a pixel in the batch adds nothing (Lin et al. 2017, equation 4).
    """
    whole = whole or PixelSums(*pixel_sums(abnormal, mask))
    p = torch.where(mask > 0.5, abnormal, 1 - abnormal)
    loss = -((1 - p) ** gamma) * p.clamp_min(torch.finfo(p.dtype).tiny).log()
    parts = ((mask, whole.foreground), (1 - mask, whole.background))
    return sum(
        ((loss * part).sum() / pixels.clamp_min(1) for part, pixels in parts),
        start=loss.new_zeros(()),
    )


def dice_loss(abnormal: Tensor, mask: Tensor, smoothing: float = DICE_SMOOTHING) -> Tensor:
    """1 - Dice of the abnormal map against the mask, over the whole batch at once."""
    return dice_share(abnormal, mask, PixelSums(*pixel_sums(abnormal, mask)), 1, smoothing)


def dice_share(
    abnormal: Tensor, mask: Tensor, whole: PixelSums, parts: int, smoothing: float = DICE_SMOOTHING
) -> Tensor:
    """What one of ``parts`` parts of a batch adds to its dice loss 1 - n / d.

    n = 2 sum(p m) + s and d = sum(p) + sum(m) + s are sums over the whole batch. The part's terms
    of n are divided by d; that d moves with p as well is a term of value 0 with the gradient
    n / d^2. So values and gradients of the parts add up to those of the whole.
    """
    numerator = 2 * whole.overlap + smoothing
    denominator = whole.abnormal + whole.foreground + smoothing
    own = (2 * (abnormal * mask).sum() + smoothing / parts) / denominator
    total = abnormal.sum()
    moved = (total - total.detach()) * numerator / denominator.square()
    return 1 / parts - own + moved


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
