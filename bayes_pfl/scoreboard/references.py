"""Rows of a checkpoint whose images are compared with normal pictures too.

All rows of a board are of the same images: a picture that any row draws leaves the test of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bayes_pfl.detect.scorer import Scorer
from bayes_pfl.detect.settings import ScoringSettings
from bayes_pfl.evaluate.datasets import EvaluationData
from bayes_pfl.evaluate.reference_draw import (
    PROFILE,
    Draw,
    Method,
    draw_references,
    profile_references,
    reference_notes,
)
from bayes_pfl.fit.profile import Profile
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.model.scoring import deploy_scores
from bayes_pfl.scoreboard.methods import EncodedBatch


@dataclass(frozen=True)
class BoardReferences:
    """The references of a board.

    Attributes:
        data: the sets without the pictures that are drawn.
        draws: of each set, by method.
    """

    data: Sequence[EvaluationData]
    draws: Mapping[Method, Sequence[Draw]] = field(default_factory=dict)

    @property
    def notes(self) -> list[str]:
        """What a reader of the tables must know, one line each."""
        notes = [reference_notes(method, draws) for method, draws in self.draws.items()]
        return list(dict.fromkeys(line for lines in notes for line in lines))


def board_references(
    data: Sequence[EvaluationData], shots: Sequence[int], profile: Profile | None, seed: int
) -> BoardReferences:
    """Draw the pictures of every number of shots, the fewer among the more.

    Raises:
        DataError: what :func:`draw_references` raises.
    """
    most = [draw_references(one, max(shots, default=0), seed) for one in data]
    draws: dict[Method, Sequence[Draw]] = {
        count: [draw.first(count) for draw in most] for count in shots
    }
    left = [draw.data for draw in most]
    if profile is not None:
        draws[PROFILE] = [profile_references(one, profile) for one in left]
    return BoardReferences(left, draws)


class ReferenceMethod:
    """A checkpoint with normal pictures of each category, scored as by ``evaluate --shots``.

    Args:
        draws: of each set; a category without any is scored by words alone.
    """

    reason: str | None = None

    def __init__(
        self, name: str, model: BayesPFLNetwork, settings: ScoringSettings, draws: Sequence[Draw]
    ) -> None:
        self.name = name
        self._words = self._scorer = Scorer(model, settings, spread=False)
        self._draws = {draw.data.name: draw for draw in draws}

    def begin(self, dataset: str, category: str) -> None:
        """Fit the references of a category, whose images come next."""
        drawn = self._draws[dataset].references.get(category)
        self._scorer = drawn.fitted(self._words) if drawn else self._words

    def score(self, batch: EncodedBatch) -> tuple[Tensor, Tensor]:
        """The combined score and map; the images go through the tower once more."""
        # Only the model's part may be rounded: distances would lose what they tell apart.
        with torch.autocast(batch.images.device.type, enabled=False):
            found = self._scorer.batch(list(batch.pixels), batch.class_names)
        both = found.combined
        scores = both.deviations.scores() if both else deploy_scores(found.words)
        return scores.score, found.maps
