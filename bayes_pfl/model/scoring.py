"""From anomaly maps to smoothed maps and image scores, in both evaluation protocols.

`deploy` scores one image by itself: half the text score, half the mean of the highest pixels of
its map. `authors` is the published protocol: both parts min-max scaled over the test set of a
category. In both, the highest pixels are taken from the map before smoothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from bayes_pfl.errors import ConfigError, DataError
from bayes_pfl.support.tracing import is_exporting

Values = TypeVar("Values", np.ndarray, Tensor)
Score = TypeVar("Score", float, np.ndarray, Tensor)

DEPLOY_FRACTION = 0.0075
CREDIBLE_MASS = 0.95

_LEAST_WEIGHT = 1e-12

# Pixels averaged for the image score in the published evaluation, at 518 x 518 pixels.
AUTHORS_TOP_K_DEFAULT = 2000
AUTHORS_TOP_K = dict.fromkeys(
    ("capsules", "macaroni1", "macaroni2", "pipe_fryum", "screw", "cashew", "chewinggum"), 20
)


def gaussian_smooth(maps: Tensor, sigma: float) -> Tensor:
    """Smooth maps (B,H,W) or (H,W) on their device, as scipy.ndimage.gaussian_filter does.

    The kernel is cut at 4 sigma and the maps continue by reflection about the edge of the
    outermost pixel, as often as it takes where a map is smaller than the kernel. Differentiable;
    not affected by autocast or TF32, which would cost more than the 1e-4 that is promised.

    Returns:
        The shape and dtype of `maps` (integers become float32). sigma 0 returns the values
        unchanged.
    """
    if not (math.isfinite(sigma) and sigma >= 0):
        raise ConfigError(f"sigma={sigma!r}: must be a finite number of pixels, 0 for no smoothing")
    if maps.ndim not in (2, 3):
        raise DataError(f"maps of shape {tuple(maps.shape)}: must be (B, H, W) or (H, W)")
    dtype = maps.dtype if maps.is_floating_point() else torch.float32
    if maps.numel() == 0:
        return maps.to(dtype)
    weights = _gaussian_weights(sigma)
    # Half precision would lose the promised accuracy in a sum of many small terms.
    wide = maps.to(torch.promote_types(dtype, torch.float32))
    if is_exporting():  # the same sums as two products: a graph has no loops
        rows, columns = (_smoothing_matrix(side, weights) for side in wide.shape[-2:])
        return (rows @ wide @ columns.T).to(dtype)
    if wide.device.type == "cpu" and wide.ndim == 3:
        # One map at a time stays in the processor's cache: three times as fast as the whole batch.
        smooth = torch.stack([_smooth(one, weights) for one in wide])
    else:
        smooth = _smooth(wide, weights)
    return smooth.to(dtype)


def smoothed(maps: Tensor, sigma: float, inside: Tensor | None = None) -> Tensor:
    """Maps (B, H, W) smoothed; with ``inside``, bool (B, H, W), from the pixels there alone.

    Each pixel inside is then the weighted mean of the others inside, and 0 lies outside: the edge
    of a region is not lowered by what does not count.
    """
    if inside is None:
        return gaussian_smooth(maps, sigma)
    weights = gaussian_smooth(inside.to(torch.float32), sigma)
    mixed = gaussian_smooth(maps * inside, sigma)
    return torch.where(inside, mixed / weights.clamp_min(_LEAST_WEIGHT), 0).to(mixed.dtype)


def _gaussian_weights(sigma: float) -> list[float]:
    """Weights of a Gaussian at whole pixels from -r to r, r = 4 sigma rounded, with sum 1."""
    radius = int(4 * sigma + 0.5)
    if radius == 0:
        return [1.0]
    places = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (places / sigma) ** 2)
    return [float(weight) for weight in weights / weights.sum()]


def _smoothing_matrix(size: int, weights: list[float]) -> Tensor:
    """(size, size), float32: how much each place of a line counts for each."""
    matrix = np.zeros((size, size))
    sources = np.lib.stride_tricks.sliding_window_view(
        _reflected(size, len(weights) // 2), len(weights)
    )
    np.add.at(matrix, (np.arange(size)[:, None], sources), np.array(weights))
    return torch.from_numpy(matrix.astype(np.float32))


def _smooth(maps: Tensor, weights: list[float]) -> Tensor:
    return _smooth_along(_smooth_along(maps, weights, -2), weights, -1)


def _smooth_along(maps: Tensor, weights: list[float], dim: int) -> Tensor:
    """Weighted sum of shifted copies: exact in the maps' own precision on every device."""
    size, radius = maps.shape[dim], len(weights) // 2
    sources = torch.from_numpy(_reflected(size, radius)).to(maps.device)
    padded = maps.index_select(dim, sources)
    result = padded.narrow(dim, 0, size) * weights[0]
    for shift, weight in enumerate(weights[1:], start=1):
        result = result.add_(padded.narrow(dim, shift, size), alpha=weight)
    return result


def _reflected(size: int, radius: int) -> np.ndarray:
    """Indices (size + 2 radius,) of ... c b a | a b c ... z | z y x ..., repeated where needed."""
    places = np.arange(-radius, size + radius) % (2 * size)
    return np.where(places < size, places, 2 * size - 1 - places)


def top_mean(maps: Tensor, k: int | None = None, fraction: float | None = None) -> Tensor:
    """Mean of the highest pixels of each map (B,H,W) -> (B,).

    Args:
        k: how many pixels; no more than there are.
        fraction: or which share of them, in (0, 1]; one pixel at least.
    """
    if maps.ndim != 3 or maps.shape[1] * maps.shape[2] == 0:
        raise DataError(f"maps of shape {tuple(maps.shape)}: must be (B, H, W) with pixels")
    pixels = maps.shape[1] * maps.shape[2]
    highest = maps.flatten(1).topk(_pixels_kept(pixels, k, fraction), dim=1, sorted=False).values
    return highest.float().mean(dim=1) if highest.dtype.itemsize < 4 else highest.mean(dim=1)


def _pixels_kept(pixels: int, k: int | None, fraction: float | None) -> int:
    if (k is None) == (fraction is None):
        raise ConfigError(f"k={k!r}, fraction={fraction!r}: give exactly one of the two")
    if fraction is not None:
        if not 0 < fraction <= 1:
            raise ConfigError(f"fraction={fraction!r}: must be above 0 and at most 1")
        return max(1, round(fraction * pixels))
    if k is None or isinstance(k, bool) or k != int(k) or k < 1:
        raise ConfigError(f"k={k!r}: must be a whole number of pixels, 1 at least")
    return min(int(k), pixels)


@dataclass(frozen=True)
class BatchScores:
    """Raw scores of B images.

    Attributes:
        text_score: mean abnormal probability over the K prompt pairs, (B,), in [0, 1].
        text_spread: its standard deviation over the pairs, (B,).
        map: unsmoothed anomaly map (B, S, S), in [0, 1].
        map_spread: standard deviation over the pairs (B, S, S), in [0, 0.5].
        pair_scores: the score that each pair gives by itself, (B, K), in [0, 1]: half its text
            probability, half the mean of its own map over the highest pixels of the mean map.
            Their mean is the image's score in the protocol `deploy`.
    """

    text_score: Tensor
    text_spread: Tensor
    map: Tensor
    map_spread: Tensor
    pair_scores: Tensor


class DeployScores(NamedTuple):
    """Scores of B images in the protocol `deploy`, (B,) each.

    Attributes:
        uncertainty: how far the prompt pairs disagree, in [0, 0.5]: the mean of the standard
            deviations of the text score and of the map's highest pixels.
        low, high: ends of the credible interval of the score.
    """

    score: Tensor
    text_score: Tensor
    map_score: Tensor
    uncertainty: Tensor
    low: Tensor
    high: Tensor

    def rows(self) -> list[list[float]]:
        """The scores of each image, in the order of the attributes."""
        return torch.stack([column.float() for column in self], dim=1).tolist()  # (B, 6)


def deploy_scores(scores: BatchScores) -> DeployScores:
    """What the protocol `deploy` makes of the raw scores of B images."""
    map_score = top_mean(scores.map, fraction=DEPLOY_FRACTION)
    spread = top_spread(scores.map, scores.map_spread)
    return DeployScores(
        deploy_score(scores.text_score, map_score),
        scores.text_score,
        map_score,
        (scores.text_spread + spread) / 2,
        *credible_interval(scores.pair_scores),
    )


def deploy_score(text_score: Score, map_score: Score) -> Score:
    """Image score of the `deploy` protocol: no test set and no category is needed.

    Args:
        text_score: in [0, 1].
        map_score: mean of the highest `DEPLOY_FRACTION` of the pixels of the unsmoothed map.
    """
    score: Score = (text_score + map_score) / 2
    return score


def top_spread(maps: Tensor, spread: Tensor, fraction: float = DEPLOY_FRACTION) -> Tensor:
    """Mean of the spread over the highest pixels of the maps: both (B, H, W) -> (B,).

    Ties at the limit are all taken: which of equal pixels comes first depends on the batch.
    """
    count = _pixels_kept(maps[0].numel(), None, fraction)
    limit = maps.flatten(1).topk(count, dim=1, sorted=True).values[:, -1]
    highest = maps >= limit.view(-1, 1, 1)
    return (spread * highest).sum((1, 2)) / highest.sum((1, 2))


def credible_interval(pair_scores: Tensor, mass: float = CREDIBLE_MASS) -> tuple[Tensor, Tensor]:
    """Central interval that holds the share ``mass`` of the pairs' scores (B, K): both ends, (B,).

    Quantiles with linear interpolation: K pairs cannot show tails thinner than 1 / K.
    """
    tail = (1 - mass) / 2
    places = torch.tensor([tail, 1 - tail], device=pair_scores.device)
    low, high = pair_scores.float().quantile(places, dim=1)
    return low, high


def authors_scores(text_scores: Values, top_means: Values, alpha: float = 0.5) -> Values:
    """Image scores (n,) of the `authors` protocol, for all images of a category at once.

    alpha * minmax(text_scores) + (1 - alpha) * minmax(top_means). The scores of an image so depend
    on the others of its test set, as published.

    Args:
        text_scores: (n,), array or tensor.
        top_means: (n,), top_mean of the maps before smoothing with k = top_k_for(category).
    """
    if not 0 <= alpha <= 1:
        raise ConfigError(f"alpha={alpha!r}: the weight of the text score must lie in [0, 1]")
    if text_scores.shape != top_means.shape or text_scores.ndim != 1:
        raise DataError(
            f"text scores of shape {tuple(text_scores.shape)} with map scores of shape "
            f"{tuple(top_means.shape)}: both must be (n,)"
        )
    return alpha * min_max(text_scores) + (1 - alpha) * min_max(top_means)


def min_max(values: Values) -> Values:
    """Values (n,) scaled to [0, 1]; equal ones become zeros, for they tell nothing apart."""
    if len(values) == 0:
        return values
    low, high = values.min(), values.max()
    scaled: Values = values - low if high == low else (values - low) / (high - low)
    return scaled


def top_k_for(category: str) -> int:
    """Pixels averaged for the image score of a category in the `authors` protocol, at 518 x 518."""
    return AUTHORS_TOP_K.get(category, AUTHORS_TOP_K_DEFAULT)
