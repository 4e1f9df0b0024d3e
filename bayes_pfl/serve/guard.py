"""Who may ask: the token, other host names, pages of other origins."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from urllib.parse import urlsplit

from bayes_pfl.serve.settings import ServeSettings
from bayes_pfl.support.access import brings_token
from bayes_pfl.support.asgi import Application, Receive, Refused, Scope, Send, header, refuse

_OPEN = "/health"
_NAMES = ("127.0.0.1", "localhost", "::1")
_DISCARD_SECONDS = 5.0


@dataclass(frozen=True)
class Guard:
    """An ASGI application that passes on the requests of those who may ask.

    A client that still sends when it is refused would see a broken connection instead of the
    reason: what it sends is read and thrown away, for a few seconds.
    """

    app: Application
    settings: ServeSettings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            else:
                await self.app(scope, receive, send)
            return
        if (refused := self._refusal(scope)) is None:
            await self.app(scope, receive, send)
            return
        await discard(scope, receive, self.settings.max_bytes)
        await refuse(send, refused)

    def _refusal(self, scope: Scope) -> Refused | None:
        host, origin = header(scope, b"host"), header(scope, b"origin")
        if self.settings.local and _host(f"//{host}") not in (*_NAMES, self.settings.host):
            return Refused(400, "another host name than this computer's")
        if origin and origin.partition("://")[2] != host:
            return Refused(403, "a page of another origin")
        if self.settings.token is None or scope["path"] == _OPEN:
            return None
        if brings_token(header(scope, b"authorization"), self.settings.token):
            return None
        reason = "no token, or another one; send the header Authorization: Bearer TOKEN"
        return Refused(401, reason, {"www-authenticate": "Bearer"})


def _host(url: str) -> str | None:
    """The host of a URL; None for none, and for what is no URL."""
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


async def discard(scope: Scope, receive: Receive, most: int) -> None:
    """Read what is left of a body, and forget it: ``most`` bytes at most, for five seconds.

    Of a client that waits for a word before it sends (Expect: 100-continue) nothing is read.
    """
    if header(scope, b"expect"):
        return

    async def rest() -> None:
        read = 0
        while read <= most:
            message = await receive()
            read += len(message.get("body", b""))
            if message["type"] != "http.request" or not message.get("more_body", False):
                return

    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(rest(), _DISCARD_SECONDS)
