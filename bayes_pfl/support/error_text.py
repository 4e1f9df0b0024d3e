"""What an exception says, in one line that can stand in a message."""

from __future__ import annotations


def one_line(error: BaseException, limit: int = 200) -> str:
    """The text of an error in one line of at most ``limit`` characters.

    The name of its type comes first where the text alone says nothing (a KeyError is just the
    key), and replaces a text that is empty.
    """
    text = " ".join(str(error).split())[:limit]
    kind = type(error).__name__
    return f"{kind}: {text}" if isinstance(error, LookupError) else text or kind


def error_reason(error: BaseException) -> str:
    """Why something failed, in one line: for an OSError the operating system's own words, such as
    "No space left on device".
    """
    return getattr(error, "strerror", None) or one_line(error)
