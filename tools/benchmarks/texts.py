"""Numbers from the command line, and figures for people."""

from __future__ import annotations

from bayes_pfl.cli.options import names_in
from bayes_pfl.errors import ConfigError


def numbers(option: str, text: str, least: int = 1) -> list[int]:
    """The numbers of a list separated by commas; nothing for "none".

    Raises:
        ConfigError: something else, or a number below ``least``.
    """
    try:
        found = [] if text == "none" else [int(part) for part in names_in(text)]
    except ValueError as error:
        raise ConfigError(f"{option} {text!r}: give numbers, as in 100,1000, or none") from error
    if found and min(found) < least:
        raise ConfigError(f"{option} {text!r}: each must be at least {least}")
    return found


def size(option: str, text: str, least: int) -> tuple[int, int]:
    """(width, height) of a text such as 4000x3000.

    Raises:
        ConfigError: something else, or a side below ``least``.
    """
    width, _, height = text.partition("x")
    if not width.isdecimal() or not height.isdecimal() or min(int(width), int(height)) < least:
        raise ConfigError(
            f"{option} {text!r}: give width x height, as in 4000x3000, each {least} or more"
        )
    return int(width), int(height)


def of_bytes(value: int | None) -> str:
    """Bytes as MB."""
    return megabytes(None if value is None else value / 2**20)


def megabytes(value: float | None) -> str:
    """MB, rounded."""
    return "memory unknown here" if value is None else f"{value:.0f} MB"


def percent(value: float | None) -> str:
    """A share in percent."""
    return "-" if value is None else f"{100 * value:.0f}"
