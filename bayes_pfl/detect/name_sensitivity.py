"""How much the score depends on the class name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from bayes_pfl.data.wording import synonyms
from bayes_pfl.detect.class_names import check_class_name, unusual_words
from bayes_pfl.detect.inputs import ImageLike, batched, load_pixels
from bayes_pfl.detect.scorer import Scorer, View
from bayes_pfl.detect.settings import ScoringSettings
from bayes_pfl.errors import DataError
from bayes_pfl.model.network import BayesPFLNetwork

NEUTRAL = "object"
MUCH, ALIKE = 0.1, 0.7
"""Mean change of the score from which a name is warned of; correlation below which it is."""

LITTLE, FEWEST = 0.5, 8
"""Standard deviations of the scores that no score may change by more, where a name changes nearly
nothing; and images that this takes. On normal pictures of 23 categories and sets "object" moved
scores by 0.41 at most, and image AUROC by 2.7 points at most; on another, by 1.2 and 3.8."""

_COMPARED = 20  # pictures of a fit
_DEFAULTS = ScoringSettings()


@dataclass(frozen=True)
class NameEffect:
    """Scores of the same images under one name, compared with those under the first name.

    Attributes:
        mean: mean score.
        change: mean absolute difference from the first name's scores.
        largest: largest absolute difference.
        spread: standard deviation of the first name's scores.
        rank: Spearman's correlation with them; None for fewer than three images, or equal scores.
        unusual: words that the tokenizer hardly knows.
        images: how many.
    """

    name: str
    mean: float
    change: float
    largest: float
    spread: float
    rank: float | None
    unusual: tuple[str, ...]
    images: int

    @property
    def slight(self) -> bool:
        """Whether this name changes nearly nothing: no score by much, measured by how far the
        scores of different images lie apart."""
        return self.images >= FEWEST and self.largest <= LITTLE * self.spread

    @property
    def warnings(self) -> list[str]:
        """What a user should know about this name, in words."""
        notes = [f"{word!r} is unusual for the tokenizer" for word in self.unusual]
        if self.change > MUCH:
            notes.append(f"changes the score by {self.change:.2f} on average")
        if self.rank is not None and self.rank < ALIKE:
            notes.append(f"puts the images in another order (rank correlation {self.rank:.2f})")
        return notes


def name_sensitivity(
    model: BayesPFLNetwork,
    images: Sequence[ImageLike],
    name: str,
    settings: ScoringSettings = _DEFAULTS,
) -> list[NameEffect]:
    """The effect of a class name, its synonyms one by one, and the neutral word "object".

    Args:
        images: as for :meth:`bayes_pfl.BayesPFL.predict`; some twenty are enough.
        name: the first row; the others are compared with it.

    Raises:
        DataError: no images, or an unusable name.
    """
    if not len(images):
        raise DataError("no images to compare class names on")
    check_class_name(model, name)
    parts = synonyms(name)
    names = dict.fromkeys([name, *(parts if len(parts) > 1 else ()), NEUTRAL])
    scorer = Scorer(model, settings, maps=False, spread=False)
    side = model.backbone.image_size
    scores: dict[str, list[float]] = {one: [] for one in names}
    for batch in batched(enumerate(images), settings.batch_size):
        pixels = [load_pixels(image, at, side).pixels for at, image in batch]
        for one in names:
            scores[one] += [found.score for found in scorer(pixels, [one] * len(pixels))]
    first = np.array(scores[name])
    return [_effect(model, one, np.array(scores[one]), first) for one in names]


def effect_of_name(
    model: BayesPFLNetwork,
    pictures: Sequence[np.ndarray],
    name: str,
    scores: Sequence[float],
    settings: ScoringSettings = _DEFAULTS,
    inside: Sequence[np.ndarray | None] | None = None,
) -> NameEffect | None:
    """What "object" in place of a name changes, on 20 pictures at most, spread evenly.

    Args:
        pictures: as the model sees them, uint8 (S, S, 3).
        name: of all pictures.
        scores: of the pictures by words alone under this name, with the same settings.
        inside: bool (S, S) of each, the pixels that count; None for all.

    Returns:
        None where the name is "object" itself.
    """
    if name == NEUTRAL:
        return None
    count = min(_COMPARED, len(pictures))
    chosen = [at * len(pictures) // count for at in range(count)]
    scorer = Scorer(model, settings, maps=False, spread=False)
    found: list[float] = []
    for part in batched(chosen, settings.batch_size):
        views = [View(pictures[at], NEUTRAL, inside=inside[at] if inside else None) for at in part]
        found += [image.score for image in scorer.views(views)]
    return _effect(model, NEUTRAL, np.array(found), np.array([scores[at] for at in chosen]))


def _effect(model: BayesPFLNetwork, name: str, scores: np.ndarray, first: np.ndarray) -> NameEffect:
    rank = None
    if len(scores) > 2 and np.ptp(scores) > 0 and np.ptp(first) > 0:
        rank = float(spearmanr(scores, first).statistic)
    change = np.abs(scores - first)
    return NameEffect(
        name,
        float(scores.mean()),
        float(change.mean()),
        float(change.max()),
        float(first.std()),
        rank,
        tuple(unusual_words(model, name)),
        len(scores),
    )
