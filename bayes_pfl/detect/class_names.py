"""Class names as the text tower sees them: too long, or of words that it hardly knows."""

from __future__ import annotations

from bayes_pfl.data.wording import synonyms
from bayes_pfl.errors import DataError
from bayes_pfl.model.network import BayesPFLNetwork

UNUSUAL_PIECES = 4
"""A word that the tokenizer cuts into so many pieces is one it hardly knows."""


def check_class_name(model: BayesPFLNetwork, name: str) -> None:
    """Raise DataError for a name that is empty, or too long for the text tower."""
    prompts = model.config.prompts
    for part in synonyms(name):
        model.backbone.text.tokenize([part], prompts.context_tokens + prompts.state_tokens)


def unusual_words(model: BayesPFLNetwork, name: str) -> list[str]:
    """Words of a name that the tokenizer cuts into four pieces or more: part numbers, typos.

    What such a word means to the text tower is anyone's guess.
    """
    words = [word for part in synonyms(name) for word in part.split()]
    return [word for word in dict.fromkeys(words) if _pieces(model, word) >= UNUSUAL_PIECES]


def _pieces(model: BayesPFLNetwork, word: str) -> int:
    """Tokens of a word: how much longer the text becomes when it is said twice."""
    tower = model.backbone.text
    try:
        texts = [tower.tokenize([text], 1).suffix for text in (word, f"{word} {word}")]
    except DataError:  # no room to say it twice
        return UNUSUAL_PIECES
    once, twice = (int((ids != tower.pad_id).sum()) for ids in texts)
    return twice - once
