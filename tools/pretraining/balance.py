"""Every class and state equally often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from pretraining.captions import PictureFacts


def balanced_chances(subjects: Sequence[PictureFacts]) -> np.ndarray:
    """Chance of each view, so that every class and state is drawn equally often."""
    groups = [(s.class_name, s.defective) for s in subjects]
    counts = Counter(groups)
    weights = np.array([1.0 / counts[group] for group in groups])
    return weights / weights.sum()
