"""The images of a folder or store as a table: where each lies, and which version of it is meant."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa

from bayes_pfl.data.image_files import is_image_name, is_leftover, no_images
from bayes_pfl.detect.inputs import batched
from bayes_pfl.errors import DataError
from bayes_pfl.predict.inputs import input_files
from bayes_pfl.predict.ray.storage import Place
from bayes_pfl.support.error_text import error_reason
from bayes_pfl.support.file_identity import UNREADABLE, stamp_or_unreadable
from bayes_pfl.support.run_names import MAPS

STAMP = {"size": pa.int64(), "mtime_ns": pa.int64(), "etag": pa.string()}
"""Columns that tell one version of a file from another; null where the store does not say."""

_BLOCK = 65_536  # rows gathered as Python objects before they become columns


def list_images(source: Place, out: Place) -> pa.Table:
    """Table of path, size, mtime_ns, etag, in the order of the paths.

    Hidden files and folders, and what a run has written below ``source``, are left out.

    Raises:
        DataError: no such place, or no images there.
    """
    schema = pa.schema({"path": pa.string(), **STAMP})
    entries = _here(source.folder, out) if source.folder else _in_store(source, out)
    columns = (list(zip(*rows, strict=True)) for rows in batched(entries, _BLOCK))
    blocks = [pa.table(block, schema=schema) for block in columns]
    if not blocks:
        raise no_images(source.url)
    return pa.concat_tables(blocks)


Entry = tuple[str, int | None, int | None, str | None]


def _here(folder: Path, out: Place) -> Iterator[Entry]:
    for path in input_files(folder, out.folder or Path(os.devnull)).images:
        inside = path.relative_to(folder).as_posix()
        # Columns hold text: a name that is not UTF-8 has a row with an error, as out of reach.
        stamp = stamp_or_unreadable(path)
        known = (None, None) if stamp == UNREADABLE else stamp
        yield arrow_text(inside), *known, None


def arrow_text(text: str) -> str:
    """Text that Arrow takes: bytes of a file name that are not UTF-8 become escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _in_store(source: Place, out: Place) -> Iterator[Entry]:
    written = f"{out.root}/{MAPS}/" if type(out.fs) is type(source.fs) else None
    try:
        for path, info in _files(source.fs, source.root):
            inside = path[len(source.root) :].lstrip("/")
            if _is_image(inside) and not (written and path.startswith(written)):
                yield inside, *_stamp(info)
    except FileNotFoundError as error:
        raise DataError(f"{source.url} does not exist; give a folder of images") from error
    except Exception as error:  # stores raise errors of their own
        raise DataError(
            f"{source.url} cannot be listed ({error_reason(error)}); check the URL and your rights"
        ) from error


def _files(fs: Any, root: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """All files below a folder in the order of their paths.

    What fsspec keeps of a file takes over a kilobyte: one subfolder is held at a time.
    """
    fs.invalidate_cache()
    for entry in sorted(fs.ls(root, detail=True), key=lambda entry: entry["name"]):
        path = entry["name"].rstrip("/")
        if entry["type"] != "directory":
            yield path, entry
            continue
        found = fs.find(path, detail=True)
        for inside in sorted(found, key=lambda name: name.split("/")):
            yield inside, found[inside]
        fs.invalidate_cache()


def _is_image(inside: str) -> bool:
    *folders, name = inside.split("/")
    return is_image_name(name) and not any(map(is_leftover, folders))


def _stamp(info: dict[str, Any]) -> tuple[int | None, int | None, str | None]:
    """Size, time of change in ns, and entity tag of what a store says of a file."""

    def first(*keys: str) -> Any:
        return next((info[key] for key in keys if info.get(key)), None)

    changed = first("LastModified", "last_modified", "mtime", "updated")
    etag = first("ETag", "etag", "md5Hash")
    return info.get("size"), _nanoseconds(changed), str(etag).strip('"') if etag else None


def _nanoseconds(moment: Any) -> int | None:
    """ns since 1970 of a datetime, an ISO text or seconds; UTC where no time zone is given.

    >>> _nanoseconds("1970-01-01T00:00:01+00:00"), _nanoseconds(2.5)
    (1000000000, 2500000000)
    """
    if isinstance(moment, str):
        try:
            moment = datetime.fromisoformat(moment.replace("Z", "+00:00"))
        except ValueError:
            return None
    if isinstance(moment, datetime):
        if moment.tzinfo is None:  # not this machine's: a run may go on in another time zone
            moment = moment.replace(tzinfo=timezone.utc)
        moment = moment.timestamp()
    return round(moment * 1_000_000_000) if isinstance(moment, int | float) else None
