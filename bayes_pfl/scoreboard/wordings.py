"""Sentences for the normal and the damaged thing, written by hand: prompts without training.

Every state is set into every template, as zero-shot classifiers of CLIP do it (Radford et al. 2021,
section 3.1.4: an ensemble of prompts, averaged in the space of embeddings).
"""

from __future__ import annotations

NORMAL_STATES = (
    "{}",
    "flawless {}",
    "intact {}",
    "{} in good condition",
    "{} without any defect",
)
DAMAGED_STATES = (
    "damaged {}",
    "broken {}",
    "{} with a defect",
    "{} with a flaw",
    "{} in bad condition",
)
TEMPLATES = (
    "a photo of a {}",
    "a close-up photo of the {}",
    "a picture of one {} for inspection",
)


def sentences(class_name: str, states: tuple[str, ...]) -> list[str]:
    """Every state of the class in every template.

    >>> sentences("metal nut", NORMAL_STATES)[1]
    'a photo of a flawless metal nut'
    """
    return [t.format(state.format(class_name)) for t in TEMPLATES for state in states]
