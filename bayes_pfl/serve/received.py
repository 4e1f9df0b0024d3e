"""The picture in a request: its body, or the file of a form; in memory alone."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from bayes_pfl.support.asgi import Refused, check_length, whole_body, within

AROUND = 2**14
"""Bytes of a form that are names and separators."""

_FIELDS = 8


class _InMemory(MultiPartParser):
    spool_max_size = 0  # of the temporary files: no number of bytes makes them real ones


def announced(request: Request, max_bytes: int) -> int:
    """The bytes of the body, which the request must say.

    Raises:
        Refused: it does not, or they are too many.
    """
    return check_length(request.scope, max_bytes + AROUND)


async def picture_of(request: Request, max_bytes: int, seconds: float) -> bytes:
    """The bytes of the picture that a request brings.

    Raises:
        Refused: there is none or several; too many bytes; not complete in time.
    """
    body = await whole_body(within(request.receive, seconds), max_bytes + AROUND)
    kind = request.headers.get("content-type", "")
    form = kind.partition(";")[0].strip().lower() == "multipart/form-data"
    picture = await _file_of(request.headers, body) if form else body
    if len(picture) > max_bytes:
        raise Refused(413, f"picture: at most {max_bytes / 2**20:g} MiB are taken")
    return picture


async def _file_of(headers: Headers, body: bytes) -> bytes:
    """The one file of a form."""

    async def parts() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        parser = _InMemory(headers, parts(), max_files=1, max_fields=_FIELDS)
        form = await parser.parse()
    except MultiPartException as error:
        raise Refused(400, f"form: {error.message} Send one file, in the field picture") from error
    try:
        files = [value for value in form.values() if isinstance(value, UploadFile)]
        if not files:
            raise Refused(400, "form: no file in it; send one, in the field picture")
        return await files[0].read()
    finally:
        await form.close()
