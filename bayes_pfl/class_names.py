"""What images are called: synonyms averaged, unusual words, a name for each image of a folder.

Symbols: B images, K prompt pairs, D joint width.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from bayes_pfl.draws import RunSamples
from bayes_pfl.errors import DataError
from bayes_pfl.prompts import prompt_word

if TYPE_CHECKING:
    from bayes_pfl.model import BayesPFL

SEPARATOR = "|"
UNUSUAL_PIECES = 4
"""A word that the tokenizer cuts into so many pieces is one it hardly knows."""


def synonyms(name: str) -> tuple[str, ...]:
    """The names in a class name, each once.

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


def embeddings(
    model: BayesPFL, pooled: Tensor, samples: RunSamples, names: Sequence[str]
) -> Tensor:
    """Text embeddings (B, 2, K, D); those of synonyms are averaged and normalised, pair by pair.

    Args:
        pooled: global embeddings (B, D) of the images.
        names: one for each, perhaps with synonyms.
    """
    parts = [synonyms(name) for name in names]
    if all(len(part) == 1 for part in parts):
        return model.prompt_embeddings(pooled, samples, [part[0] for part in parts])
    owner = torch.tensor([row for row, part in enumerate(parts) for _ in part])
    flat = [name for part in parts for name in part]
    text = model.prompt_embeddings(pooled[owner.to(pooled.device)], samples, flat)
    groups = text.split([len(part) for part in parts])
    return F.normalize(torch.stack([group.mean(0) for group in groups]), dim=-1)


def check_class_name(model: BayesPFL, name: str) -> None:
    """Raise DataError for a name that is empty, or too long for the text tower."""
    prompts = model.config.prompts
    for part in synonyms(name):
        model.backbone.tokenize([part], prompts.context_tokens + prompts.state_tokens)


def unusual_words(model: BayesPFL, name: str) -> list[str]:
    """Words of a name that the tokenizer cuts into four pieces or more: part numbers, typos.

    What such a word means to the text tower is anyone's guess.
    """
    words = [word for part in synonyms(name) for word in part.split()]
    return [word for word in dict.fromkeys(words) if _pieces(model, word) >= UNUSUAL_PIECES]


def _pieces(model: BayesPFL, word: str) -> int:
    """Tokens of a word: how much longer the text becomes when it is said twice."""
    once, twice = ([word] if n == 1 else [f"{word} {word}"] for n in (1, 2))
    try:
        return _length(model, twice) - _length(model, once)
    except DataError:  # no room to say it twice
        return UNUSUAL_PIECES


def _length(model: BayesPFL, names: list[str]) -> int:
    ids = model.backbone.tokenize(names, 1).suffix
    return int((ids != model.backbone.text.pad_id).sum())


@dataclass(frozen=True)
class ClassNames:
    """A class name for each image of a folder.

    Attributes:
        table: CSV file with the columns path (within the folder) and class_name; None for the
            names of the subfolders, the first below the folder, with separators as blanks.
        default: for images that neither names; None refuses them.
    """

    table: Path | None = None
    default: str | None = None

    def __str__(self) -> str:
        return "by subfolder" if self.table is None else f"from {self.table.name}"

    def resolve(self, folder: Path, paths: Sequence[Path]) -> list[str]:
        """One name for each path.

        Raises:
            DataError: an unreadable table, or images without a name.
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
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, csv.Error) as error:
        raise DataError(f"{path}: not readable as CSV ({error})") from error
    if not rows or not {"path", "class_name"} <= rows[0].keys():
        raise DataError(f"{path}: a CSV file with the columns path and class_name is wanted")
    return {row["path"]: (row["class_name"] or "").strip() for row in rows}
