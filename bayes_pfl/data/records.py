"""What a dataset consists of: one record per picture, and functions of lists of records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bayes_pfl.errors import DataError


class DatasetWarning(UserWarning):
    """A dataset differs from its card or holds what can be read in several ways; it is read."""


@dataclass(frozen=True)
class Sample:
    """One picture of a dataset.

    Attributes:
        path: the image file.
        category: the group of its results, e.g. "metal_nut".
        class_name: the word in the prompt, e.g. "metal nut".
        label: 0 normal, 1 anomalous.
        mask: its mask file; None for normal pictures, and for others without a mask.
        defect: "good", or the kind of defect.
        dataset: the name of the set, "" if it has none.
        authors_word: the word in the prompts of the published run, "" if it is ``class_name``.
    """

    path: Path
    category: str
    class_name: str
    label: int
    mask: Path | None = None
    defect: str = "good"
    dataset: str = ""
    authors_word: str = ""


def count_labels(samples: Iterable[Sample]) -> dict[str, tuple[int, int]]:
    """(normal, anomalous) pictures by category, in order of appearance."""
    counts: dict[str, Counter[int]] = {}
    for sample in samples:
        counts.setdefault(sample.category, Counter())[sample.label] += 1
    return {name: (count[0], count[1]) for name, count in counts.items()}


def select_categories(
    samples: Sequence[Sample], names: Sequence[str], source: str = "the data"
) -> list[Sample]:
    """The samples of the named categories.

    Raises:
        DataError: a category that no sample has; the message begins with ``source``.
    """
    known = dict.fromkeys(sample.category for sample in samples)
    if missing := [name for name in names if name not in known]:
        raise DataError(f"{source} has no category {', '.join(missing)}; it has {', '.join(known)}")
    return [sample for sample in samples if sample.category in names]
