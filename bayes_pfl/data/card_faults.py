"""Reads the fields of a card, and collects all its faults."""

from __future__ import annotations

import re
from typing import Any

from bayes_pfl.data.card_schema import SPLITS, Counts
from bayes_pfl.data.meta import safe_name
from bayes_pfl.errors import DataError
from bayes_pfl.support.parsing import short

_SHOWN = 100  # characters of a place in a card
_MANY = 10**9  # images
_WILDCARDS = 4  # in one part of a pattern: matching takes names' length to this power


class Faults:
    """Collects faults; each method returns a usable value, so that all faults are found at once."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, where: str, what: str) -> None:
        """Add the fault ``what`` of the field ``where``."""
        self.found.append(f"{where[:_SHOWN]} {what}")

    def fields(self, where: str, value: object, allowed: tuple[str, ...]) -> dict[str, Any]:
        """A mapping with no other fields than the allowed ones; {} if it is no mapping."""
        if not isinstance(value, dict):
            self.add(where, f"is {short(value)}; a mapping of {', '.join(allowed)} is wanted")
            return {}
        for key in value:
            if key not in allowed:
                known = ", ".join(allowed)
                self.add(where, f"has an unknown field {short(key)}; allowed are {known}")
        return value

    def text(self, where: str, value: object, required: bool = False) -> str:
        """A text in one line; "" if it is no text, or not given."""
        if value is None and not required:
            return ""
        if not isinstance(value, str) or not value.strip():
            self.add(where, f"is {short(value)}; text is wanted (put it in quotes)")
            return ""
        return " ".join(value.split())

    def name(self, where: str, value: object) -> str:
        """A name that can be a folder's: see `meta.safe_name`; "" if it cannot."""
        try:
            return safe_name(value, where)
        except DataError as error:
            self.found.append(f"{error} (put numbers, yes and no in quotes)")
            return ""

    def choice(self, where: str, value: object, allowed: tuple[str, ...]) -> str:
        """One of the allowed values; the first one if it is another."""
        if value not in allowed:
            self.add(where, f"is {short(value)}; allowed are {', '.join(allowed)}")
            return allowed[0]
        return str(value)

    def texts(self, where: str, value: object) -> tuple[str, ...]:
        """A text or a list of texts."""
        items = value if isinstance(value, list) else [] if value is None else [value]
        return tuple(self.text(where, item, required=True) for item in items)

    def patterns(self, where: str, value: object) -> tuple[str, ...]:
        """A path pattern or a list of them; each must stay below the dataset's folder."""
        found = self.texts(where, value)
        for pattern in found:
            if fault := _pattern_fault(pattern):
                self.add(where, f"{short(pattern)} {fault}")
        return found

    def counts(self, where: str, value: object) -> Counts | None:
        """Numbers of normal and anomalous images; None if it is something else."""
        items = value if isinstance(value, list) else []
        if len(items) == 2 and all(type(item) is int and 0 <= item < _MANY for item in items):
            return items[0], items[1]
        self.add(where, f"is {short(value)}; [normal, anomalous] numbers of images are wanted")
        return None

    def split_counts(self, where: str, value: object) -> dict[str, Counts]:
        """Numbers of normal and anomalous images by split."""
        given = self.fields(where, value or {}, SPLITS)
        counts = {k: self.counts(f"{where}.{k}", v) for k, v in given.items() if k in SPLITS}
        return {split: count for split, count in counts.items() if count}


def _pattern_fault(pattern: str) -> str | None:
    """What is wrong with a path pattern, or None."""
    if pattern.startswith(("/", "~")) or re.match(r"[A-Za-z]:", pattern) or "\\" in pattern:
        return "must be relative to the dataset's folder, with / between folders"
    if any(part in ("", ".", "..") for part in pattern.split("/")):
        return "must stay below the dataset's folder, without empty parts, . and .."
    if "**" in pattern:
        return "has **; a * stands for names within one folder, so write one part per folder"
    if any(len(re.findall(r"[*{]", part)) > _WILDCARDS for part in pattern.split("/")):
        return f"has more than {_WILDCARDS} wildcards in one part"
    if re.search(r"[{}]", re.sub(r"\{[a-z_]+\}", "", pattern)):
        return "has braces that are not a {name} of small letters"
    return None
