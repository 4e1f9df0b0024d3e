"""Dataset cards: find one by name or path, and read its dataset as samples.

A card (YAML) says where the pictures of a dataset are, which are anomalous, and where their masks
are; see datasets/README.md and docs/datasets.md. Reading never copies or changes data.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bayes_pfl.data.card_schema import SPLITS, Card, parse_card
from bayes_pfl.data.layouts import read_layout
from bayes_pfl.data.locate import Found, locate
from bayes_pfl.data.meta import read_meta
from bayes_pfl.data.records import Sample, count_labels, select_categories
from bayes_pfl.errors import DataError
from bayes_pfl.support.parsing import MAX_CARD, Malformed, parse_yaml, read_text
from bayes_pfl.support.resources import resource_dir


class DatasetWarning(UserWarning):
    """A dataset differs from its card, but can be read."""


def card_names() -> list[str]:
    """The names of the cards that come with the package, industrial sets first."""
    cards = [load_card(path) for path in resource_dir("datasets").glob("*.yaml")]
    return [card.name for card in sorted(cards, key=lambda card: (card.domain, card.name))]


def load_card(name_or_path: str | Path) -> Card:
    """Load a card of the package by its name, or any YAML file by its path.

    Raises:
        DataError: no such card, no YAML, or the faults of the card, all together.
    """
    text, path = str(name_or_path), Path(name_or_path)
    if path.suffix.lower() not in (".yaml", ".yml"):
        path = resource_dir("datasets") / f"{text.lower()}.yaml"
        if "/" in text or not path.is_file():
            known = ", ".join(sorted(card.stem for card in path.parent.glob("*.yaml")))
            raise DataError(f"no dataset card {text!r}; known are {known}, or give a .yaml file")
    try:
        content = parse_yaml(read_text(path, MAX_CARD))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except Malformed as error:
        raise DataError(f"{path} is not a YAML file: {error}") from error
    return parse_card(content, path)


def read_dataset(
    card: str | Path | Card,
    root: str | Path | None = None,
    split: str = "test",
    form: str = "auto",
    categories: Sequence[str] | None = None,
) -> list[Sample]:
    """Read one split of a dataset, wherever it lies below the root, in the card's order.

    Warns (`DatasetWarning`) where the numbers of images differ from the card's, or categories are
    not in the card.

    Args:
        card: a card, its name, or the path of a YAML file.
        root: the folder that holds the datasets; None for the card's own `root`.
        split: "test" or "train".
        form: "auto", "standardised" or "distributed".
        categories: only these.

    Raises:
        DataError: nothing found, an empty split, unknown categories, missing images.
    """
    card = card if isinstance(card, Card) else load_card(card)
    found = locate(card, dataset_root(card, root), form)
    samples = read_found(card, found, split)
    for difference in count_differences(card, found, split, samples):
        warnings.warn(difference, DatasetWarning, stacklevel=2)
    if categories is not None:
        samples = select_categories(samples, categories, card.name)
    absent = [sample.path for sample in samples if not sample.path.is_file()]
    if absent:
        raise DataError(
            f"{found.path} names {len(absent)} images that do not exist, first {absent[0]}; add "
            "them, or choose the categories that are there"
        )
    return samples


def dataset_root(card: Card, root: str | Path | None) -> Path:
    """The folder to look in: the given one, or else the card's own.

    Raises:
        DataError: there is neither.
    """
    if root is not None:
        return Path(root)
    if not card.root:
        raise DataError(f"{card.name}: say where the data is, by --data or by root in its card")
    return (card.path.parent if card.path else Path()) / Path(card.root).expanduser()


def read_found(card: Card, found: Found, split: str = "test") -> list[Sample]:
    """Read one split of a dataset that `locate` found; images may be missing.

    Raises:
        DataError: an empty or unknown split, or files that cannot be used.
    """
    if split not in SPLITS:
        raise DataError(f"split is {split!r}; allowed are {', '.join(SPLITS)}")
    if found.layout is None:
        samples = [_as_in_card(card, s) for s in read_meta(found.path, split, card.name)]
        samples.sort(key=lambda sample: card.rank(sample.category))
    else:
        samples = read_layout(card, found.layout, found.path, split)
    if not samples:
        raise DataError(f"{card.name} in {found.path} has no {split} images")
    return samples


def count_differences(card: Card, found: Found, split: str, samples: list[Sample]) -> list[str]:
    """One line for each number of images that differs from the card's, with both numbers.

    Categories are compared where the card's numbers by category add up to the form's total.
    """
    counts = count_labels(samples)
    lines = []
    unknown = [name for name in counts if card.categories and name not in card.categories]
    if unknown:
        lines.append(f"{card.name}: categories not in its card: {', '.join(unknown)}")
    expected = found.expected(card, split)
    if expected is None:
        return lines
    total = (sum(n for n, _ in counts.values()), sum(a for _, a in counts.values()))
    if total != expected:
        lines.append(_difference(f"{card.name} ({found.form})", split, total, expected))
    known = {name: c.test for name, c in card.categories.items() if c.test is not None}
    added = (sum(c[0] for c in known.values()), sum(c[1] for c in known.values()))
    if split == "test" and added == expected and len(known) > 1:
        for name, count in counts.items():
            if name in known and count != known[name]:
                lines.append(_difference(f"{card.name}/{name}", split, count, known[name]))
    return lines


def find_datasets(root: str | Path) -> dict[str, Found | None]:
    """Every card of the package by name, with where its dataset is below the root, or None."""
    found: dict[str, Found | None] = {}
    for name in card_names():
        try:
            found[name] = locate(load_card(name), root, own_folder=True)
        except DataError:
            if not Path(root).is_dir():
                raise
            found[name] = None
    return found


def _difference(what: str, split: str, found: tuple[int, int], expected: tuple[int, int]) -> str:
    return (
        f"{what}: found {found[0]} normal and {found[1]} anomalous {split} images, expected "
        f"{expected[0]} and {expected[1]}"
    )


def _as_in_card(card: Card, sample: Sample) -> Sample:
    """The sample with the card's category and prompt word, which differ between publishers."""
    category = card.category_of(sample.category)
    if category is not None:
        sample = replace(sample, category=category.name, class_name=category.word)
    elif len(card.categories) == 1:
        sample = replace(sample, class_name=next(iter(card.categories.values())).word)
    return replace(sample, dataset=card.name)
