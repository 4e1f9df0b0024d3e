"""The files that the app may open or serve: those it received itself, and the pictures it made."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bayes_pfl.support.asgi import Refused
from bayes_pfl.support.parsing import short

_MOST = 20_000  # files that are remembered; those that were deleted are forgotten first


@dataclass(frozen=True)
class Uploads:
    """The files of one run of the app, each with the visitors who may use it.

    A visitor is one browser, known by the value of its cookie. A file belongs to everyone who
    uploaded the same content under the same name. What the app makes for a visitor to download lies
    in a folder of that visitor.

    Attributes:
        folder: of this run alone; its real path, without links.
        max_bytes: bytes of all files in the folder.
    """

    folder: Path
    max_bytes: int
    _owners: dict[str, set[str]] = field(default_factory=dict)
    _made: set[str] = field(default_factory=set)
    _secret: bytes = field(default_factory=partial(secrets.token_bytes, 16), repr=False)

    def add(self, path: str | os.PathLike[str], visitor: str) -> None:
        """Let a visitor use a file that the app wrote to its folder."""
        if len(self._owners) >= _MOST:
            for known in [known for known in self._owners if not os.path.exists(known)]:
                del self._owners[known]
                self._made.discard(known)
        if len(self._owners) < _MOST:
            self._owners.setdefault(os.fspath(path), set()).add(visitor)

    def own_folder(self, visitor: str) -> Path:
        """Where what is made for a visitor goes; nobody can guess its name."""
        digest = hashlib.sha256(self._secret + visitor.encode()).hexdigest()
        return self.folder / f"own-{digest[:32]}"

    def add_made(self, path: Path, visitor: str) -> str:
        """Let a visitor download a file that the app made; returns its path."""
        self._made.add(os.fspath(path))
        self.add(path, visitor)
        return os.fspath(path)

    def is_made(self, path: Path) -> bool:
        """Whether the app made this file, rather than a visitor."""
        return os.fspath(path) in self._made

    def check(self, path: str, visitor: str) -> Path:
        """A path that a request names, if this visitor may use it.

        Raises:
            Refused: the visitor did not upload it, it is not a regular file in the folder of
                this run, or a link is part of its path.
        """
        if visitor not in self._owners.get(path, ()) or not self._holds(path):
            name = short(os.path.basename(path))
            raise Refused(403, f"{name}: not a file that was dropped here")
        return Path(path)

    def _holds(self, path: str) -> bool:
        try:
            regular = stat.S_ISREG(os.lstat(path).st_mode)
            real = os.path.realpath(path, strict=True)
        except (OSError, ValueError):
            return False
        return regular and real == path and Path(real).is_relative_to(self.folder)

    def room(self) -> int:
        """Bytes that further uploads may fill."""
        used = 0
        for where, _, names in os.walk(self.folder):
            for name in names:
                with contextlib.suppress(OSError):  # deleted meanwhile
                    used += os.lstat(os.path.join(where, name)).st_size
        return self.max_bytes - used
