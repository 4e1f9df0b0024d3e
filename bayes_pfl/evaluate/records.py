"""What an evaluation keeps of a category, and its results: the figures of metrics.json.

It keeps a row of numbers for each image and counts of all pixels, in bounded memory. An entry of
results has figures under "pixel" and "image"; those that are not defined are None, with a reason.
There are entries of a category, of their mean over categories and over seeds.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from bayes_pfl.metrics import ImageMetrics, PixelMetrics
from bayes_pfl.metrics.pro import aupro_authors
from bayes_pfl.model.scoring import authors_scores, deploy_score

Protocol = Literal["deploy", "authors"]
LEVELS = ("image", "pixel")
AUTHORS_KEY = "aupro_authors"
PIXEL_KEYS = ("auroc", "aupro", "ap", "f1_max", "iou")
IMAGE_KEYS = ("auroc", "ap", "f1_max")
LEVEL_KEYS = {"pixel": (*PIXEL_KEYS, AUTHORS_KEY), "image": IMAGE_KEYS}
MARKS = {"trained_on": "†", "validated_on": "‡"}
"""Signs of categories that a checkpoint has learnt from, by their key in an entry."""
TRAINED_REASON = "the checkpoint was trained on these images"


@dataclass(frozen=True, slots=True)  # slots: there is one for every image
class ImageRow:
    """The scores of one image.

    Attributes:
        identity: hash of path, size and time of its file and mask, of its label and class name.
        label: 0 normal, 1 anomalous.
        has_mask: False for an anomalous image without one.
        text_score: in [0, 1].
        map_score: mean of the highest 0.75% of the pixels of its map; in tiles, of the tile's.
        top_mean: mean of the published number of highest pixels; NaN in tiles.
        uncertainty: half the spread of the text score, half that of the highest pixels.
        pixel_ap: average precision of its own pixels, to rank images by; NaN without anomalous
            pixels.
        score, words_score, memory_score: by words and references, by words alone, and the distance
            to the references; None without references.
    """

    identity: str
    path: str
    label: int
    has_mask: bool
    text_score: float
    map_score: float
    top_mean: float
    uncertainty: float
    pixel_ap: float
    score: float | None = None
    words_score: float | None = None
    memory_score: float | None = None

    @property
    def deploy_score(self) -> float:
        """Score of the protocol `deploy`: with references the combined one."""
        if self.score is not None:
            return self.score
        return deploy_score(self.text_score, self.map_score)


@dataclass(frozen=True)
class Counted:
    """What one batch adds to a record.

    Attributes:
        unread: identities of images that could not be read.
        maps: (b, H, W) float32, smoothed, of the rows that have a mask; None where pixels are not
            counted.
        masks: (b, H, W) bool, likewise.
    """

    rows: tuple[ImageRow, ...] = ()
    unread: tuple[str, ...] = ()
    maps: np.ndarray | None = None
    masks: np.ndarray | None = None


@dataclass(frozen=True)
class Skipped:
    """An image that could not be evaluated, or a whole dataset: its category is then empty."""

    dataset: str
    category: str
    path: str
    reason: str


@dataclass
class CategoryRecord:
    """What is kept of a category: one row per image, and counts of pixels.

    Attributes:
        levels: the results that the dataset is meant for, of "image" and "pixel".
        unread: identities of images that could not be read when they were last tried.
        settled: False while a batch is being counted, when the counts are incomplete.
    """

    category: str = ""
    levels: tuple[str, ...] = LEVELS
    pixel: PixelMetrics = field(default_factory=PixelMetrics)
    rows: list[ImageRow] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    unread: set[str] = field(default_factory=set)
    settled: bool = True
    pixel_curves: dict[str, np.ndarray] = field(default_factory=dict)
    _computed: dict[str, Any] | None = None

    def add(self, batch: Counted) -> None:
        """Count a batch: pixels first, because counting them can fail.

        Raises:
            DataError: a score that is not finite.
        """
        self.settled = False
        if batch.maps is not None and batch.masks is not None:
            names = [row.path for row in batch.rows if row.has_mask]
            self.pixel.update(batch.maps, batch.masks, names)
        self.rows.extend(batch.rows)
        self.unread.difference_update(row.identity for row in batch.rows)
        self.unread.update(batch.unread)
        self.settled = True

    @property
    def labels(self) -> np.ndarray:
        """(n,) int."""
        return np.asarray([row.label for row in self.rows], np.int64)

    @property
    def text_scores(self) -> np.ndarray:
        """(n,) float."""
        return self._column("text_score")

    @property
    def unmasked(self) -> list[str]:
        """Paths of the anomalous images without a mask, if masks are wanted."""
        return [row.path for row in self.rows if not row.has_mask and "pixel" in self.levels]

    def image_scores(self, protocol: Protocol) -> np.ndarray:
        """One score per image (n,); the protocol `authors` uses the text score alone in a dataset
        that is meant for image-level results only."""
        if protocol == "deploy":
            return self._column("deploy_score")
        if "pixel" not in self.levels:
            return self.text_scores
        return authors_scores(self.text_scores, self._column("top_mean"))

    def _column(self, name: str) -> np.ndarray:
        return np.asarray([getattr(row, name) for row in self.rows], np.float64)

    def image_metrics(self, protocol: Protocol) -> ImageMetrics:
        """The image metrics of a protocol, exact."""
        metrics = ImageMetrics()
        metrics.update(self.image_scores(protocol), self.labels, [row.path for row in self.rows])
        return metrics

    def result(self, protocol: Protocol) -> dict[str, Any]:
        """The category's entry of metrics.json; undefined figures are None, with a reason."""
        anomalous = int(self.labels.sum())
        entry: dict[str, Any] = {
            "pixel": self.pixel_result(protocol),
            "image": undefined(IMAGE_KEYS, "the dataset is meant for pixel-level results only"),
            "n_normal": len(self.rows) - anomalous,
            "n_anomalous": anomalous,
        }
        if "image" in self.levels:
            entry["image"] = figures(self.image_metrics(protocol).compute(), IMAGE_KEYS)
        return entry | ({"n_skipped": len(self.skipped)} if self.skipped else {})

    def pixel_result(self, protocol: Protocol = "deploy") -> dict[str, Any]:
        """The figures of all pixels; `authors` adds their estimate of AUPRO."""
        keys = (*PIXEL_KEYS, AUTHORS_KEY) if protocol == "authors" else PIXEL_KEYS
        if "pixel" not in self.levels:
            return undefined(keys, "the dataset is meant for image-level results only")
        if 0 < len(self.unmasked) == self.labels.sum():
            return undefined(keys, f"{len(self.unmasked)} anomalous images have no mask")
        return figures(self._computed or self._compute_pixels(), keys)

    def _compute_pixels(self) -> dict[str, Any]:
        computed = self.pixel.compute()
        estimate = aupro_authors(self.pixel.levels())
        reasons = {"aupro": "undefined: all false positive rates below 0.3 are equal"}
        if math.isnan(estimate):
            computed["reason"][AUTHORS_KEY] = (reasons | computed["reason"])["aupro"]
        return computed | {AUTHORS_KEY: estimate}

    def seal(self) -> None:
        """Compute the pixel figures and curves, then free the counts (24 MB)."""
        if self._computed is None:
            self._computed = self._compute_pixels()
            if "pixel" in self.levels:
                self.pixel_curves = self.pixel.curves(points=500)
            self.pixel = PixelMetrics("exact")


def dataset_result(
    records: dict[str, CategoryRecord],
    protocol: Protocol,
    about: Mapping[str, dict[str, Any]] | None = None,
    include_trained: bool = False,
) -> dict[str, Any]:
    """{"categories": ..., "mean": ...} of one dataset; means leave undefined figures out.

    Args:
        about: what else the entry of a category says.
        include_trained: whether categories with "trained_on" count in the mean.
    """
    known = about or {}
    categories = {name: r.result(protocol) | known.get(name, {}) for name, r in records.items()}
    counted = [
        {level: undefined(list(entry[level]), TRAINED_REASON) for level in LEVEL_KEYS}
        if entry.get("trained_on") and not include_trained
        else entry
        for entry in categories.values()
    ]
    return {"categories": categories, "mean": mean_figures(counted)}


def marks(*entries: Mapping[str, Any]) -> str:
    """The signs of what the checkpoint has learnt from, in any of the entries."""
    return "".join(sign for key, sign in MARKS.items() if any(e.get(key) for e in entries))


def figures(computed: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """Metrics in the form of metrics.json: None for NaN, with "reason"; "bound" if binned."""
    values = {key: computed.get(key, math.nan) for key in (*keys, "f1_max_threshold")}
    chosen: dict[str, Any] = {k: None if math.isnan(v) else float(v) for k, v in values.items()}
    bounds = {key: float(computed["bound"][key]) for key in keys if computed["bound"].get(key)}
    reasons = {key: text for key, text in computed["reason"].items() if key in keys}
    return chosen | ({"bound": bounds} if bounds else {}) | ({"reason": reasons} if reasons else {})


def mean_figures(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means of entries with "pixel" and "image" figures, each over those where it is defined."""
    means: dict[str, Any] = {}
    for level, known in LEVEL_KEYS.items():
        keys = [key for key in known if not entries or key in entries[0][level]]
        means[level] = {key: mean([entry[level][key] for entry in entries]) for key in keys}
        missing = [key for key in keys if means[level][key] is None]
        if missing:
            means[level]["reason"] = {key: _shared_reason(entries, level, key) for key in missing}
    return means


def mean(values: Sequence[float | None]) -> float | None:
    """Mean of the values that are defined; None if none is."""
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def _shared_reason(entries: Sequence[dict[str, Any]], level: str, key: str) -> str:
    reasons = {entry[level].get("reason", {}).get(key, "") for entry in entries}
    return reasons.pop() if len(reasons) == 1 else "undefined in every category"


def undefined(keys: Sequence[str], reason: str) -> dict[str, Any]:
    """The form of :func:`figures` where there are none."""
    empty: dict[str, Any] = dict.fromkeys((*keys, "f1_max_threshold"))
    return empty | {"reason": dict.fromkeys(keys, reason)}


def combine_seeds(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Results of one dataset under several seeds -> one of the same form.

    A figure is the mean over the seeds, and None where it is None for any seed. "sd", next to
    "pixel" and "image", holds the sample standard deviations (n - 1). The sd of a dataset's mean is
    computed from the mean of each seed; it is not the mean of the categories' sd. One result is
    returned unchanged.
    """
    if len(results) == 1:
        return results[0]
    names = results[0]["categories"]
    categories = {name: _combine([r["categories"][name] for r in results]) for name in names}
    return {"categories": categories, "mean": _combine([r["mean"] for r in results])}


def _combine(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    combined = dict(entries[0])
    combined["sd"] = {}
    for level, keys in LEVEL_KEYS.items():
        names = [key for key in (*keys, "f1_max_threshold") if key in entries[0][level]]
        columns = {key: [entry[level][key] for entry in entries] for key in names}
        defined = {key: column for key, column in columns.items() if None not in column}
        means = {key: statistics.fmean(column) for key, column in defined.items()}
        combined[level] = {**entries[0][level], **dict.fromkeys(names), **means}
        if "bound" in combined[level]:  # the largest bound of any seed holds for the mean
            bounds = [entry[level].get("bound", {}) for entry in entries]
            bound_keys = sorted(set().union(*bounds))
            largest = {key: max(bound.get(key, 0.0) for bound in bounds) for key in bound_keys}
            combined[level]["bound"] = largest
        spreads = {key: statistics.stdev(column) for key, column in defined.items()}
        combined["sd"][level] = {**dict.fromkeys(n for n in names if n in keys), **spreads}
    return combined
