"""The images of a folder or store as a table: where each lies, and which version of it is meant."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa

from bayes_pfl.data import dicom
from bayes_pfl.data.image_files import is_image_name, is_leftover, may_hold_image, no_images
from bayes_pfl.data.pages import Picture, pictures_in
from bayes_pfl.data.tiff import TIFF_SUFFIXES, pages_in
from bayes_pfl.detect.inputs import batched
from bayes_pfl.errors import DataError
from bayes_pfl.predict.inputs import input_files
from bayes_pfl.predict.ray.storage import Place
from bayes_pfl.support.error_text import error_reason, printable
from bayes_pfl.support.file_identity import UNREADABLE, stamp_or_unreadable
from bayes_pfl.support.run_names import MAPS

STAMP = {"size": pa.int64(), "mtime_ns": pa.int64(), "etag": pa.string()}
"""Columns that tell one version of a file from another; null where the store does not say."""

_FETCHED = 2**16  # bytes of a TIFF that are fetched at once: its pages are found by headers
_BLOCK = 65_536  # rows gathered as Python objects before they become columns


def list_images(source: Place, out: Place) -> tuple[pa.Table, list[str]]:
    """Table of path, page, size, mtime_ns, etag, in the order of paths and pages; remarks.

    Hidden files and folders, and what a run has written below ``source``, are left out. The page
    is 0 for a file of one picture. What is passed over has a remark, one line for each reason.

    Raises:
        DataError: no such place, or no images there.
    """
    schema = pa.schema({"path": pa.string(), "page": pa.int32(), **STAMP})
    passed = _PassedOver()
    if source.folder:
        files = input_files(source.folder, out.folder or Path(os.devnull))
        found = pictures_in(files, source.folder)
        entries = _here(found.pictures, source.folder)
    else:
        entries = _in_store(source, out, passed)
    columns = (list(zip(*rows, strict=True)) for rows in batched(entries, _BLOCK))
    blocks = [pa.table(block, schema=schema) for block in columns]
    remarks = found.remarks if source.folder else passed.remarks(source.url)
    if not blocks:
        raise no_images(source.url, remarks)
    return pa.concat_tables(blocks), remarks


Entry = tuple[str, int, int | None, int | None, str | None]


def _here(pictures: Sequence[Picture], folder: Path) -> Iterator[Entry]:
    for path, pages in groupby(pictures, lambda picture: picture.path):
        inside = path.relative_to(folder).as_posix()
        # Columns hold text: a name that is not UTF-8 has a row with an error, as out of reach.
        stamp = stamp_or_unreadable(path)
        known = (None, None) if stamp == UNREADABLE else stamp
        for picture in pages:
            yield arrow_text(inside), picture.page or 0, *known, None


def arrow_text(text: str) -> str:
    """Text that Arrow takes: bytes of a file name that are not UTF-8 become escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class _PassedOver:
    """Files of a store that are not read, or not whole; a store may have millions."""

    def __init__(self) -> None:
        self.unread: Counter[str] = Counter()
        self.first: dict[str, str] = {}
        self.frames = 0

    def add(self, inside: str) -> None:
        """Count a file that is no image, if it may hold one."""
        suffix = Path(inside).suffix.lower()
        if may_hold_image(suffix):
            self.unread[suffix] += 1
            self.first.setdefault("unread", inside)

    def remarks(self, url: str) -> list[str]:
        """One line for each reason."""
        lines = []
        if self.unread:
            kinds, first = " ".join(sorted(self.unread)), self.first["unread"]
            what = f"files of kinds that are not read ({kinds}): {self.unread.total()}"
            lines.append(f"{url}: {what}, first {first}")
        if self.frames:
            what = f"DICOM files, of which a store gives the first frame: {self.frames}"
            lines.append(f"{url}: {what}, first {self.first['frames']}")
        return [printable(line) for line in lines]


def _in_store(source: Place, out: Place, passed: _PassedOver) -> Iterator[Entry]:
    written = f"{out.root}/{MAPS}/" if type(out.fs) is type(source.fs) else None
    try:
        for path, info in _files(source.fs, source.root):
            inside = path[len(source.root) :].lstrip("/")
            *folders, name = inside.split("/")
            if (written and path.startswith(written)) or any(map(is_leftover, (*folders, name))):
                continue
            if not is_image_name(name):
                passed.add(inside)
                continue
            suffix = Path(name).suffix.lower()
            if suffix in dicom.SUFFIXES:
                passed.frames += 1
                passed.first.setdefault("frames", inside)
            pages = _pages(source.fs, path) if suffix in TIFF_SUFFIXES else []
            for page in pages or [0]:
                yield inside, page, *_stamp(info)
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


def _pages(fs: Any, path: str) -> list[int]:
    """Numbers of the pages of a TIFF in a store; empty for one, or if it cannot be read."""
    try:
        with fs.open(path, "rb", block_size=_FETCHED) as file:
            found = pages_in(file)
    except Exception:  # stores raise errors of their own; reading it will say what is wrong
        return []
    return found.numbers if found else []


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
