"""Where requests enter: what the page does not need is refused before Gradio sees it.

Gradio copies and opens every file that a request names before it calls the page's function, so
that a check in that function is too late.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from bayes_pfl.app.inspection import AppSettings
from bayes_pfl.app.question import FILE, MAX_BODY, UPLOAD, Refused, check_address, read_body
from bayes_pfl.app.uploads import Uploads
from bayes_pfl.data.image_files import is_image_name

# The three types of an ASGI application.
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_COOKIE = re.compile(r"(?:^|;\s*)bayes-pfl-visitor=([0-9a-f]{32})(?=;|$)")
_BODY_SECONDS = 30.0
_UPLOAD_SECONDS = 600.0
_AROUND = 2**20  # bytes of an upload that are names and separators


def visitor_of(cookies: str) -> str:
    """The visitor that the header Cookie names; an empty string for none."""
    found = _COOKIE.search(cookies)
    return found[1] if found else ""


@dataclass(frozen=True)
class Gate:
    """An ASGI application that passes on what the page sends and refuses the rest.

    A request can name only files that its own visitor uploaded; a visitor is known by a cookie
    that comes with the page.
    """

    app: Callable[[Scope, Receive, Send], Awaitable[None]]
    uploads: Uploads
    settings: AppSettings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] == "http":
            try:
                await self._answer(scope, receive, send)
            except Refused as refused:
                await _refuse(send, refused)
        else:
            await self.app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        check_address(method, path)
        visitor = visitor_of(_header(scope, b"cookie"))
        if path == "/":
            await self.app(scope, receive, send if visitor else _introducing(send))
        elif path == UPLOAD:
            await self._take(scope, receive, send, visitor)
        elif path.startswith(FILE):
            if not is_image_name(self.uploads.check(path.removeprefix(FILE), visitor).name):
                raise Refused(403, "not an image")
            await self.app(scope, receive, send)
        elif method == "POST":
            await self._ask(scope, receive, send, visitor)
        else:
            await self.app(scope, receive, send)

    async def _ask(self, scope: Scope, receive: Receive, send: Send, visitor: str) -> None:
        """Pass on a JSON body, read here and written again."""
        _check_length(scope, MAX_BODY)
        body = await _whole(_within(receive, _BODY_SECONDS))
        kept = read_body(
            scope["path"],
            body,
            lambda path: self.uploads.check(path, visitor),
            self.settings.max_files,
        )
        again = [{"type": "http.request", "body": kept, "more_body": False}]

        async def replay() -> MutableMapping[str, Any]:
            return again.pop() if again else await receive()

        headers = {b"content-length": str(len(kept)).encode(), b"content-type": b"application/json"}
        await self.app(_with_headers(scope, headers), replay, send)

    async def _take(self, scope: Scope, receive: Receive, send: Send, visitor: str) -> None:
        """Pass on an upload, and note the files that Gradio says it has written."""
        if not visitor:
            raise Refused(403, "open the page first: it brings the cookie that uploads need")
        size = _check_length(scope, self.settings.max_files * self.settings.max_bytes + _AROUND)
        if size > await asyncio.to_thread(self.uploads.room):
            raise Refused(507, "no room for more uploads; restart bayes-pfl app to clear them")
        status, answer = 0, bytearray()

        async def noting(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            status = message.get("status", status)
            answer.extend(message.get("body", b""))
            complete = message["type"] == "http.response.body" and not message.get("more_body")
            if status == 200 and complete:
                for path in json.loads(answer):
                    self.uploads.add(path, visitor)
            await send(message)

        # Without compression, so that the answer can be read here.
        plain = _with_headers(scope, {b"accept-encoding": b"identity"})
        await self.app(plain, _within(receive, _UPLOAD_SECONDS), noting)


def _introducing(send: Send) -> Send:
    """Adds the cookie of a new visitor to a response."""
    cookie = f"bayes-pfl-visitor={secrets.token_hex(16)}; Path=/; HttpOnly; SameSite=Lax"

    async def adding(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), (b"set-cookie", cookie.encode())]
        await send(message)

    return adding


def _check_length(scope: Scope, limit: int) -> int:
    """The bytes of a body, which its sender must say before.

    Raises:
        Refused: it does not say so, or they are more than the limit.
    """
    length = _header(scope, b"content-length")
    if not (length.isascii() and length.isdigit()) or _header(scope, b"transfer-encoding"):
        raise Refused(411, "a body must say its length")
    if len(length) > 15 or int(length) > limit:
        raise Refused(413, f"request body: at most {limit / 2**20:g} MiB are taken")
    return int(length)


def _within(receive: Receive, seconds: float) -> Receive:
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


async def _whole(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Refused(408, "request body: not complete in time")
        body.extend(message.get("body", b""))
        if len(body) > MAX_BODY:
            raise Refused(413, "request body: longer than it said")
        if not message.get("more_body", False):
            return bytes(body)


def _header(scope: Scope, name: bytes) -> str:
    """All values of a header, as one."""
    values = [value for key, value in scope["headers"] if key.lower() == name]
    return b"; ".join(values).decode("latin-1")


def _with_headers(scope: Scope, changed: dict[bytes, bytes]) -> Scope:
    kept = [(key, value) for key, value in scope["headers"] if key.lower() not in changed]
    return {**scope, "headers": [*kept, *changed.items()]}


async def _refuse(send: Send, refused: Refused) -> None:
    body = json.dumps({"detail": str(refused)}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
