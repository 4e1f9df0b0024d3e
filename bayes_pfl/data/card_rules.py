"""Reads the fields of a card, each by the rule in its annotation, and collects all faults."""

from __future__ import annotations

import re
from dataclasses import MISSING, dataclass, fields
from functools import cache, partial
from typing import Annotated, Any, TypeVar, get_origin, get_type_hints

from bayes_pfl.data.meta import safe_name
from bayes_pfl.errors import DataError
from bayes_pfl.support.parsing import short

Record = TypeVar("Record", bound="Checked")

_SHOWN = 100  # characters of a place in a card
_MANY = 10**9  # images
_WILDCARDS = 4  # in one part of a pattern: matching takes names' length to this power


@dataclass(frozen=True)
class Checked:
    """A part of a card: a dataclass whose annotated fields are those of its mapping in YAML."""

    def check(self, faults: Faults, where: str) -> None:
        """Add the faults of fields that do not go together."""


class Faults(list[str]):
    """Collects faults; reading gives a usable value all the same, so that all are found at once."""

    def add(self, where: str, what: str) -> None:
        """Add the fault ``what`` of the field ``where``."""
        self.append(f"{where[:_SHOWN]} {what}")

    def read(self, where: str, value: object, kind: type[Record], **others: Any) -> Record:
        """Make a part of a card of a mapping; fields without a default are required.

        Args:
            where: its place in the card; "" for the card itself.
            others: fields that are no part of the mapping.
        """
        rules = _rules(kind)  # type: ignore[arg-type]  # mypy takes no class for hashable
        place, known = where or "the card", ", ".join(rules)
        given, faults = value, self
        if not isinstance(given, dict):
            self.add(place, f"is {short(value)}; a mapping of {known} is wanted")
            given, faults = {}, Faults()  # what else is missing follows from this fault
        for key in given:
            if key not in rules:
                faults.add(place, f"has an unknown field {short(key)}; allowed are {known}")
        required = {f.name for f in fields(kind) if f.default is f.default_factory is MISSING}
        read = {
            key: rule(faults, f"{where}.{key}".lstrip("."), given.get(key))
            for key, rule in rules.items()
            if key in given or key in required
        }
        record = kind(**read, **others)
        record.check(faults, where)
        return record


@cache
def _rules(kind: type[Checked]) -> dict[str, Any]:
    """The rule of each annotated field, in their order."""
    hints = get_type_hints(kind, include_extras=True)
    return {k: hint.__metadata__[0] for k, hint in hints.items() if get_origin(hint) is Annotated}


def text(faults: Faults, where: str, value: object, required: bool = False) -> str:
    """A text in one line; "" if it is no text, or not given."""
    if value is None and not required:
        return ""
    if not isinstance(value, str) or not value.strip():
        faults.add(where, f"is {short(value)}; text is wanted (put it in quotes)")
        return ""
    return " ".join(value.split())


def name(faults: Faults, where: str, value: object) -> str:
    """A name that can be a folder's: see `meta.safe_name`; "" if it cannot."""
    try:
        return safe_name(value, where)
    except DataError as error:
        faults.append(f"{error} (put numbers, yes and no in quotes)")
        return ""


def choice(faults: Faults, where: str, value: object, allowed: tuple[str, ...]) -> str:
    """One of the allowed values; the first one if it is another."""
    if value not in allowed:
        faults.add(where, f"is {short(value)}; allowed are {', '.join(allowed)}")
        return allowed[0]
    return str(value)


def texts(faults: Faults, where: str, value: object) -> tuple[str, ...]:
    """A text or a list of texts."""
    items = value if isinstance(value, list) else [] if value is None else [value]
    return tuple(text(faults, where, item, required=True) for item in items)


def patterns(faults: Faults, where: str, value: object) -> tuple[str, ...]:
    """A path pattern or a list of them; each must stay below the dataset's folder."""
    found = texts(faults, where, value)
    for pattern in found:
        if fault := _pattern_fault(pattern):
            faults.add(where, f"{short(pattern)} {fault}")
    return found


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


def pattern_names(*patterns: str) -> set[str]:
    """The {names} in path patterns."""
    return {name for pattern in patterns for name in re.findall(r"\{(\w+)\}", pattern)}


def counts(faults: Faults, where: str, value: object) -> tuple[int, int] | None:
    """Numbers of normal and anomalous images; None if it is something else."""
    items = value if isinstance(value, list) else []
    if len(items) == 2 and all(type(item) is int and 0 <= item < _MANY for item in items):
        return items[0], items[1]
    faults.add(where, f"is {short(value)}; [normal, anomalous] numbers of images are wanted")
    return None


def digits(faults: Faults, where: str, value: object) -> int:
    """A number of digits."""
    if type(value) is int and 0 <= value <= 20:
        return value
    faults.add(where, f"is {short(value)}; a number from 0 to 20 is wanted")
    return 0


Text = Annotated[str, text]
RequiredText = Annotated[str, partial(text, required=True)]
Texts = Annotated[tuple[str, ...], texts]
Patterns = Annotated[tuple[str, ...], patterns]
