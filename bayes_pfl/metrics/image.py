"""Image-level metrics: one score and one label for each image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bayes_pfl.errors import ConfigError
from bayes_pfl.metrics.curves import Levels, one_class_reason, sampled_curves
from bayes_pfl.metrics.histogram import DEFAULT_BINS
from bayes_pfl.metrics.inputs import ArrayLike, check_scores
from bayes_pfl.metrics.ranking import Result, ranking_result
from bayes_pfl.metrics.stores import Mode, State, make_store


class ImageMetrics:
    """AUROC, AP, F1-max and its threshold over images, updated batch by batch.

    Args:
        mode: "exact" keeps the scores (9 bytes an image); "binned" counts them in bounded memory,
            see PixelMetrics.
        bins: bins at most in binned mode.
    """

    def __init__(self, mode: Mode = "exact", bins: int = DEFAULT_BINS) -> None:
        self.mode, self.bins = mode, bins
        self._store = make_store(mode, bins)
        self._images = 0

    @property
    def images(self) -> int:
        """How many images have been counted."""
        return self._images

    def update(
        self, scores: ArrayLike, labels: ArrayLike, names: Sequence[str] | str | None = None
    ) -> None:
        """Count scores and labels, both (n,) or both single numbers; names are for error messages.

        Raises:
            DataError: shapes that differ, a NaN or infinite score (named), labels other than 0 and
            1.
        """
        scores, labels = check_scores(scores, labels, names, self._images)
        self._store.add(scores, labels, None)
        self._images += len(scores)

    def merge(self, other: ImageMetrics) -> ImageMetrics:
        """Add what another process has counted; returns self."""
        if (other.mode, other.bins) != (self.mode, self.bins):
            raise ConfigError(
                f"mode and bins {other.mode!r}, {other.bins} cannot be merged into {self.mode!r}, "
                f"{self.bins}: make both with the same settings"
            )
        self._store.merge(other._store)
        self._images += other._images
        return self

    def compute(self) -> Result:
        """{"auroc", "ap", "f1_max", "f1_max_threshold"} -> float, NaN where undefined.

        "reason" tells why, by key; "bound" the largest difference from the exact value, by key.
        """
        levels = self.levels()
        reason = one_class_reason(levels, "anomalous images", "normal images", "images")
        result = ranking_result(levels, reason, exact=self.mode == "exact")
        for part in (result, result["reason"], result["bound"]):
            part.pop("iou", None)
        return result

    def curves(self, points: int = 1000) -> dict[str, np.ndarray]:
        """ROC and precision-recall curve for plots: see curves.sampled_curves."""
        return sampled_curves(self.levels(), points)

    def levels(self) -> Levels:
        """The counts at each distinct score, highest first."""
        return self._store.levels(regions=0)

    def state(self) -> State:
        """Everything counted so far as plain arrays, to send to another process or to save."""
        own = {"images": self._images, "mode": self.mode, "bins": self.bins}
        return {**{key: np.array(value) for key, value in own.items()}, **self._store.state()}

    @classmethod
    def from_state(cls, state: State) -> ImageMetrics:
        """The metrics that `state` was taken from."""
        metrics = cls(str(state["mode"]), int(state["bins"]))  # type: ignore[arg-type]
        metrics._store.load(state)
        metrics._images = int(state["images"])
        return metrics


def image_metrics(scores: ArrayLike, labels: ArrayLike, mode: Mode = "exact") -> Result:
    """Metrics of scores and labels (n,) in one call: see ImageMetrics."""
    metrics = ImageMetrics(mode)
    metrics.update(scores, labels)
    return metrics.compute()
