"""Makes a card of the mapping in a YAML file; all faults of a card are reported at once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bayes_pfl.data.card_faults import Faults
from bayes_pfl.data.card_schema import (
    DOMAINS,
    LABELS,
    LEVELS,
    SPLITS,
    Card,
    Category,
    Group,
    Layout,
    Table,
)
from bayes_pfl.data.wording import prompt_word
from bayes_pfl.errors import DataError
from bayes_pfl.support.parsing import short

_SHOWN = 40  # faults of one card

_MVTEC: dict[str, Any] = {
    "name": "MVTec tree",
    "test": [
        {"images": "{category}/test/good/*", "label": "normal"},
        {
            "images": "{category}/test/{defect}/*",
            "label": "anomalous",
            "mask": [
                "{category}/ground_truth/{defect}/{stem}_mask.*",
                "{category}/ground_truth/{defect}/{stem}.*",
            ],
        },
    ],
    "train": [{"images": "{category}/train/good/*", "label": "normal"}],
}


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
    card = _card(content, path, faults)
    if faults.found:
        count = f"{len(faults.found)} fault{'s' if len(faults.found) > 1 else ''}"
        more = "; ..." if len(faults.found) > _SHOWN else ""
        raise DataError(f"{path or 'card'} has {count}: {'; '.join(faults.found[:_SHOWN])}{more}")
    return card


def _card(content: dict[str, Any], path: Path | None, faults: Faults) -> Card:
    known = tuple(name for name in Card.__dataclass_fields__ if name != "path")
    faults.fields("the card", content, known)
    raw = content.get("layouts")
    listed = raw if isinstance(raw, list) else []
    if not listed:
        faults.add("layouts", f"is {short(raw)}; a list of at least one layout is wanted")
    categories = _categories(content.get("categories"), faults)
    layouts = [_layout(f"layouts[{k}]", item, faults) for k, item in enumerate(listed)]
    _check_categories(layouts, categories, faults)
    texts = {
        key: faults.text(key, content.get(key))
        for key in ("title", "licence", "home", "citation", "notes")
    }
    supports = faults.texts("supports", content.get("supports", list(LEVELS)))
    return Card(
        name=faults.name("name", content.get("name")),
        layouts=tuple(layouts),
        categories=categories,
        domain=faults.choice("domain", content.get("domain", "other"), DOMAINS),
        supports=tuple(faults.choice("supports", level, LEVELS) for level in supports),
        folders=faults.patterns("folders", content.get("folders")),
        standardised=faults.split_counts("standardised", content.get("standardised")),
        root=faults.text("root", content.get("root")) or None,
        path=path,
        **texts,
    )


def _categories(value: object, faults: Faults) -> dict[str, Category]:
    if not isinstance(value, dict):
        if value is not None:
            faults.add("categories", f"is {short(value)}; a mapping of name: prompt word is wanted")
        return {}
    return {str(name): _category(name, item, faults) for name, item in value.items()}


def _category(name: object, item: object, faults: Faults) -> Category:
    where = f"categories.{name}"
    key = faults.name("category", name)
    if item is None or isinstance(item, str):
        return Category(key, faults.text(where, item) or prompt_word(key))
    given = faults.fields(where, item, ("word", "folders", "test"))
    word = faults.text(f"{where}.word", given.get("word")) or prompt_word(key)
    folders = faults.texts(f"{where}.folders", given.get("folders"))
    test = faults.counts(f"{where}.test", given["test"]) if "test" in given else None
    return Category(key, word, folders, test)


def _layout(where: str, item: object, faults: Faults) -> Layout:
    item = _MVTEC if item == "mvtec" else item
    given = faults.fields(where, item, ("name", "counts", "table", *SPLITS))
    splits = {
        split: tuple(
            _group(f"{where}.{split}[{k}]", group, faults)
            for k, group in enumerate(given[split] if isinstance(given[split], list) else [None])
        )
        for split in SPLITS
        if split in given
    }
    table = _table(f"{where}.table", given["table"], faults) if "table" in given else None
    if bool(splits) == (table is not None) and given:
        faults.add(where, "must have either patterns for test and train, or a table")
    name = faults.text(f"{where}.name", given.get("name")) or where
    counts = faults.split_counts(f"{where}.counts", given.get("counts"))
    return Layout(name, splits, table, counts)


def _group(where: str, item: object, faults: Faults) -> Group:
    given = faults.fields(where, item, ("images", "label", "mask", "exclude", "category"))
    if not given:
        return Group((), LABELS[0])
    images = faults.patterns(f"{where}.images", given.get("images"))
    if not images:
        faults.add(f"{where}.images", "is missing; give a pattern such as photos/ok/*")
    label = faults.choice(f"{where}.label", given.get("label"), LABELS)
    masks = faults.patterns(f"{where}.mask", given.get("mask"))
    if label.startswith("mask") and not masks:
        faults.add(where, f"has the label {short(label)} but no mask pattern")
    for name in sorted(_names(*masks) - {"stem"}):
        if any(name not in _names(image) for image in images):
            faults.add(f"{where}.mask", f"uses {{{name}}}, which not all its images patterns have")
    exclude = faults.patterns(f"{where}.exclude", given.get("exclude"))
    category = faults.text(f"{where}.category", given.get("category")) or None
    return Group(images, label, masks, exclude, category)


def _names(*patterns: str) -> set[str]:
    return {name for pattern in patterns for name in re.findall(r"\{(\w+)\}", pattern)}


def _table(where: str, item: object, faults: Faults) -> Table:
    given = faults.fields(where, item, tuple(Table.__dataclass_fields__))
    columns = {
        key: faults.text(f"{where}.{key}", given.get(key)) or None
        for key in ("category", "split", "mask")
    }
    digits = given.get("digits", 0)
    if type(digits) is not int or not 0 <= digits <= 20:
        faults.add(f"{where}.digits", f"is {short(digits)}; a number from 0 to 20 is wanted")
    paths = faults.patterns(f"{where}.paths", given.get("paths", "{image}"))
    for name in sorted(_names(*paths) - {"image"}):
        faults.add(f"{where}.paths", f"uses {{{name}}}; only {{image}}, the cell, is known")
    return Table(
        file=next(iter(faults.patterns(f"{where}.file", given.get("file", ""))), ""),
        image=faults.text(f"{where}.image", given.get("image"), required=True),
        label=faults.text(f"{where}.label", given.get("label"), required=True),
        anomalous=faults.texts(f"{where}.anomalous", given.get("anomalous", "anomaly")),
        paths=paths,
        digits=digits,
        **columns,
    )


def _check_categories(
    layouts: list[Layout], categories: Mapping[str, Category], faults: Faults
) -> None:
    """Each image must have a category: from its path, its group, its table, or the only one."""
    for layout in layouts:
        groups = [group for split in layout.splits.values() for group in split]
        for group in groups:
            if group.category and group.category not in categories:
                name = short(group.category)
                faults.add(layout.name, f"names the category {name}, not in the card")
        placed = [bool(g.category) or all("{category}" in p for p in g.images) for g in groups]
        placed += [bool(layout.table.category)] if layout.table else []
        if not all(placed) and len(categories) != 1:
            faults.add(
                layout.name,
                "does not say the category of its images; put {category} into the pattern, or "
                "name one category",
            )
