"""Tables of the command line: drawn on a terminal, Markdown in a file or a pipe."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Literal

from rich import box
from rich.table import Table
from rich.text import Text

from bayes_pfl.cli import options as opt

_GAP = 2  # between columns
_NUMBER, _TEXT = 3, 8  # characters that a column has at least; one of texts, if it needs them


def show(text: str) -> None:
    """Print a text; what is a table in it, in Markdown, is drawn where a terminal shows it."""
    if not opt.console.is_terminal:
        opt.say(text)
        return
    for is_table, lines in groupby(text.splitlines(), lambda line: line.startswith("| ")):
        block = list(lines)
        if drawn := _drawn([_cells(line) for line in block]) if is_table else None:
            opt.console.print(drawn)
        else:
            opt.say("\n".join(block).replace("**", ""))


def _cells(line: str) -> list[str]:
    inner = line.strip().removeprefix("| ").removesuffix(" |")
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", inner)]


def _drawn(rows: Sequence[Sequence[str]]) -> Table | None:
    """The table of a head, a rule that says which columns hold numbers, and rows.

    None where the terminal is too narrow for it.
    """
    head, rule, *others = rows
    numbers = [sign.endswith(":") for sign in rule]
    columns = list(zip(*others, strict=True)) if others else [(name,) for name in head]
    room = opt.console.width - _GAP * (len(head) - 1)
    widths = _widths(head, columns, numbers, room)
    if sum(widths) > room:
        return None
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, _GAP - 1, 0, 0))
    for name, number, width in zip(head, numbers, widths, strict=True):
        side: Literal["left", "right"] = "right" if number else "left"
        table.add_column(Text(name), justify=side, overflow="fold", width=width)
    for cells in others:
        table.add_row(*map(Text, cells))
    return table


def _widths(
    head: Sequence[str], columns: Sequence[Sequence[str]], numbers: Sequence[bool], room: int
) -> list[int]:
    """What each column has: the words of its cells whole, then those of its head, then lines.

    What a column asks for next is given to those first that ask for least.
    """
    words = [_longest(word for cell in cells for word in cell.split()) for cells in columns]
    narrow = (_NUMBER if number else _TEXT for number in numbers)
    widths = [
        max(least, width) if number else min(least, width)
        for number, width, least in zip(numbers, words, narrow, strict=True)
    ]
    heads = [_longest(name.split()) for name in head]
    for wanted in (words, heads, list(map(_longest, columns)), list(map(len, head))):
        for at in sorted(range(len(head)), key=lambda at: wanted[at] - widths[at]):
            more = wanted[at] - widths[at]
            if 0 < more <= room - sum(widths):
                widths[at] += more
    return widths


def _longest(texts: Iterable[str]) -> int:
    return max(map(len, texts), default=0)
