"""Thresholds and p-values from normal scores alone, with guarantees that need no model of them.

Split-conformal prediction (Vovk, Gammerman & Shafer 2005, chapter 2; Bates et al. 2023, "Testing
for outliers with conformal p-values") for images, conformal risk control (Angelopoulos et al. 2022,
arXiv 2208.02814) for pixels. Both hold on average over calibration sets, for a new normal image
that could as well have been one of the calibration images (exchangeability), whatever the model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bayes_pfl.errors import ConfigError, DataError

_ROUNDING = 1e-9  # 100 * 0.07 is 7.000000000000001
_BINS = 65536
_AT_ONCE = 2**22  # pixels
_LEAST_SPREAD = 1e-3  # scores of near copies of one picture would otherwise make outliers of dust


def images_needed(rate: float) -> int:
    """Fewest calibration images for a false positive rate: 1 / rate - 1, rounded up.

    >>> images_needed(0.01), images_needed(0.05)
    (99, 19)
    """
    return math.ceil(1 / rate - 1 - _ROUNDING)


def smallest_rate(images: int) -> float:
    """Lowest rate that this many images can guarantee, rounded up to two digits.

    >>> smallest_rate(20)
    0.048
    """
    rate = 1 / (images + 1)
    digits = 1 - math.floor(math.log10(rate))
    return math.ceil(rate * 10**digits - _ROUNDING) / 10**digits


def check_rate(name: str, rate: float, images: int | None = None) -> None:
    """Refuse a rate that is none, or that this number of images cannot guarantee.

    Raises:
        ConfigError: not in (0, 1).
        DataError: too few images.
    """
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < 1:
        raise ConfigError(f"{name} = {rate!r}: a false positive rate lies above 0 and below 1")
    if images is not None and images < images_needed(rate):
        raise DataError(
            f"{images} normal images cannot guarantee {name} = {rate:g}: give "
            f"{images_needed(rate)} images, or a rate of {smallest_rate(images):g} or more"
        )


def threshold_rank(images: int, rate: float) -> int:
    """The threshold lies just above the k-th highest of the normal scores: k = floor((n + 1) rate).

    >>> threshold_rank(20, 0.05), threshold_rank(99, 0.05)
    (1, 5)
    """
    return math.floor((images + 1) * rate + _ROUNDING)


def score_threshold(scores: Sequence[float] | np.ndarray, rate: float) -> float:
    """The smallest number above the ceil((n + 1)(1 - rate))-th smallest of n normal scores.

    A new normal image reaches it with probability ``rate`` at most. "Reaches" is >=; the next
    number above is taken so that scores which tie with that calibration score do not. An image
    reaches the threshold exactly where its p-value is at most the rate.

    Raises:
        ConfigError, DataError: as :func:`check_rate`.
    """
    check_rate("fpr", rate, len(scores))
    kept = np.sort(np.asarray(scores, np.float64))[len(scores) - threshold_rank(len(scores), rate)]
    return float(np.nextafter(kept, np.inf))


def p_values(calibration: Sequence[float] | np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Conformal p-values (m,): (1 + number of calibration scores >= s) / (n + 1).

    For a normal image P(p <= a) <= a for every a.

    Args:
        calibration: n normal scores in rising order.
        scores: (m,).
    """
    known = np.asarray(calibration, np.float64)
    reached = len(known) - np.searchsorted(known, np.asarray(scores, np.float64), side="left")
    return (1 + reached) / (len(known) + 1)


class PixelRates:
    """Counts of map values of normal images, for a threshold of pixels; 512 KB, however many.

    Values are counted in 65536 equal steps of [0, 1].
    """

    def __init__(self) -> None:
        self.images = 0
        self._shares = np.zeros(_BINS)  # of the pixels of each image, added up

    def add(self, anomaly_map: np.ndarray, inside: np.ndarray | None = None) -> None:
        """Count a map (H, W) in [0, 1]; every image counts the same, whatever its size.

        Args:
            inside: bool (H, W), the pixels that count; None for all.

        Raises:
            DataError: values out of range.
        """
        if not (anomaly_map.min() >= 0 and anomaly_map.max() <= 1):
            raise DataError("a map with values outside [0, 1]")
        counts = np.zeros(_BINS, np.int64)
        parts = max(1, anomaly_map.size // _AT_ONCE)
        masks = [None] * parts if inside is None else np.array_split(inside, parts)
        for rows, mask in zip(np.array_split(anomaly_map, parts), masks, strict=True):
            rows = rows if mask is None else rows[mask]
            steps = np.minimum((rows.ravel() * np.float32(_BINS)).astype(np.int64), _BINS - 1)
            counts += np.bincount(steps, minlength=_BINS)
        self._shares += counts / counts.sum()
        self.images += 1

    def threshold(self, rate: float) -> float:
        """The lowest step t at which (n F(t) + 1) / (n + 1) <= rate, F the share of pixels >= t.

        F is the mean over the images. On a new normal image the expected share of pixels at or
        above t is then ``rate`` at most (conformal risk control with a loss bounded by 1). One step
        above 1 if no value of the maps is rare enough.

        Raises:
            ConfigError, DataError: as :func:`check_rate`.
        """
        check_rate("pixel_fpr", rate, self.images)
        allowed = rate * (self.images + 1) - 1 + _ROUNDING  # n F(t) must not be above it
        above = np.append(np.cumsum(self._shares[::-1])[::-1], 0)  # n F(t) of each step t
        step = int(np.argmax(above <= allowed))
        return step / _BINS if step < _BINS else 1 + 1 / _BINS


def upward_z(scores: Sequence[float] | np.ndarray, least: float = _LEAST_SPREAD) -> np.ndarray:
    """(score - median) / (1.4826 * median distance of the scores above the median), (n,).

    The double median absolute deviation: outliers do not hide in it, and scores of normal images
    often have a long upper tail, which is no fault.

    Args:
        least: the divisor is this at least.
    """
    values = np.asarray(scores, np.float64)
    centre = np.median(values)
    above = values[values > centre] - centre
    spread = 1.4826 * np.median(above) if len(above) else 0.0
    return (values - centre) / max(float(spread), least)
