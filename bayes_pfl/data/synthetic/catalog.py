"""What can be rendered: categories by name, in four groups that share no member."""

from __future__ import annotations

from bayes_pfl.data.synthetic.category import Category
from bayes_pfl.data.synthetic.further_categories import FURTHER
from bayes_pfl.data.synthetic.held_out_categories import TEST, VALIDATION
from bayes_pfl.data.synthetic.training_categories import TRAIN

CATEGORIES: dict[str, Category] = {c.name: c for c in (*TRAIN, *FURTHER, *VALIDATION, *TEST)}
TRAIN_CATEGORIES: tuple[str, ...] = tuple(c.name for c in TRAIN)
FURTHER_CATEGORIES: tuple[str, ...] = tuple(c.name for c in FURTHER)
"""To train on as well; the embedded model has not seen them."""
VALIDATION_CATEGORIES: tuple[str, ...] = tuple(c.name for c in VALIDATION)
TEST_CATEGORIES: tuple[str, ...] = tuple(c.name for c in TEST)
