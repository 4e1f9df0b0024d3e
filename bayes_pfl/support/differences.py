"""What differs between two settings, in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bayes_pfl.errors import ConfigError


def differences(
    before: Mapping[str, Any], now: Mapping[str, Any], done: str = "begun"
) -> list[str]:
    """Each setting that differs, as "name = now, but it was begun with before"; nested ones too.

    >>> differences({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3}})
    ['c = 3, but it was begun with 2']
    """
    found: list[str] = []
    for name in dict.fromkeys((*before, *now)):
        old, new = before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += differences(old, new, done)
        elif old != new:
            found.append(f"{name} = {new!r}, but it was {done} with {old!r}")
    return found


def check_same(
    place: Path | str, before: Mapping[str, Any], now: Mapping[str, Any], restart: str
) -> None:
    """Refuse to resume a run with other settings than it was begun with.

    Args:
        place: where ``before``, the settings of the run that was begun, was read from.
        now: the settings of the run that would resume it.
        restart: how a user starts the run again.

    Raises:
        ConfigError: settings differ; the message names them all.
    """
    # What was begun was read from JSON, which turns tuples into lists.
    if differing := differences(before, json.loads(json.dumps(now))):
        raise ConfigError(
            f"{place}: this run was begun with other settings: {'; '.join(differing)}; give the "
            f"same settings, or {restart}"
        )
