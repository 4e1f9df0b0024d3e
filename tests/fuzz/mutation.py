"""Changes to the values of a JSON or YAML file, where changed bytes would seldom parse."""

from __future__ import annotations

import json
import random
from typing import Any

import yaml

RAW = (
    *("null", "true", "-1", "0", "1e999", "NaN", "[]", "{}", '""', "[1, 2]", "[[]]", "1.5"),
    *(
        "2001-99-99",
        "2001-12-14t21:59:43.10-99:99",
        "0b_",
        "0x_",
        "1:99:99",
        "~",
        ".inf",
        "!!int x",
    ),
    *('"../a"', '"/etc"', '"\\u0000"', '"\\ud800"', '"a\\nb"', '"*a*a*b"', '"{x}/{x}"', '"{stem}"'),
    *("9" * 400, "9" * 5000, "0x" + "f" * 5000, '"' + "x" * 5000 + '"', "[" * 60 + "]" * 60),
)
_MARK = "@here@"


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """A mutator for atheris: of two changes one is to a value, one to the bytes."""
    draw = random.Random(seed)
    if draw.random() < 0.5:
        return _edited(data, draw)[:max_size]
    try:
        text = json.dumps(_changed(yaml.load(data, yaml.CSafeLoader), draw), default=str)
    except Exception:  # what is no such file is left to the other half
        return _edited(data, draw)[:max_size]
    return text.replace(f'"{_MARK}"', draw.choice(RAW), 1).encode()[:max_size]


def _edited(data: bytes, draw: random.Random) -> bytes:
    """A few bytes replaced, inserted, removed or repeated."""
    content = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        place, length = draw.randint(0, len(content)), draw.randint(0, 8)
        new = draw.choice(
            (draw.randbytes(length), draw.choice(RAW)[:40].encode(), content[place : place + 9])
        )
        content[place : place + draw.choice((0, length))] = new
    return bytes(content)


def _changed(value: Any, draw: random.Random) -> Any:
    """One place replaced, doubled, removed or renamed."""
    if not isinstance(value, dict | list) or not value or draw.random() < 0.1:
        return _MARK
    copy = value.copy()
    place = draw.choice(list(copy) if isinstance(copy, dict) else range(len(copy)))
    what = draw.random()
    if what < 0.7:
        copy[place] = _changed(copy[place], draw)
    elif what < 0.8:
        del copy[place]
    elif isinstance(copy, list):
        copy.append(copy[place])
    else:
        copy[_MARK] = copy.pop(place)
    return copy
