"""From what the user points at (a tree, a meta.json, a card) to samples; held-out categories."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from bayes_pfl.data.meta import read_meta
from bayes_pfl.data.mvtec import read_mvtec
from bayes_pfl.data.records import Sample
from bayes_pfl.errors import DataError


def read_source(path: Path, split: str = "test", dataset: str = "") -> list[Sample]:
    """Samples of an MVTec-style tree, or of a standardised meta.json (or its folder).

    Raises:
        DataError: neither is there, or nothing in it.
    """
    if path.is_file():
        samples = read_meta(path, split, dataset or path.parent.name)
    elif (path / "meta.json").is_file():
        samples = read_meta(path / "meta.json", split, dataset or path.name)
    else:
        samples = read_mvtec(path, split, dataset=dataset or path.name)
    if not samples:
        raise DataError(f"{path}: no images in split {split!r}; see docs/datasets.md for layouts")
    return samples


def select_categories(samples: Sequence[Sample], names: Sequence[str]) -> list[Sample]:
    """The samples of the named categories; all names must be known."""
    known = dict.fromkeys(sample.category for sample in samples)
    missing = [name for name in names if name not in known]
    if missing:
        raise DataError(
            f"categories {', '.join(missing)} are not in the data; there are {', '.join(known)}"
        )
    return [sample for sample in samples if sample.category in set(names)]


def hold_out(
    samples: Sequence[Sample], fraction: float, seed: int
) -> tuple[list[Sample], list[Sample]]:
    """Split by category: what is trained on, and what is validated on.

    Raises:
        DataError: fewer than two categories, or a fraction that leaves a side empty.
    """
    names = sorted({sample.category for sample in samples})
    count = max(1, round(fraction * len(names)))
    if len(names) < 2 or not 0 < fraction < 1 or count >= len(names):
        raise DataError(
            f"cannot hold out {fraction:g} of {len(names)} categories ({', '.join(names[:5])}): "
            "two at least are needed; name others with --validation-data"
        )
    held = set(random.Random(seed).sample(names, count))
    kept = [sample for sample in samples if sample.category not in held]
    return kept, [sample for sample in samples if sample.category in held]
