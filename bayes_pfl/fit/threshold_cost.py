"""What a threshold will cost: which normal picture sets it, and how many false alarms to expect.

Of n normal scores the threshold lies just above the k-th highest, k = floor((n + 1) rate). For new
pictures of the same kind the share that reaches it is a random number, because the n pictures are:
it follows Beta(k, n + 1 - k), whatever the distribution of the scores, if that is continuous (Vovk
2012, "Conditional validity of inductive conformal predictors"; Angelopoulos & Bates 2021, arXiv
2107.07511, section 3.2). Its mean is k / (n + 1), at most the rate that was asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bayes_pfl.fit.conformal import threshold_rank
from bayes_pfl.fit.profile import Profile
from bayes_pfl.support.error_text import printable

CONFIDENCE = 0.95


@dataclass(frozen=True)
class ThresholdCost:
    """A threshold of scores, and what it rests on.

    Attributes:
        count: normal pictures, n.
        rank: k.
        wanted: the rate asked for, where the pictures are too few for it; else None.
        missing: further pictures that it needs.
        name, score: of the picture with the k-th highest score.
        lowest, median, highest: of the normal scores.
    """

    count: int
    rank: int
    wanted: float | None
    missing: int
    name: str
    score: float
    lowest: float
    median: float
    highest: float

    @classmethod
    def of(cls, profile: Profile) -> ThresholdCost | None:
        """That of a profile; None where no normal picture could be compared with another."""
        scored = [(p.score, p.name) for p in profile.pictures if p.score is not None]
        if (known := profile.calibration) is None or not scored:
            return None
        scored.sort(reverse=True)
        count = len(scored)
        rank = threshold_rank(count, known.fpr)
        scores = [score for score, _ in scored]
        return cls(
            count,
            rank,
            profile.fpr if known.fpr > profile.fpr else None,
            profile.missing,
            scored[rank - 1][1],
            scores[rank - 1],
            scores[-1],
            float(np.median(scores)),
            scores[0],
        )

    @property
    def expected(self) -> float:
        """Mean share of new normal pictures that score above the k-th highest, k / (n + 1)."""
        return self.rank / (self.count + 1)

    @property
    def interval(self) -> tuple[float, float]:
        """Central 95% of what that share may be."""
        from scipy.stats import beta

        ends = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
        low, high = beta.ppf(ends, self.rank, self.count + 1 - self.rank)
        return float(low), float(high)

    def sentences(self, shown: Callable[[str], str] = printable) -> list[str]:
        """What a person should know.

        Args:
            shown: makes the name of a file safe to show.
        """
        low, high = (_in_100(end) for end in self.interval)
        alarms = (
            f"about {_in_100(self.expected)} in 100 new normal pictures; between {low} and {high} "
            f"in 100 with {CONFIDENCE:.0%} confidence, from {self.count} pictures"
        )
        spread = (
            f"Normal scores lie between {self.lowest:.3f} and {self.highest:.3f}, half of them "
            f"below {self.median:.3f}."
        )
        place = "the highest" if self.rank == 1 else f"number {self.rank} from the top"
        picture = f"{shown(self.name)}, {place} of {self.count} normal scores ({self.score:.3f})"
        said = [f"The threshold is set by {picture}.", spread, f"False alarms: {alarms}."]
        if self.wanted is not None:
            said.append(
                f"A rate of {self.wanted:g}, as asked for, needs {self.missing} more normal "
                "pictures: so few guarantee no lower one."
            )
        return said


def _in_100(share: float) -> str:
    """A share in percent: a whole number, or below 1 its first digit."""
    return f"{100 * share:.1g}" if share < 0.01 else f"{100 * share:.0f}"
