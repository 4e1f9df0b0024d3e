"""JSON and YAML from untrusted files: bounded in size, no key twice, one error for all faults."""

from __future__ import annotations

import json
import reprlib
from pathlib import Path
from typing import Any

import yaml

from bayes_pfl.support.error_text import one_line

MIB = 2**20
MAX_CONFIG = MIB
"""Largest config in bytes; those that this package writes have at most three thousand."""
MAX_CARD = MIB // 8
"""Largest YAML file in bytes: its reader takes seconds for more."""
MAX_LISTING = 256 * MIB
"""Largest meta.json in bytes: a million images."""

_MAX_VALUES = 20_000  # in a YAML file, with its aliases expanded
_MAX_DIGITS = 400
_SHOWN = 60

_repr = reprlib.Repr()
_repr.maxlevel = _repr.maxdict = _repr.maxlist = 3
_repr.maxstring = _repr.maxother = _repr.maxlong = _SHOWN


class Malformed(ValueError):
    """What is wrong with a text, in one line; without the file's name."""


def short(value: object) -> str:
    """A value from a file for a message: cut to 60 characters, in one line, all of them visible."""
    try:
        text = _repr.repr(value)
    except ValueError:  # Python writes out no number of more than 4300 digits
        return "a number of thousands of digits"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def read_text(path: Path, limit: int) -> str:
    """A UTF-8 file of at most ``limit`` bytes.

    Raises:
        Malformed: too long, not UTF-8, or no regular file.
        OSError: it cannot be read.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise Malformed("not a regular file")  # reading a pipe waits, a device never ends
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise Malformed(f"larger than {limit / MIB:g} MiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Malformed(one_line(error)) from error


def read_json(path: Path, limit: int) -> Any:
    """The content of a JSON file; raises as `read_text` and `parse_json` do."""
    return parse_json(read_text(path, limit))


def parse_json(text: str) -> Any:
    """Parse JSON in which no key is given twice.

    Raises:
        Malformed: not JSON, nested too deeply, a key twice, or a number of thousands of digits.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_int=_integer)
    except RecursionError as error:
        raise Malformed("nested too deeply") from error
    except ValueError as error:
        raise Malformed(one_line(error)) from error


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise Malformed(f"a number of {len(digits)} digits")
    return int(digits)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise Malformed(f"the key {short(key)} is given twice")
        found[key] = value
    return found


def parse_yaml(text: str) -> Any:
    """Parse one document of plain YAML: no language-specific tags, no key twice.

    Raises:
        Malformed: anything else, such as aliases that expand to too many values.
    """
    try:
        loader = _StrictLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _expanded_size(node, {})
        return loader.construct_document(node)
    except RecursionError as error:
        raise Malformed("nested too deeply") from error
    # The grammar accepts some numbers and dates whose conversion then fails.
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError) as error:
        raise Malformed(one_line(error)) from error


def _expanded_size(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node has when every alias is replaced by its content."""
    if known.get(id(node)) == 0:
        raise Malformed("a value contains itself")
    if id(node) not in known:
        known[id(node)] = 0  # being counted
        children = [] if isinstance(node, yaml.ScalarNode) else node.value
        parts = [part for item in children for part in (item if type(item) is tuple else (item,))]
        known[id(node)] = 1 + sum(_expanded_size(part, known) for part in parts)
    if known[id(node)] > _MAX_VALUES:
        raise Malformed(f"its aliases unfold to more than {_MAX_VALUES} values")
    return known[id(node)]


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice; PyYAML itself keeps the last one silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for name, _ in node.value:
            key = self.construct_object(name, deep=True)
            if key in seen:
                raise Malformed(f"the key {short(key)} is given twice")
            seen.add(key)
        return super().construct_mapping(node, deep)
