"""Which verdicts a person should look at: those of scores near the threshold.

How near is measured by normal pictures alone. The rule was chosen among others by how often the
verdicts that it marks are wrong: docs/uncertainty.md has the table.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

NEAR_QUANTILE = 0.8
"""Quantile of the normal scores that lies as far below the threshold as a score may be from it."""


def review_band(scores: Sequence[float] | np.ndarray, threshold: float) -> tuple[float, float]:
    """The lowest and the highest score to review.

    They lie as far from the threshold as the score that a fifth of the normal pictures exceed: of
    new normal pictures about a fifth are to review, whatever their number.

    Args:
        scores: of n normal pictures.

    Returns:
        The first is above the second where so many normal pictures reach the threshold that none
        lies near it.

    >>> review_band([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 0.75)
    (0.5, 1.0)
    """
    near = float(np.quantile(np.asarray(scores, np.float64), NEAR_QUANTILE))
    return near, 2 * threshold - near
