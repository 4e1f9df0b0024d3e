"""The words for an object in a prompt: from categories, folders, tables and synonyms."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bayes_pfl.errors import DataError

SEPARATOR = "|"

# The names that the published implementation replaces; it asks for all others as they are.
PUBLISHED_WORDS = {
    "metal_nut": "metal nut",
    "chewinggum": "chewing gum",
    "macaroni1": "macaroni",
    "macaroni2": "macaroni",
    "pipe_fryum": "pipe fryum",
    **dict.fromkeys(("pcb1", "pcb2", "pcb3", "pcb4"), "printed circuit board"),
}


def published_word(name: str) -> str:
    """The words in the published run's prompts for a name of a meta.json.

    >>> published_word("Metal_nut"), published_word("fabric2")
    ('metal nut', 'fabric2')
    """
    return PUBLISHED_WORDS.get(name.lower(), name.lower())


def prompt_word(category: str) -> str:
    """Category or folder name -> its words in the prompt.

    Separators become blanks, and a number at the end is removed; the published exceptions differ.

    >>> prompt_word("metal_nut"), prompt_word("pcb1"), prompt_word("macaroni2")
    ('metal nut', 'printed circuit board', 'macaroni')
    """
    if category in PUBLISHED_WORDS:
        return PUBLISHED_WORDS[category]
    words = re.sub(r"[\s_-]+", " ", category).strip()
    return re.sub(r"\s*\d+$", "", words) or words


def synonyms(name: str) -> tuple[str, ...]:
    """The synonyms in a class name, each once.

    >>> synonyms("screw | bolt|screw")
    ('screw', 'bolt')

    Raises:
        DataError: one of them is empty.
    """
    if SEPARATOR not in name:
        return (name,)
    parts = [part.strip() for part in name.split(SEPARATOR)]
    if not all(parts):
        raise DataError(f"class name {name!r}: a synonym is empty; write them as in 'screw|bolt'")
    return tuple(dict.fromkeys(parts))


@dataclass(frozen=True)
class ClassNames:
    """A class name for each image of a folder.

    Attributes:
        table: CSV file with the columns path (within the folder) and class_name; None for the
            names of the subfolders directly below the folder, with separators as blanks.
        default: for images that have no name of their own; None refuses them.
    """

    table: Path | None = None
    default: str | None = None

    def __str__(self) -> str:
        return "by subfolder" if self.table is None else f"from {self.table.name}"

    def resolve(self, folder: Path, paths: Sequence[Path]) -> list[str]:
        """One name for each path.

        Raises:
            DataError: the table cannot be read, or images have no name.
        """
        listed = _read_table(self.table) if self.table else None
        names, missing = [], []
        for path in paths:
            inside = path.relative_to(folder)
            found = listed.get(inside.as_posix()) if listed is not None else _subfolder(inside)
            missing += [] if found or self.default else [inside.as_posix()]
            names.append(found or self.default or "")
        if missing:
            where = "lie in no subfolder" if self.table is None else f"are not in {self.table}"
            raise DataError(
                f"{len(missing)} images {where}, such as {missing[0]!r}: name them, or give "
                "--class-name for the rest"
            )
        return names


def _subfolder(inside: Path) -> str | None:
    return prompt_word(inside.parts[0]) if len(inside.parts) > 1 else None


def _read_table(path: Path) -> dict[str, str]:
    """Class names by path; an empty one for a path without."""
    if path.exists() and not path.is_file():  # reading a pipe waits, a device never ends
        raise DataError(f"{path}: not a regular file; give a CSV file")
    names: dict[str, str] = {}
    lines: dict[str, int] = {}
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.DictReader(file)
            for row in reader:
                inside = row["path"]
                if inside in names:
                    raise DataError(
                        f"{path}: {inside!r} is in line {lines[inside]} and in line "
                        f"{reader.line_num}; leave one of them"
                    )
                names[inside] = (row["class_name"] or "").strip()
                lines[inside] = reader.line_num
    except (OSError, csv.Error) as error:
        raise DataError(f"{path}: not readable as CSV ({error})") from error
    except KeyError:
        names = {}
    if not names:
        raise DataError(f"{path}: a CSV file with the columns path and class_name is wanted")
    return names
