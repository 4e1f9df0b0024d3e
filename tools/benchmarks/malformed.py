"""Requests that no client should send, to see what the service makes of them."""

from __future__ import annotations

import http.client
import io
import struct
import zlib
from collections.abc import Callable
from functools import partial

from PIL import Image


def malformed_requests() -> dict[str, Callable[[str], int | str]]:
    """By kind, what sends one to an address and gives the status, or how the connection ended."""
    buffer = io.BytesIO()
    Image.new("RGB", (256, 256), "grey").save(buffer, "JPEG")
    bodies = {
        "truncated JPEG": buffer.getvalue()[:400],
        "text": b"this is no picture",
        "empty": b"",
        "1e9 pixels declared": _declared(40_000, 25_000),
        "too many bytes": b"x" * (40 * 2**20),
    }
    known: dict[str, Callable[[str], int | str]] = {
        kind: partial(_sent, "POST", body, {}, 60) for kind, body in bodies.items()
    }
    known["wrong method"] = partial(_sent, "PUT", b"", {}, 60)
    known["form without a file"] = partial(
        _sent, "POST", b"--x--\r\n", {"Content-Type": "multipart/form-data; boundary=x"}, 60
    )
    known["header of 2 MiB"] = partial(_sent, "POST", b"", {"X-Long": "x" * 2**21}, 60)
    known["half a body"] = partial(_sent, "POST", b"", {"Content-Length": "1000"}, 0.5)
    return known


def _declared(width: int, height: int) -> bytes:
    """A PNG whose header promises so many pixels, and nothing after it."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    return b"\x89PNG\r\n\x1a\n" + body + b"\0\0\0\0IDAT"


def _sent(
    method: str, body: bytes, headers: dict[str, str], patience: float, address: str
) -> int | str:
    connection = http.client.HTTPConnection(address, timeout=patience)
    try:
        connection.request(method, "/predict", body, headers)
        return connection.getresponse().status
    except TimeoutError:
        return "left by the client"
    except (ConnectionError, http.client.HTTPException):
        return "closed"
    finally:
        connection.close()
