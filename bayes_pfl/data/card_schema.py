"""The content of a dataset card, as dataclasses. How to write a card: datasets/README.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

DOMAINS = ("industrial", "medical", "other")
LEVELS = ("image", "pixel")
LABELS = ("normal", "anomalous", "mask exists", "mask content")
SPLITS = ("test", "train")

Counts = tuple[int, int]
"""Normal and anomalous images."""


@dataclass(frozen=True)
class Category:
    """One category: its prompt word, other names its folder may have, its test images."""

    name: str
    word: str
    folders: tuple[str, ...] = ()
    test: Counts | None = None


@dataclass(frozen=True)
class Group:
    """Images found by patterns, whose label and mask are found in the same way."""

    images: tuple[str, ...]
    label: str
    masks: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    category: str | None = None


@dataclass(frozen=True)
class Table:
    """A CSV file that lists the images; the fields are names of its columns."""

    file: str
    image: str
    label: str
    anomalous: tuple[str, ...]
    category: str | None = None
    split: str | None = None
    mask: str | None = None
    paths: tuple[str, ...] = ("{image}",)
    digits: int = 0


@dataclass(frozen=True)
class Layout:
    """One way in which the files may be arranged: patterns by split, or a table."""

    name: str
    splits: Mapping[str, tuple[Group, ...]] = field(default_factory=dict)
    table: Table | None = None
    counts: Mapping[str, Counts] = field(default_factory=dict)


@dataclass(frozen=True)
class Card:
    """A dataset card; `path` is the file it was read from."""

    name: str
    layouts: tuple[Layout, ...]
    categories: Mapping[str, Category]
    title: str = ""
    domain: str = "other"
    supports: tuple[str, ...] = LEVELS
    folders: tuple[str, ...] = ()
    standardised: Mapping[str, Counts] = field(default_factory=dict)
    licence: str = ""
    home: str = ""
    citation: str = ""
    notes: str = ""
    root: str | None = None
    path: Path | None = None

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
