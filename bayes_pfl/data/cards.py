"""Dataset cards: find one by name or path, find its dataset on this disk, and read it as samples.

A card (YAML) says where the pictures of a dataset are, which are anomalous, and where their masks
are; see datasets/README.md and docs/datasets.md. Reading never copies or changes data.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bayes_pfl.data.card_schema import SPLITS, Card, Category, Counts, Layout, parse_card
from bayes_pfl.data.layouts import fits, misses, read_layout
from bayes_pfl.data.meta import read_meta
from bayes_pfl.data.records import DatasetWarning, Sample, count_labels, select_categories
from bayes_pfl.data.remarks import remarks
from bayes_pfl.data.wording import prompt_word
from bayes_pfl.errors import DataError, NoSplitError
from bayes_pfl.support.parsing import MAX_CARD, Malformed, parse_yaml, read_text
from bayes_pfl.support.resources import resource_dir

FORMS = ("auto", "standardised", "distributed")


def card_names(further: bool = False) -> list[str]:
    """The names of the cards that come with the package, industrial sets first.

    Args:
        further: those of sets that the paper does not report, in place of its fifteen.
    """
    folder = resource_dir("datasets") / ("further" if further else "")
    cards = [load_card(path) for path in folder.glob("*.yaml")]
    return [card.name for card in sorted(cards, key=lambda card: (card.domain, card.name))]


def load_card(name_or_path: str | Path) -> Card:
    """Load a card of the package by its name, or any YAML file by its path.

    Raises:
        DataError: no such card, no YAML, or the faults of the card, all together.
    """
    text, path = str(name_or_path), Path(name_or_path)
    if path.suffix.lower() not in (".yaml", ".yml"):
        cards = {card.stem: card for card in resource_dir("datasets").glob("**/*.yaml")}
        cards = {name: card for name, card in cards.items() if card.parent.name != "published"}
        if text.lower() not in cards:
            known = ", ".join(sorted(cards))
            raise DataError(f"no dataset card {text!r}; known are {known}, or give a .yaml file")
        path = cards[text.lower()]
    try:
        content = parse_yaml(read_text(path, MAX_CARD))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except Malformed as error:
        raise DataError(f"{path} is not a YAML file: {error}") from error
    return parse_card(content, path)


@dataclass(frozen=True)
class Found:
    """One form of a dataset on this disk.

    Attributes:
        form: "standardised" or "distributed".
        path: the meta.json, or the folder of the distributed files.
        layout: the layout of the card that fits; None for the standardised form.
    """

    card: Card
    form: str
    path: Path
    layout: Layout | None = None

    def read(self, split: str = "test") -> list[Sample]:
        """Read one split of the dataset; images may be missing.

        Raises:
            NoSplitError: it has no images.
            DataError: an unknown split, or files that cannot be used.
        """
        if split not in SPLITS:
            raise DataError(f"split is {split!r}; allowed are {', '.join(SPLITS)}")
        card = self.card
        if self.layout is None:
            samples = [_as_in_card(card, s) for s in read_meta(self.path, split, card.name)]
            samples.sort(key=lambda sample: card.rank(sample.category))
        else:
            samples = read_layout(card, self.layout, self.path, split)
        if not samples:
            raise NoSplitError(f"{card.name} in {self.path} has no {split} images")
        return samples

    def remarks(self, samples: list[Sample]) -> list[str]:
        """What reading passed over or chose, one line each: see `remarks.remarks`."""
        return remarks(samples, self.path if self.layout else None)

    def misses(self, split: str) -> list[str]:
        """A line for each pattern of the card that matches no image of the split."""
        return misses(self.layout, self.path, (split,)) if self.layout else []

    def differences(self, samples: list[Sample], split: str = "test") -> list[str]:
        """One line for each number of images that differs from the card's, with both numbers.

        Categories are compared where the card's numbers by category add up to the form's total.
        """
        card, counts = self.card, count_labels(samples)
        lines = []
        unknown = [name for name in counts if card.categories and name not in card.categories]
        if unknown:
            lines.append(f"{card.name}: categories not in its card: {', '.join(unknown)}")
        numbers = card.standardised if self.layout is None else self.layout.counts
        expected: Counts | None = getattr(numbers, split)
        if expected is None:
            return lines
        total = (sum(n for n, _ in counts.values()), sum(a for _, a in counts.values()))
        if total != expected:
            lines.append(_difference(f"{card.name} ({self.form})", split, total, expected))
        known = {name: c.test for name, c in card.categories.items() if c.test is not None}
        added = (sum(c[0] for c in known.values()), sum(c[1] for c in known.values()))
        if split == "test" and added == expected and len(known) > 1:
            for name, count in counts.items():
                if name in known and count != known[name]:
                    lines.append(_difference(f"{card.name}/{name}", split, count, known[name]))
        return lines


def read_dataset(
    card: str | Path | Card,
    root: str | Path | None = None,
    split: str = "test",
    form: str = "auto",
    categories: Sequence[str] | None = None,
) -> list[Sample]:
    """Read one split of a dataset, wherever it lies below the root, in the card's order.

    Warns (`DatasetWarning`) where the numbers of images differ from the card's, categories are not
    in the card, or files are passed over.

    Args:
        card, root, form: those of `locate`.
        split: "test" or "train".
        categories: only these.

    Raises:
        DataError: nothing found, an empty split, unknown categories, missing images.
    """
    found = locate(card, root, form)
    samples = found.read(split)
    for line in found.differences(samples, split) + found.remarks(samples):
        warnings.warn(line, DatasetWarning, stacklevel=2)
    if categories is not None:
        samples = select_categories(samples, categories, found.card.name)
    absent = [sample.path for sample in samples if not sample.path.is_file()]
    if absent:
        raise DataError(
            f"{found.path} names {len(absent)} images that do not exist, first {absent[0]}; add "
            "them, or choose the categories that are there"
        )
    return samples


def locate(
    card: str | Path | Card,
    root: str | Path | None = None,
    form: str = "auto",
    *,
    own_folder: bool = False,
) -> Found:
    """Find a dataset below a root: its standardised form first, then as its makers distribute it.

    Looked for, with each name that the card gives its folder: ROOT/meta_<name>.json,
    ROOT/<name>/meta.json, ROOT/<name>/meta_<name>.json, the files in ROOT/<name>; then the same
    in ROOT itself.

    Args:
        card: a card, its name, or the path of a YAML file.
        root: the folder that holds the datasets; None for the card's own `root`.
        form: "auto", "standardised" or "distributed".
        own_folder: accept ROOT itself only if it has the dataset's name, so that no set is found
            in the folder of another one with a similar layout.

    Raises:
        DataError: an unknown form, no root or no such one, or no dataset there.
    """
    card = card if isinstance(card, Card) else load_card(card)
    root = _root(card) if root is None else Path(root)
    if form not in FORMS:
        raise DataError(f"form is {form!r}; allowed are {', '.join(FORMS)}")
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; give the folder that holds the datasets")
    names = [name.casefold() for name in dict.fromkeys((card.name, *card.folders))]
    places = _places(card, root, names, own_folder)
    if form != "distributed" and (meta := _find_meta(root, names, places)):
        return Found(card, "standardised", meta)
    if form != "standardised":
        for place in places:
            for layout in card.layouts:
                if fits(card, layout, place):
                    return Found(card, "distributed", place, layout)
    raise DataError(
        f"{card.name} was not found in {root}: looked for {root}/meta_{card.name}.json, "
        f"{root}/{card.name}/meta.json and the layouts "
        f"{', '.join(repr(layout.name) for layout in card.layouts)} in {root}/{card.name}"
        f"{_first_miss(card, places[0] if places else root)}"
    )


def _first_miss(card: Card, place: Path) -> str:
    """Of a card with one layout, where its first pattern ends; the user may have written it."""
    lines = misses(card.layouts[0], place, SPLITS) if len(card.layouts) == 1 else []
    return f"; {lines[0]}" if lines else ""


def _root(card: Card) -> Path:
    if not card.root:
        raise DataError(f"{card.name}: say where the data is, by --data or by root in its card")
    return (card.path.parent if card.path else Path()) / Path(card.root).expanduser()


def _places(card: Card, root: Path, names: list[str], own_folder: bool) -> list[Path]:
    folders = {p.name.casefold(): p for p in sorted(root.iterdir()) if p.is_dir()}
    nested = (root / name for name in card.folders if "/" in name)
    found = [folders[name] for name in names if name in folders]
    found += [path for path in nested if path.is_dir()]
    # Archives often unpack into a second folder of the same name.
    found += [path / path.name for path in list(found) if (path / path.name).is_dir()]
    if not own_folder or root.resolve().name.casefold() in names:
        found.append(root)
    return found


def _find_meta(root: Path, names: list[str], places: list[Path]) -> Path | None:
    files = {path.name.casefold(): path for path in sorted(root.glob("*.json"))}
    candidates = [files.get(f"meta_{name}.json") for name in names]
    for place in places:
        candidates.append(place / "meta.json")
        candidates += [place / f"meta_{name}.json" for name in names]
    return next((path for path in candidates if path and path.is_file()), None)


def find_datasets(root: str | Path, further: bool = False) -> dict[str, Found | None]:
    """Every one of `card_names` with where its dataset is below the root, or None."""
    found: dict[str, Found | None] = {}
    for name in card_names(further):
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
        sample = replace(sample, category=category.name)
    elif len(card.categories) == 1:
        category = next(iter(card.categories.values()))
    else:
        word = sample.class_name
        category = Category(sample.category, prompt_word(word), word)
    word, authors = category.word, category.authors_word
    return replace(sample, class_name=word, authors_word=authors, dataset=card.name)
