"""Dataclasses whose numbers have bounds, built from JSON with all faults in one error."""

from __future__ import annotations

import math
import types
import typing
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from bayes_pfl.errors import ConfigError
from bayes_pfl.support.error_text import one_line
from bayes_pfl.support.parsing import MAX_CONFIG, Malformed, read_json, short

ConfigT = TypeVar("ConfigT")

_SHOWN = 40  # faults of one config


def within(low: float, high: float = math.inf) -> dict[str, tuple[float, float]]:
    """Metadata of a field of numbers: the least and the largest that are allowed.

    Sizes have an upper bound because they come from files of others and must not fill the memory.
    """
    return {"bounds": (low, high)}


def _outside(item: Field[Any], name: str, value: Any) -> list[str]:
    """Faults of a field's number, or of each number in its tuple; None is no fault."""
    if "bounds" not in item.metadata:
        return []
    low, high = item.metadata["bounds"]
    faults = []
    for number in value if isinstance(value, tuple) else (value,):
        if number is not None and not low <= number <= high:
            bound = f"at least {low}" if not number >= low else f"at most {high}"
            faults.append(f"{name} = {short(number)}: must be {bound}")
    return faults


class _Faults(ConfigError):
    """All faults of a config's own fields; each begins with the name of a field."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.faults,)  # other processes raise it too


@dataclass(frozen=True)
class Settings:
    """Base of the configs: raises :class:`ConfigError` with all faults of its own fields."""

    def __post_init__(self) -> None:
        values = [(item, item.name, getattr(self, item.name)) for item in fields(self)]
        faults = [fault for value in values for fault in _outside(*value)]
        if faults := faults + self.conflicts():
            raise _Faults(faults)

    def conflicts(self) -> list[str]:
        """Faults of values that do not go together; of any values, also out of their bounds."""
        return []


def from_dict(cls: type[ConfigT], data: Any, where: str = "config") -> ConfigT:
    """Build the dataclass ``cls`` from parsed JSON.

    Args:
        where: the name of ``data`` in errors.

    Raises:
        ConfigError: with all faults of all levels, forty at most, in one line: entries that are
            unknown, missing, of another type, or out of bounds.
    """
    faults: list[str] = []
    value = _build(cls, data, where, faults)
    if faults:
        more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise ConfigError("; ".join(faults[:_SHOWN]) + more)
    return typing.cast(ConfigT, value)


def load_json(cls: type[ConfigT], path: Path) -> ConfigT:
    """Read ``path`` as ``cls``. Raises :class:`ConfigError` naming the file."""
    return from_dict(cls, read_json_config(path), str(path))


def read_json_config(path: Path) -> Any:
    """The content of a JSON file. Raises :class:`ConfigError` naming the file."""
    try:
        return read_json(path, MAX_CONFIG)
    except (OSError, Malformed) as error:
        raise ConfigError(f"{path}: not readable as JSON ({one_line(error)})") from error


def _build(cls: Any, data: Any, where: str, faults: list[str]) -> Any:
    """An object of ``cls``; None if there are faults, which are added to ``faults``."""
    if not isinstance(data, dict):
        faults.append(f"{where}: expected an object, found {type(data).__name__}")
        return None
    hints = typing.get_type_hints(cls)
    known = {item.name: item for item in fields(cls)}
    found = _wrong_names(known, data, where)
    values: dict[str, Any] = {}
    for name in [name for name in data if name in known]:
        before = len(found)
        value = _convert(hints[name], data[name], f"{where}.{name}", found)
        if len(found) == before:
            values[name] = value
    faults += found
    if found and not issubclass(cls, Settings):
        return None
    # Entries that cannot be used stay out, so that what is wrong with the others is said too.
    absent = {name: None for name, item in known.items() if _is_required(item)}
    try:
        made = cls(**absent | values)
    except _Faults as error:
        faults += [f"{where}.{fault}" for fault in error.faults]
        return None
    except ConfigError as error:  # of a dataclass with checks of its own
        faults.append(f"{where}: {error}")
        return None
    return None if found else made


def _wrong_names(known: dict[str, Field[Any]], data: dict[str, Any], where: str) -> list[str]:
    unknown = [
        f"{where}: unknown entry {short(name)} (known: {', '.join(known)})"
        for name in sorted(data.keys() - known)
    ]
    missing = [
        f"{where}: missing entry {name!r}"
        for name, item in known.items()
        if name not in data and _is_required(item)
    ]
    return unknown + missing


def _is_required(item: Field[Any]) -> bool:
    return item.default is MISSING and item.default_factory is MISSING


def _convert(hint: Any, value: Any, where: str, faults: list[str]) -> Any:
    """JSON's ``value`` as the type ``hint``; faults are added to ``faults``."""
    if is_dataclass(hint):
        return _build(hint, value, where, faults)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, where, faults)
    if origin is Literal:
        if not any(type(value) is type(a) and value == a for a in arguments):
            known = ", ".join(map(repr, arguments))
            faults.append(f"{where}: {short(value)} is not one of {known}")
        return value
    if origin is tuple:
        return _convert_tuple(arguments, value, where, faults)
    return _convert_scalar(hint, value, where, faults)


def _convert_tuple(arguments: Any, value: Any, where: str, faults: list[str]) -> Any:
    if not isinstance(value, list | tuple):
        faults.append(f"{where}: expected a list, found {short(value)}")
        return ()
    if arguments[-1] is not Ellipsis and len(value) != len(arguments):
        faults.append(f"{where}: expected {len(arguments)} values, found {short(value)}")
    return tuple(_convert(arguments[0], item, where, faults) for item in value)


def _convert_scalar(hint: Any, value: Any, where: str, faults: list[str]) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 2**53 else math.inf  # beyond the exact floats
    if isinstance(value, float) and not math.isfinite(value):
        faults.append(f"{where}: {short(value)} is not a finite number")
    elif not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        faults.append(f"{where}: expected {hint.__name__}, found {short(value)}")
    return value
