"""What an exception says, in one line that can stand in a message."""

from __future__ import annotations

_TOKEN = "log in with `hf auth login`, or set HF_TOKEN"


def one_line(error: BaseException, limit: int = 200) -> str:
    """The text of an error in one line of at most ``limit`` characters.

    The name of its type comes first where the text alone says nothing (a KeyError is just the
    key), and replaces a text that is empty.
    """
    text = " ".join(str(error).split())[:limit]
    kind = type(error).__name__
    return f"{kind}: {text}" if isinstance(error, LookupError) else text or kind


def printable(text: str) -> str:
    r"""A text without what a terminal would obey: names of files may hold such characters.

    >>> printable("a" + chr(27) + "[2Jb")
    'a\\x1b[2Jb'
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def error_reason(error: BaseException) -> str:
    """Why something failed, in one line: for an OSError the operating system's own words, such as
    "No space left on device".
    """
    return getattr(error, "strerror", None) or one_line(error)


def hub_reason(error: Exception) -> str:
    """Why a request to the hub failed: one line of at most 200 characters."""
    from huggingface_hub import errors

    gated = "gated: accept its terms on its page with your account"
    private = "no such repository, or a private one: see the spelling; if it is private"
    known: dict[type[Exception], str] = {  # a gated repository's error is one of the last kind
        errors.LocalTokenNotFoundError: f"no token: {_TOKEN}",
        errors.OfflineModeIsEnabled: "HF_HUB_OFFLINE is set",
        errors.RevisionNotFoundError: "no such revision there; see its branches and tags",
        errors.GatedRepoError: f"{gated}, then {_TOKEN}",
        errors.HFValidationError: "no name for a repository: give org/name",
        errors.EntryNotFoundError: "no such file there: not a checkpoint of this package",
        errors.RepositoryNotFoundError: f"{private}, {_TOKEN}",
    }
    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        return hub_reason(error.__cause__)  # type: ignore[arg-type]
    for kind, reason in known.items():
        if isinstance(error, kind):
            return reason
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        return f"no token, or one that is not valid: {_TOKEN}"
    if status == 403:
        return "your token may not do this: take one with the right to write to this account"
    return next(iter(str(error).strip().splitlines()), "no answer")[:200]
