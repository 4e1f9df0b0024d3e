"""What a report says about its run, in words: its head, and how it was made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

# ``finished`` is in the head.
_NO_FACTS = ("seconds", "images_per_second", "resumed", "dropped", "finished")


def head(folder: Path, run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was run, when and with which model; what an older run does not say is left out."""
    profile, environment = run.get("profile") or {}, run.get("environment") or {}
    version, finished = environment.get("bayes_pfl"), str(run.get("finished") or "")
    known = [
        ("Run", folder.resolve().name),
        ("Finished", f"{finished[:10]} {finished[11:16]} UTC{finished[19:]}" if finished else ""),
        ("Profile", Path(profile.get("folder") or "").name),
        ("Model", run.get("checkpoint")),
        ("Version", f"bayes-pfl {version}" if version else ""),
    ]
    return [(name, _text(value)) for name, value in known if value]


def several(names: Sequence[str]) -> str:
    """Four names, and a sign that there are more."""
    return ", ".join(names[:4]) + (" …" if len(names) > 4 else "")


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
        elif key not in _NO_FACTS:
            yield f"{before}{key}", _text(value)


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value) or "none"
    if value is None:
        return "none"
    plain = f"{value:g}" if isinstance(value, float) else str(value)
    return plain.encode("utf-8", "replace").decode("utf-8")
