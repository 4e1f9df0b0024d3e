"""A run's configuration as a person reads it: headings, names, values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_LEFT_OUT = ("seconds", "images_per_second", "resumed", "dropped")


def facts(
    run: Mapping[str, Any], content: Mapping[str, Any]
) -> list[tuple[str, list[tuple[str, str]]]]:
    """Headings, each with its names and values.

    Args:
        run: the first part.
        content: a JSON object; those of its entries that are objects, and not empty, follow.
    """
    parts = {key: value for key, value in content.items() if isinstance(value, dict) and value}
    return [(heading, list(_flat(part))) for heading, part in ({"run": run} | parts).items()]


def _flat(content: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Names and values, nested names joined with points; without times, so that a page can be
    made again to the byte."""
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        elif key not in _LEFT_OUT:
            yield f"{before}{key}", _text(value)


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value) or "none"
    if value is None:
        return "none"
    plain = f"{value:g}" if isinstance(value, float) else str(value)
    return plain.encode("utf-8", "replace").decode("utf-8")
