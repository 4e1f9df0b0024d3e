"""What can be rendered: categories by name, in four groups that share no member."""

from __future__ import annotations

from bayes_pfl.data.synthetic.category import Category
from bayes_pfl.data.synthetic.held_out_categories import TEST, VALIDATION
from bayes_pfl.data.synthetic.training_surfaces import MOTTLED, ORGANIC, SURFACES
from bayes_pfl.data.synthetic.training_things import CUT, EVERYDAY, THINGS

_TRAIN = (*SURFACES, *THINGS, *ORGANIC)
_FURTHER = (*CUT, *EVERYDAY, *MOTTLED)

CATEGORIES: dict[str, Category] = {c.name: c for c in (*_TRAIN, *_FURTHER, *VALIDATION, *TEST)}
TRAIN_CATEGORIES: tuple[str, ...] = tuple(c.name for c in _TRAIN)
FURTHER_CATEGORIES: tuple[str, ...] = tuple(c.name for c in _FURTHER)
"""To train on as well; the embedded model has not seen them."""
VALIDATION_CATEGORIES: tuple[str, ...] = tuple(c.name for c in VALIDATION)
TEST_CATEGORIES: tuple[str, ...] = tuple(c.name for c in TEST)
