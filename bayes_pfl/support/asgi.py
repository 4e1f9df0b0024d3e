"""Requests as ASGI servers hand them over: their headers and bodies, read within limits."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from bayes_pfl.errors import DataError

# The three types of an ASGI application.
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class Refused(DataError):
    """A request that is not answered: an HTTP status, why in one line, and further headers."""

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        self.status, self.headers = status, dict(headers or {})
        super().__init__(reason)


def header(scope: Scope, name: bytes) -> str:
    """All values of a header, as one."""
    values = [value for key, value in scope["headers"] if key.lower() == name]
    return b"; ".join(values).decode("latin-1")


def check_length(scope: Scope, limit: int) -> int:
    """The bytes of a body, which its sender must say before.

    Raises:
        Refused: it does not say so, or they are more than the limit.
    """
    length = header(scope, b"content-length")
    if not (length.isascii() and length.isdigit()) or header(scope, b"transfer-encoding"):
        raise Refused(411, "a body must say its length")
    if len(length) > 15 or int(length) > limit:
        raise Refused(413, f"request body: at most {limit / 2**20:g} MiB are taken")
    return int(length)


def within(receive: Receive, seconds: float) -> Receive:
    """The same messages; where the body is not complete in time, the client counts as gone."""
    end, complete = time.monotonic() + seconds, False

    async def timed() -> MutableMapping[str, Any]:
        nonlocal complete
        if complete:
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), max(0.0, end - time.monotonic()))
        except asyncio.TimeoutError:
            return {"type": "http.disconnect"}
        complete = not message.get("more_body", False)
        return message

    return timed


async def whole_body(receive: Receive, limit: int) -> bytes:
    """The body of a request.

    Raises:
        Refused: longer than the limit, or the client is gone.
    """
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Refused(408, "request body: not complete in time")
        body.extend(message.get("body", b""))
        if len(body) > limit:
            raise Refused(413, "request body: longer than it said")
        if not message.get("more_body", False):
            return bytes(body)


async def refuse(send: Send, refused: Refused) -> None:
    """Answer with the status of a refusal, and why as JSON."""
    body = json.dumps({"detail": str(refused)}).encode()
    known = {"content-type": "application/json", "content-length": str(len(body))}
    headers = [(k.encode(), v.encode()) for k, v in {**known, **refused.headers}.items()]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
