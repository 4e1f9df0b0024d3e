"""Where requests enter: what the page does not need is refused before Gradio sees it.

Gradio copies and opens every file that a request names before it calls the page's function, so
that a check in that function is too late.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

from bayes_pfl.app.inspection import AppSettings
from bayes_pfl.app.question import FILE, MAX_BODY, UPLOAD, check_address, read_body
from bayes_pfl.app.uploads import Uploads
from bayes_pfl.data.image_files import is_image_name
from bayes_pfl.support.access import brings_token
from bayes_pfl.support.asgi import (
    Application,
    Receive,
    Refused,
    Scope,
    Send,
    check_length,
    header,
    refuse,
    whole_body,
    within,
)

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
    that comes with the page. Where the settings have a token, every request must bring it.
    """

    app: Application
    uploads: Uploads
    settings: AppSettings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] == "http":
            try:
                await self._answer(scope, receive, send)
            except Refused as refused:
                await refuse(send, refused)
        else:
            await self.app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._check_token(scope)
        path, method = scope["path"], scope["method"]
        check_address(method, path)
        visitor = visitor_of(header(scope, b"cookie"))
        if path == "/":
            await self.app(scope, receive, send if visitor else _introducing(send))
        elif path == UPLOAD:
            await self._take(scope, receive, send, visitor)
        elif path.startswith(FILE):
            file = self.uploads.check(path.removeprefix(FILE), visitor)
            if not (is_image_name(file.name) or self.uploads.is_made(file)):
                raise Refused(403, "not an image")
            await self.app(scope, receive, send)
        elif method == "POST":
            await self._ask(scope, receive, send, visitor)
        else:
            await self.app(scope, receive, send)

    def _check_token(self, scope: Scope) -> None:
        token = self.settings.token
        if token is not None and not brings_token(header(scope, b"authorization"), token):
            # A browser asks its person for a name, which may be any, and a password.
            asking = {"www-authenticate": 'Basic realm="bayes-pfl: the token is the password"'}
            raise Refused(401, "the token is missing or another one", asking)

    async def _ask(self, scope: Scope, receive: Receive, send: Send, visitor: str) -> None:
        """Pass on a JSON body, read here and written again."""
        check_length(scope, MAX_BODY)
        body = await whole_body(within(receive, _BODY_SECONDS), MAX_BODY)
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
        size = check_length(scope, self.settings.max_files * self.settings.max_bytes + _AROUND)
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
        await self.app(plain, within(receive, _UPLOAD_SECONDS), noting)


def _introducing(send: Send) -> Send:
    """Adds the cookie of a new visitor to a response."""
    cookie = f"bayes-pfl-visitor={secrets.token_hex(16)}; Path=/; HttpOnly; SameSite=Lax"

    async def adding(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), (b"set-cookie", cookie.encode())]
        await send(message)

    return adding


def _with_headers(scope: Scope, changed: dict[bytes, bytes]) -> Scope:
    kept = [(key, value) for key, value in scope["headers"] if key.lower() not in changed]
    return {**scope, "headers": [*kept, *changed.items()]}
