"""SHA-256 of weights: those that come with the package, and those that are downloaded."""

from __future__ import annotations

import hashlib
import os
import re
from functools import lru_cache
from pathlib import Path

from bayes_pfl.errors import BayesPFLError
from bayes_pfl.support.resources import resource_dir

LISTING = "SHA256SUMS"
"""Checksums of the embedded files, in the form of `sha256sum`; see docs/security.md."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal; a file that has not changed is not read a second time."""
    status = path.stat()
    stamp = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    return _digest(os.path.realpath(path), *stamp)


@lru_cache(maxsize=64)
def _digest(path: str, *_stamp: int) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_embedded(path: Path, kind: type[BayesPFLError]) -> None:
    """Compare an embedded file with its checksum in the listing, if it has one there.

    Raises:
        kind: the file was damaged or changed since it was shipped.
    """
    wanted = embedded_sha256().get(f"{path.parent.name}/{path.name}")
    if wanted is not None and path.is_file():
        mend = "damaged or changed; install bayes-pfl again, or check the file out again"
        check_sha256(path, wanted, ", it was shipped as", mend, kind)


def embedded_sha256() -> dict[str, str]:
    """Checksums of the embedded files by folder and name; none where there is no listing."""
    listing = resource_dir("checkpoints") / LISTING
    if not listing.is_file():
        return {}
    lines = (line.split(maxsplit=1) for line in listing.read_text(encoding="utf-8").splitlines())
    return {parts[1]: parts[0] for parts in lines if len(parts) == 2}


def check_download(path: Path, kind: type[BayesPFLError], url: str = "") -> None:
    """Compare a file from the network with its published checksum, if that is known.

    In the hub's cache a large file is a link to a blob named by its SHA-256; OpenAI's addresses
    contain it.

    Raises:
        kind: the file was damaged or changed.
    """
    blob = os.path.basename(os.readlink(path)) if path.is_symlink() else ""
    wanted = next(filter(_DIGEST.fullmatch, [blob, *reversed(url.split("/"))]), None)
    if wanted is not None:
        mend = "damaged or changed on its way; delete the file and load again"
        check_sha256(path, wanted, ", it was published as", mend, kind)


def check_sha256(path: Path, wanted: str, said: str, mend: str, kind: type[BayesPFLError]) -> None:
    """Compare a file with the checksum that it should have.

    Args:
        said: who says so, as the message goes on, such as ", it was published as".
        mend: why it may differ, and what the user can do about it.

    Raises:
        kind: it has another.
    """
    if (found := file_sha256(path)) != wanted:
        raise kind(f"{path}: SHA-256 is {found[:12]}...{said} {wanted[:12]}...: {mend}")
