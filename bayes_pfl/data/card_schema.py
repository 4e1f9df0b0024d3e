"""The content of a dataset card, as dataclasses. How to write a card: datasets/README.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from bayes_pfl.data import card_rules as rules
from bayes_pfl.data.card_rules import Checked, Faults, Patterns, RequiredText, Text, Texts
from bayes_pfl.data.wording import prompt_word
from bayes_pfl.errors import DataError
from bayes_pfl.support.parsing import short

DOMAINS = ("industrial", "medical", "other")
LEVELS = ("image", "pixel")
LABELS = ("normal", "anomalous", "mask exists", "mask content")
SPLITS = ("test", "train")

Counts = tuple[int, int]
"""Normal and anomalous images."""

_SHOWN = 40  # faults of one card


@dataclass(frozen=True)
class Category(Checked):
    """One category: its prompt words, other names its folder may have, its test images."""

    name: str
    word: Text = ""
    authors_word: Text = ""
    folders: Texts = ()
    test: Annotated[Counts | None, rules.counts] = None


def _categories(faults: Faults, where: str, value: object) -> dict[str, Category]:
    if not isinstance(value, dict):
        if value is not None:
            faults.add(where, f"is {short(value)}; a mapping of name: prompt word is wanted")
        return {}
    return {str(k): _category(faults, f"{where}.{k}", k, item) for k, item in value.items()}


def _category(faults: Faults, where: str, name: object, item: object) -> Category:
    key = rules.name(faults, "category", name)
    if item is None or isinstance(item, str):
        found = Category(key, rules.text(faults, where, item))
    else:
        found = faults.read(where, item, Category, name=key)
    return replace(found, word=found.word or prompt_word(key))


@dataclass(frozen=True)
class Group(Checked):
    """Images found by patterns, whose label and mask are found in the same way."""

    images: Patterns
    label: Annotated[str, partial(rules.choice, allowed=LABELS)]
    mask: Patterns = ()
    exclude: Patterns = ()
    category: Text = ""

    def check(self, faults: Faults, where: str) -> None:
        """Add the faults of the patterns, taken together."""
        if not self.images:
            faults.add(f"{where}.images", "is missing; give a pattern such as photos/ok/*")
        if self.label.startswith("mask") and not self.mask:
            faults.add(where, f"has the label {short(self.label)} but no mask pattern")
        for name in sorted(rules.pattern_names(*self.mask) - {"stem"}):
            if any(name not in rules.pattern_names(image) for image in self.images):
                what = f"uses {{{name}}}, which not all its images patterns have"
                faults.add(f"{where}.mask", what)


def _groups(faults: Faults, where: str, value: object) -> tuple[Group, ...]:
    items = value if isinstance(value, list) else [None]
    return tuple(faults.read(f"{where}[{k}]", item, Group) for k, item in enumerate(items))


def _file(faults: Faults, where: str, value: object) -> str:
    return next(iter(rules.patterns(faults, where, value or "")), "")


@dataclass(frozen=True)
class Table(Checked):
    """A CSV file that lists the images; the fields are names of its columns."""

    file: Annotated[str, _file]
    image: RequiredText
    label: RequiredText
    anomalous: Texts = ("anomaly",)
    category: Text = ""
    split: Text = ""
    mask: Text = ""
    paths: Patterns = ("{image}",)
    digits: Annotated[int, rules.digits] = 0

    def check(self, faults: Faults, where: str) -> None:
        """Add a fault for each {name} in the paths that is not the image's."""
        for name in sorted(rules.pattern_names(*self.paths) - {"image"}):
            faults.add(f"{where}.paths", f"uses {{{name}}}; only {{image}}, the cell, is known")


@dataclass(frozen=True)
class SplitCounts(Checked):
    """Normal and anomalous images of each split, where the card says them."""

    test: Annotated[Counts | None, rules.counts] = None
    train: Annotated[Counts | None, rules.counts] = None


def _part(faults: Faults, where: str, value: object, kind: type[Any]) -> Any:
    return faults.read(where, value or {}, kind)


_Groups = Annotated[tuple[Group, ...], _groups]
_SplitCounts = Annotated[SplitCounts, partial(_part, kind=SplitCounts)]


@dataclass(frozen=True)
class Layout(Checked):
    """One way in which the files may be arranged: patterns by split, or a table."""

    name: Text = ""
    counts: _SplitCounts = SplitCounts()
    table: Annotated[Table | None, partial(_part, kind=Table)] = None
    test: _Groups = ()
    train: _Groups = ()

    def check(self, faults: Faults, where: str) -> None:
        """Add a fault unless there are either patterns or a table."""
        if bool(self.test + self.train) == (self.table is not None):
            faults.add(where, "must have either patterns for test and train, or a table")


def mvtec_layout(split: str = "test", above: str = "{category}/") -> Layout:
    """An MVTec tree, whose folders good hold normal images.

    Args:
        split: the folder of the test split.
        above: the folders above it.
    """
    masks = [f"{above}ground_truth/{{defect}}/{{stem}}{end}.*" for end in ("_mask", "")]
    test = Group((f"{above}{split}/{{defect}}/*",), "anomalous", tuple(masks))
    train = Group((f"{above}train/good/*",), "normal")
    return Layout("MVTec tree", test=(test,), train=(train,))


def _layouts(faults: Faults, where: str, value: object) -> tuple[Layout, ...]:
    if not isinstance(value, list) or not value:
        faults.add(where, f"is {short(value)}; a list of at least one layout is wanted")
        return ()
    places = [f"{where}[{k}]" for k in range(len(value))]
    found = [
        (place, mvtec_layout() if item == "mvtec" else faults.read(place, item, Layout))
        for place, item in zip(places, value, strict=True)
    ]
    return tuple(replace(layout, name=layout.name or place) for place, layout in found)


def _levels(faults: Faults, where: str, value: object) -> tuple[str, ...]:
    found = rules.texts(faults, where, value)
    return tuple(rules.choice(faults, where, level, LEVELS) for level in found)


@dataclass(frozen=True)
class Card(Checked):
    """A dataset card; `path` is the file it was read from."""

    name: Annotated[str, rules.name]
    layouts: Annotated[tuple[Layout, ...], _layouts]
    categories: Annotated[Mapping[str, Category], _categories] = field(default_factory=dict)
    title: Text = ""
    domain: Annotated[str, partial(rules.choice, allowed=DOMAINS)] = "other"
    supports: Annotated[tuple[str, ...], _levels] = LEVELS
    folders: Patterns = ()
    standardised: _SplitCounts = SplitCounts()
    licence: Text = ""
    home: Text = ""
    citation: Text = ""
    notes: Text = ""
    root: Text = ""
    path: Path | None = None

    def check(self, faults: Faults, where: str) -> None:
        """Each image must have a category: from its path, its group, its table, or the only one."""
        for layout in self.layouts:
            groups = layout.test + layout.train
            for group in groups:
                if group.category and group.category not in self.categories:
                    name = short(group.category)
                    faults.add(layout.name, f"names the category {name}, not in the card")
            placed = [bool(g.category) or all("{category}" in p for p in g.images) for g in groups]
            placed += [bool(layout.table.category)] if layout.table else []
            if not all(placed) and len(self.categories) != 1:
                faults.add(
                    layout.name,
                    "does not say the category of its images; put {category} into the pattern, "
                    "or name one category",
                )

    def category_of(self, folder: str) -> Category | None:
        """The category with that name or folder, in any case; None if it is not in the card."""
        wanted = folder.casefold()
        for category in self.categories.values():
            if wanted in (name.casefold() for name in (category.name, *category.folders)):
                return category
        return None

    def rank(self, category: str) -> int:
        """The place of a category in the card's order; that of an unknown one is after all."""
        names = list(self.categories)
        return names.index(category) if category in self.categories else len(names)


def parse_card(content: object, path: Path | None = None) -> Card:
    """Make a card of the mapping that a YAML file holds.

    Raises:
        DataError: one line with the faults of the card, forty at most.
    """
    if not isinstance(content, dict):
        raise DataError(
            f"{path or 'card'} has 1 fault: a card is a mapping of fields such as name and layouts"
        )
    faults = Faults()
    card = faults.read("", content, Card, path=path)
    if faults:
        count = f"{len(faults)} fault{'s' if len(faults) > 1 else ''}"
        more = "; ..." if len(faults) > _SHOWN else ""
        raise DataError(f"{path or 'card'} has {count}: {'; '.join(faults[:_SHOWN])}{more}")
    return card
