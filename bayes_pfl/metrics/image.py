"""Image-level metrics: one score and one label for each image."""

from __future__ import annotations

from collections.abc import Sequence

from bayes_pfl.metrics.histogram import DEFAULT_BINS
from bayes_pfl.metrics.inputs import ArrayLike, check_scores
from bayes_pfl.metrics.stores import Mode
from bayes_pfl.metrics.streamed import Result, StreamedMetrics


class ImageMetrics(StreamedMetrics):
    """AUROC, AP, F1-max and its threshold over images, updated batch by batch.

    Args:
        mode: "exact" keeps the scores (9 bytes an image); "binned" counts them in bounded memory,
            see PixelMetrics.
        bins: bins at most in binned mode, a power of two.

    Raises:
        ConfigError: a setting that is not allowed.
    """

    def __init__(self, mode: Mode = "exact", bins: int = DEFAULT_BINS) -> None:
        super().__init__(mode, bins)

    def update(
        self, scores: ArrayLike, labels: ArrayLike, names: Sequence[str] | str | None = None
    ) -> None:
        """Count scores and labels, both (n,) or both single numbers; names are for error messages.

        Raises:
            DataError: shapes that differ, a NaN or infinite score (its image is named), or labels
                other than 0 and 1.
        """
        scores, labels = check_scores(scores, labels, names, self.images)
        self._store.add(scores, labels, None)
        self._counts["images"] += len(scores)

    def compute(self) -> Result:
        """{"auroc", "ap", "f1_max", "f1_max_threshold"} -> float, NaN where undefined.

        "reason" says why a value is NaN, "bound" how far it can be from the exact one; both by key.
        """
        return self._ranking(self.levels(), "images")


def image_metrics(scores: ArrayLike, labels: ArrayLike, mode: Mode = "exact") -> Result:
    """Metrics of scores and labels (n,) in one call: see ImageMetrics."""
    metrics = ImageMetrics(mode)
    metrics.update(scores, labels)
    return metrics.compute()
