"""Pictures of surfaces, objects and scans with faults and exact masks, rendered from seeds.

>>> from bayes_pfl.rendering import render
>>> picture = render("wood", seed=0, index=3, size=64, defect="scratch")
>>> picture.image.shape, bool(picture.mask.any()), picture.class_name
((64, 64, 3), True, 'wood')
"""

from __future__ import annotations

from bayes_pfl.rendering.catalog import (
    CATEGORIES,
    FURTHER_CATEGORIES,
    MEDICAL_CATEGORIES,
    TEST_CATEGORIES,
    TRAIN_CATEGORIES,
    VALIDATION_CATEGORIES,
)
from bayes_pfl.rendering.render import Rendered, render
from bayes_pfl.rendering.tree import write_mvtec_tree

__all__ = [
    "CATEGORIES",
    "FURTHER_CATEGORIES",
    "MEDICAL_CATEGORIES",
    "TEST_CATEGORIES",
    "TRAIN_CATEGORIES",
    "VALIDATION_CATEGORIES",
    "Rendered",
    "render",
    "write_mvtec_tree",
]
