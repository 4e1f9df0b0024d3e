"""What can be rendered: categories by name, in five groups that share no member."""

from __future__ import annotations

from bayes_pfl.rendering.category import Category
from bayes_pfl.rendering.further_categories import FURTHER
from bayes_pfl.rendering.held_out_categories import TEST, VALIDATION
from bayes_pfl.rendering.medical_categories import MEDICAL
from bayes_pfl.rendering.training_categories import TRAIN

CATEGORIES: dict[str, Category] = {
    c.name: c for c in (*TRAIN, *FURTHER, *MEDICAL, *VALIDATION, *TEST)
}
TRAIN_CATEGORIES: tuple[str, ...] = tuple(c.name for c in TRAIN)
FURTHER_CATEGORIES: tuple[str, ...] = tuple(c.name for c in FURTHER)
"""To train on as well."""
MEDICAL_CATEGORIES: tuple[str, ...] = tuple(c.name for c in MEDICAL)
"""To train on as well, more of the body."""
VALIDATION_CATEGORIES: tuple[str, ...] = tuple(c.name for c in VALIDATION)
TEST_CATEGORIES: tuple[str, ...] = tuple(c.name for c in TEST)
