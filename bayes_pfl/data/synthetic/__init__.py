"""Pictures of surfaces, objects and scans with faults and exact masks, rendered from seeds.

>>> from bayes_pfl.data.synthetic import render
>>> picture = render("wood", seed=0, index=3, size=64, defect="scratch")
>>> picture.image.shape, bool(picture.mask.any()), picture.class_name
((64, 64, 3), True, 'wood')
"""

from __future__ import annotations

from bayes_pfl.data.synthetic.captions import state_phrases
from bayes_pfl.data.synthetic.catalog import (
    CATEGORIES,
    FURTHER_CATEGORIES,
    MEDICAL_CATEGORIES,
    TEST_CATEGORIES,
    TRAIN_CATEGORIES,
    VALIDATION_CATEGORIES,
    Category,
)
from bayes_pfl.data.synthetic.dataset import SyntheticDataset
from bayes_pfl.data.synthetic.defects import DEFECTS
from bayes_pfl.data.synthetic.render import Exposure, Rendered, expose, render
from bayes_pfl.data.synthetic.tree import class_names, write_mvtec_tree

__all__ = [
    "CATEGORIES",
    "DEFECTS",
    "FURTHER_CATEGORIES",
    "MEDICAL_CATEGORIES",
    "TEST_CATEGORIES",
    "TRAIN_CATEGORIES",
    "VALIDATION_CATEGORIES",
    "Category",
    "Exposure",
    "Rendered",
    "SyntheticDataset",
    "class_names",
    "expose",
    "render",
    "state_phrases",
    "write_mvtec_tree",
]
