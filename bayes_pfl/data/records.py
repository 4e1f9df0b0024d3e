"""What a dataset consists of: one record per picture, and the questions asked of a list of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Sample:
    """One picture of a dataset.

    Attributes:
        path: the image file.
        category: what results are grouped by, e.g. "metal_nut".
        class_name: the word in the prompt, e.g. "metal nut".
        label: 0 normal, 1 anomalous.
        mask: its mask file; None for normal pictures, and where there is none.
        defect: "good", or the kind of defect.
        dataset: the name of the set, "" if it has none.
    """

    path: Path
    category: str
    class_name: str
    label: int
    mask: Path | None = None
    defect: str = "good"
    dataset: str = ""


def count_labels(samples: Iterable[Sample]) -> dict[str, tuple[int, int]]:
    """(normal, anomalous) pictures by category, in order of appearance."""
    counts: dict[str, Counter[int]] = {}
    for sample in samples:
        counts.setdefault(sample.category, Counter())[sample.label] += 1
    return {name: (count[0], count[1]) for name, count in counts.items()}


def one_sided_categories(samples: Iterable[Sample]) -> dict[str, str]:
    """Categories whose image metrics are undefined, each with the reason to print beside NaN."""
    reasons = {}
    for name, (normal, anomalous) in count_labels(samples).items():
        if not normal:
            reasons[name] = f"{name} has no normal images ({anomalous} anomalous)"
        elif not anomalous:
            reasons[name] = f"{name} has no anomalous images ({normal} normal)"
    return reasons
