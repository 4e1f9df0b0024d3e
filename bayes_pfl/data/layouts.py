"""Finds the files of a dataset by the patterns, or by the table, of a card's layout."""

from __future__ import annotations

import contextlib
import csv
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from bayes_pfl.data.card_schema import Card, Category, Group, Layout, Table
from bayes_pfl.data.image_files import IMAGE_SUFFIXES, is_good, is_image_name, is_leftover
from bayes_pfl.data.images import read_mask
from bayes_pfl.data.meta import confined
from bayes_pfl.data.records import Sample
from bayes_pfl.data.wording import prompt_word
from bayes_pfl.errors import DataError


def read_layout(card: Card, layout: Layout, root: Path, split: str) -> list[Sample]:
    """The samples of one split, sorted by category and path; [] if the layout does not fit.

    Pictures are not opened; masks are, if the label depends on their content.

    Raises:
        DataError: a table that cannot be read, or that names paths outside the root.
    """
    tree = _Tree(root)
    if layout.table is not None:
        samples = _read_table(card, layout.table, tree, split)
    else:
        samples = _read_groups(card, getattr(layout, split), tree)
    samples.sort(key=lambda s: (card.rank(s.category), s.category))
    return samples


def fits(card: Card, layout: Layout, root: Path) -> bool:
    """Whether the layout finds any image of the card below the root; no file is opened."""
    tree = _Tree(root)
    if layout.table is not None:
        return tree.find(layout.table.file) is not None
    return any(
        _category(card, group.category or values.get("category")) is not None
        for group in layout.test + layout.train
        for pattern in group.images
        for _, values in tree.match(pattern)
    )


def misses(layout: Layout, root: Path, splits: Sequence[str]) -> list[str]:
    """A line for each pattern of images that matches none, with where it was looked for.

    Of a group's patterns for one folder, as for several extensions, one that matches is enough.
    """
    tree = _Tree(root)
    lines = []
    for split in splits:
        for group in getattr(layout, split) if layout.table is None else ():
            found = {one.rpartition("/")[0] for one in group.images if any(tree.match(one))}
            for pattern in group.images:
                if pattern.rpartition("/")[0] not in found:
                    folder, part = tree.stop(pattern)
                    what = "no image" if part == pattern.rpartition("/")[2] else f"no {part!r}"
                    lines.append(
                        f"{split} pattern {pattern!r} ({group.label}) matches nothing: {what} in "
                        f"{folder}"
                    )
    return lines


class _Tree:
    """The folders of a dataset, each listed once; names match in upper and lower case."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folders: dict[Path, defaultdict[str, list[str]]] = {}

    def names(self, folder: Path) -> dict[str, list[str]]:
        """Names in a folder by their lower-case form without blanks around it, sorted.

        {} if it cannot be listed.
        """
        if folder not in self._folders:
            found = self._folders[folder] = defaultdict[str, list[str]](list)
            with contextlib.suppress(OSError):
                for name in sorted(os.listdir(folder)):
                    if not is_leftover(name):
                        found[name.strip().casefold()].append(name)
        return self._folders[folder]

    def child(self, folder: Path, name: str) -> Path | None:
        """The path of the entry with that name, or else with that name in other cases, or None."""
        same = self.names(folder).get(name.strip().casefold(), ())
        return folder / (name if name in same else same[0]) if same else None

    def match(self, pattern: str) -> Iterator[tuple[Path, dict[str, str]]]:
        """Image files that match a pattern, each with the values of the pattern's {names}."""
        *folders, last = pattern.split("/")
        places: list[tuple[Path, dict[str, str]]] = [(self.root, {})]
        for part in folders:
            places = [hit for place in places for hit in self._step(*place, part)]
        for place in places:
            for path, values in self._step(*place, last):
                # Pipes and dead links too: they are reported later.
                if is_image_name(path.name) and not path.is_dir():
                    yield path, values

    def stop(self, pattern: str) -> tuple[Path, str]:
        """Of a pattern that matches no image: a folder in which no more fits, and that part."""
        *folders, last = pattern.split("/")
        places: list[tuple[Path, dict[str, str]]] = [(self.root, {})]
        for part in folders:
            inner = [hit for place in places for hit in self._step(*place, part)]
            if not inner:
                return places[0][0], part
            places = inner
        return places[0][0], last

    def _step(
        self, folder: Path, values: dict[str, str], part: str
    ) -> list[tuple[Path, dict[str, str]]]:
        if not re.search(r"[*{]", part):
            child = self.child(folder, part)
            return [(child, values)] if child else []
        expression = _expression(part, values)
        names = sorted(name for same in self.names(folder).values() for name in same)
        hits = ((name, expression.fullmatch(name)) for name in names)
        return [(folder / name, {**values, **hit.groupdict()}) for name, hit in hits if hit]

    def find(self, path: str, image: Path | None = None) -> Path | None:
        """The file of that path below the root; the extension ".*" stands for any image's.

        Args:
            image: whose mask is looked for: ".*" is its extension, else one of IMAGE_SUFFIXES in
                their order, but never the image itself.
        """
        *folders, last = path.split("/")
        place: Path | None = self.root
        for part in folders:
            place = self.child(place, part) if place else None
        if place is None:
            return None
        if not last.endswith(".*"):
            found = self.child(place, last)
            return found if found and found.is_file() else None
        suffixes = (*((image.suffix,) if image else ()), *IMAGE_SUFFIXES)
        candidates = (self.child(place, last[:-2] + suffix) for suffix in suffixes)
        return next((p for p in candidates if p and p != image and p.is_file()), None)


def _expression(part: str, values: dict[str, str]) -> re.Pattern[str]:
    pieces = re.split(r"(\{\w+\}|\*)", part)
    text = ""
    for piece in pieces:
        if piece == "*":
            text += ".*"
        elif piece.startswith("{"):
            name = piece[1:-1]
            again = f"(?P={name})" if f"(?P<{name}>" in text else f"(?P<{name}>.+)"
            text += re.escape(values[name]) if name in values else again
        else:
            text += re.escape(piece)
    return re.compile(text, re.IGNORECASE)


def _fill(part: str, values: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda hit: values[hit.group(1)], part)


def _read_groups(card: Card, groups: tuple[Group, ...], tree: _Tree) -> list[Sample]:
    samples: list[Sample] = []
    taken: set[Path] = set()
    for group in groups:
        exclude = [_expression(pattern, {}) for pattern in group.exclude]
        for pattern in group.images:
            for path, values in tree.match(pattern):
                category = _category(card, group.category or values.get("category"))
                excluded = any(expression.fullmatch(path.name) for expression in exclude)
                # A file belongs to the first group that matches it: good/ before {defect}/.
                if path in taken or category is None or excluded:
                    continue
                taken.add(path)
                samples.append(_sample(card, group, category, tree, path, values))
    return samples


def _category(card: Card, name: str | None) -> Category | None:
    """The category of that name or folder; the only one of the card if the name is None."""
    if name is None:
        return next(iter(card.categories.values()))
    if not card.categories and name:
        return Category(name, prompt_word(name))
    return card.category_of(name)


def _sample(
    card: Card,
    group: Group,
    category: Category,
    tree: _Tree,
    path: Path,
    values: dict[str, str],
) -> Sample:
    names = {"stem": path.stem, **values}
    found = (tree.find(_fill(pattern, names), path) for pattern in group.mask)
    normal = group.label == "normal" or is_good(values.get("defect", ""))
    mask = None if normal else next((m for m in found if m), None)
    if group.label == "mask exists":
        label = int(mask is not None)
    elif group.label == "mask content":
        label = int(mask is not None and bool(read_mask(mask).any()))
    else:
        label = int(not normal)
    defect = values.get("defect", "anomaly") if label else "good"
    return _labelled(card, category, path, label, mask, defect)


def _labelled(
    card: Card, category: Category, path: Path, label: int, mask: Path | None, defect: str
) -> Sample:
    word, authors = category.word, category.authors_word
    mask = mask if label else None
    return Sample(path, category.name, word, label, mask, defect, card.name, authors)


def _read_table(card: Card, table: Table, tree: _Tree, split: str) -> list[Sample]:
    path = tree.find(table.file)
    if path is None:
        return []
    samples = []
    for number, row in _rows(path, table):
        category = _category(card, row[table.category] if table.category else None)
        in_split = (row[table.split].lower() if table.split else "test") == split
        if category is None or not in_split:
            continue
        try:
            samples.append(_row_sample(card, table, tree, category, row))
        except DataError as error:
            raise DataError(f"{path}, line {number}: {error}") from error
    return samples


def _rows(path: Path, table: Table) -> Iterator[tuple[int, dict[str, str]]]:
    """The number of each line with its cells by column; a cell that is missing is ""."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restkey="", restval="")
            header = [cell.strip() for cell in reader.fieldnames or ()]
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV file: {error}") from error
    columns = (table.image, table.label, table.category, table.split, table.mask)
    missing = [column for column in columns if column and column not in header]
    if missing:
        raise DataError(f"{path} has no column {', '.join(missing)}; it has {', '.join(header)}")
    for number, row in rows:
        yield number, {name.strip(): cell.strip() for name, cell in row.items() if name}


def _row_sample(
    card: Card, table: Table, tree: _Tree, category: Category, row: dict[str, str]
) -> Sample:
    cell = row[table.image].zfill(table.digits)
    filled = [_fill(path, {"image": cell}) for path in table.paths]
    for text in filled:
        confined(tree.root, text)
    found = (tree.find(text.replace("\\", "/")) for text in filled)
    image = next((path for path in found if path), tree.root / filled[0])
    label = int(row[table.label].lower() in {value.lower() for value in table.anomalous})
    mask = None
    if label and table.mask and (named := row[table.mask]):
        confined(tree.root, named)
        mask = tree.find(named.replace("\\", "/"))
    return _labelled(card, category, image, label, mask, "anomaly" if label else "good")
