"""Which verdicts a person should look at.

Chosen among other rules by how often the verdicts that it marks are wrong: docs/uncertainty.md has
the table.
"""

from __future__ import annotations

REVIEW_P = 0.25
"""Highest p-value of an image to review, and of a region to show."""


def needs_review(label: int, p_value: float) -> bool:
    """Whether an image below the threshold scores as high as few normal pictures do.

    Faults that were missed are more frequent among these. Of new normal pictures about
    ``REVIEW_P - fpr`` are, whatever the number of pictures that the p-value comes from.

    >>> needs_review(0, 0.2), needs_review(0, 0.6), needs_review(1, 0.01)
    (True, False, False)
    """
    return label == 0 and p_value <= REVIEW_P
