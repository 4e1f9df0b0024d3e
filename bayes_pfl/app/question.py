"""What a request may ask of the app: its address, and its JSON body."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bayes_pfl.support.asgi import Refused
from bayes_pfl.support.parsing import Malformed, parse_json, short

API = "/gradio_api"
FILE = f"{API}/file="
UPLOAD = f"{API}/upload"
JOIN = f"{API}/queue/join"
_PLAIN = (f"{API}/cancel", f"{API}/reset")
MAX_BODY = 2**20
"""Bytes of a body that is no upload; a question about 64 files has 30 thousand."""

_PART = r"/(?!\.)[^/\\\0]+"  # of a path: no "..", nothing hidden
_SHOWN = re.compile(
    r"/|/(?:config|theme\.css|favicon\.ico|manifest\.json)"
    rf"|/(?:static|assets)(?:{_PART})+"
    rf"|{API}/(?:queue/data|upload_progress|startup-events|app_id|heartbeat/\w+)"
)
_SESSION = re.compile(r"\w{1,64}", re.ASCII)


def check_address(method: str, path: str) -> None:
    """Refuse what the page does not need; Gradio offers much more under other addresses.

    Raises:
        Refused: another address, or another method.
    """
    shown = _SHOWN.fullmatch(path) or path.startswith(FILE)
    asked = path in (UPLOAD, JOIN, *_PLAIN)
    if not (shown and method in ("GET", "HEAD") or asked and method == "POST"):
        raise Refused(404, f"{short(path)}: not part of this page")


def read_body(path: str, body: bytes, accept: Callable[[str], Path], max_files: int) -> bytes:
    """A JSON body as it is passed on: what the page itself sends, and nothing else.

    It is written again from what was understood here, so that no other parser can read another
    thing in it. Of a file only the path remains: Gradio would fetch its ``url``.

    Args:
        path: the address of the request.
        accept: returns a path that may be used; raises Refused for all others.
        max_files: files that one question may name.

    Raises:
        Refused: malformed, too many files, or a file that was not uploaded.
    """
    try:
        content = parse_json(body.decode("utf-8"))
        if not isinstance(content, dict):
            raise Malformed("not an object")
        kept = _question(content, accept, max_files) if path == JOIN else _plain(content)
        return json.dumps(kept, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except Refused:
        raise
    except ValueError as error:  # Malformed, NaN, not UTF-8, half a pair of surrogates
        reason = str(error) if isinstance(error, Malformed) else "not JSON in UTF-8"
        raise Refused(400, f"request body: {reason}") from error


def _question(
    content: dict[str, Any], accept: Callable[[str], Path], max_files: int
) -> dict[str, Any]:
    session = content.get("session_hash")
    if not (isinstance(session, str) and _SESSION.fullmatch(session)):
        raise Malformed("session_hash: letters and digits are wanted")
    match content.get("data"):
        case [str()] as values:  # which profile is chosen
            return _head(content) | {"data": values}
        case [list() | None as files, str(), str(), str(), int() | float(), str()] as values:
            named = files or []
        case _:
            raise Malformed("data: files, three texts, a number and a text are wanted, or one text")
    if len(named) > max_files:
        reason = f"{len(named)} images: {max_files} at once; for more use bayes-pfl predict"
        raise Refused(413, reason)
    return _head(content) | {
        "data": [files and [_file(entry, accept) for entry in named], *values[1:]]
    }


def _head(content: dict[str, Any]) -> dict[str, Any]:
    return _plain({key: content.get(key) for key in ("fn_index", "trigger_id", "session_hash")})


def _file(entry: Any, accept: Callable[[str], Path]) -> dict[str, Any]:
    path = entry.get("path") if isinstance(entry, dict) else None
    if not isinstance(path, str):
        raise Malformed("data: a file is an object with the path of an upload")
    return {"path": str(accept(path)), "meta": {"_type": "gradio.FileData"}}


def _plain(content: dict[str, Any]) -> dict[str, Any]:
    for value in content.values():
        if isinstance(value, (list, dict)):
            raise Malformed(f"{short(value)}: a text, a number or nothing is wanted")
    return content
