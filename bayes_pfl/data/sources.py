"""From the path that a user gives (MVTec's layout or a meta.json) to samples; held-out ones."""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from pathlib import Path

from bayes_pfl.data.card_schema import Card, Category, mvtec_layout
from bayes_pfl.data.image_files import check_folder
from bayes_pfl.data.layouts import read_layout
from bayes_pfl.data.meta import read_meta
from bayes_pfl.data.records import DatasetWarning, Sample
from bayes_pfl.data.remarks import remarks
from bayes_pfl.data.wording import prompt_word
from bayes_pfl.errors import DataError, NoSplitError


def read_source(path: Path, split: str = "test", dataset: str = "") -> list[Sample]:
    """Samples of an MVTec-style tree, or of a standardised meta.json (or its folder).

    Warns (`DatasetWarning`) where files are passed over, or can be read in several ways.

    Raises:
        NoSplitError: it has no images.
        DataError: there is neither, or it cannot be used.
    """
    tree = None
    if path.is_file():
        samples = read_meta(path, split, dataset or path.parent.name)
    elif (path / "meta.json").is_file():
        samples = read_meta(path / "meta.json", split, dataset or path.name)
    else:
        samples, tree = read_mvtec(path, split, dataset or path.name), path
    if not samples:
        raise NoSplitError(
            f"{path}: no images in split {split!r}; see docs/datasets.md for layouts"
        )
    for line in remarks(samples, tree):
        warnings.warn(line, DatasetWarning, stacklevel=2)
    return samples


def read_mvtec(root: str | Path, split: str = "test", dataset: str = "") -> list[Sample]:
    """Read a tree in MVTec's layout, the most common one; the pictures are not opened.

    `<category>/<split>/{good,<defect>}/<stem>.<ext>` with masks
    `<category>/ground_truth/<defect>/<stem>_mask.<ext>` or `<stem>.<ext>`. A root that is itself
    one category is read as that category. Cards read such trees in the same way.

    Raises:
        NoSplitError: the root holds no such tree.
        DataError: the root is missing, or its files cannot be used.
    """
    root = Path(root)
    check_folder(root, "the folder that holds the categories")
    alone = (root / split).is_dir()
    if not alone and not any((folder / split).is_dir() for folder in root.iterdir()):
        raise NoSplitError(f"{root} holds no category: expected <category>/{split}/good/<image>")
    name, above = root.resolve().name, "" if alone else "{category}/"
    categories = {name: Category(name, prompt_word(name))} if alone else {}
    card = Card(dataset, (mvtec_layout(split, above),), categories)
    samples = read_layout(card, card.layouts[0], root, "test")
    if not samples:
        raise NoSplitError(f"{root} has no images in <category>/{split}/good or /<defect>")
    return samples


def hold_out(
    samples: Sequence[Sample], fraction: float, seed: int
) -> tuple[list[Sample], list[Sample]]:
    """Split by prompt word: (samples to train on, samples to validate on).

    Categories of one word, such as macaroni1 and macaroni2, are nearly the same thing: they stay
    on one side.

    Args:
        fraction: of the words that are held out, in (0, 1).

    Raises:
        DataError: fewer than two words, or a fraction that leaves a side empty.
    """
    first = {
        s.class_name: s.category for s in sorted(samples, key=lambda s: s.category, reverse=True)
    }
    names = sorted(first, key=lambda name: first[name])
    count = max(1, round(fraction * len(names)))
    if len(names) < 2 or not 0 < fraction < 1 or count >= len(names):
        raise DataError(
            f"cannot hold out {fraction:g} of {len(names)} class names ({', '.join(names[:5])}): "
            "two at least are needed; name others with --validation-data"
        )
    held = set(random.Random(seed).sample(names, count))
    kept = [sample for sample in samples if sample.class_name not in held]
    return kept, [sample for sample in samples if sample.class_name in held]
