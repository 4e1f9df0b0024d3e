"""What a run is given: a folder; or files, folders and patterns, in any number."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from bayes_pfl.data.image_files import Files, no_images
from bayes_pfl.errors import DataError
from bayes_pfl.predict.inputs import input_files

Given: TypeAlias = "str | os.PathLike[str] | Sequence[str | os.PathLike[str]]"


@dataclass(frozen=True)
class Places:
    """Where images are looked for.

    Attributes:
        root: the folder that paths in results are relative to.
        parts: files and folders below it; empty for all of it.
    """

    root: Path
    parts: tuple[Path, ...] = ()

    @property
    def identity(self) -> str:
        """What a run that is resumed must share."""
        root = str(self.root.resolve())
        inner = sorted(part.relative_to(self.root).as_posix() for part in self.parts)
        return json.dumps([root, *inner]) if inner else root

    def files(self, out: Path) -> Files:
        """The images and other files, except what a run has written.

        A file that is named is taken for an image whatever its suffix.

        Raises:
            DataError: there are no images.
        """
        if not self.parts:
            return input_files(self.root, out)
        found = Files([], [], [])
        for part in self.parts:
            if part.is_file():
                found.images.append(part)
                continue
            try:
                inner = input_files(part, out)
            except DataError:
                continue  # the others may hold some
            for name in ("images", "unread", "leftovers"):
                getattr(found, name).extend(getattr(inner, name))
        if not found.images:
            raise no_images(self.root)
        for paths in (found.images, found.unread, found.leftovers):
            paths[:] = sorted(set(paths), key=lambda path: path.relative_to(self.root).parts)
        return found


def places_of(given: Given) -> Places:
    """The places of what was given.

    Args:
        given: one or several of: a folder, which is searched; a file; a pattern such as
            "photos/*.jpg" or "**/*.png".

    Raises:
        DataError: nothing was given, or something that does not exist.
    """
    several = [given] if isinstance(given, str | os.PathLike) else list(given)
    if len(several) == 1 and not _is_pattern(several[0]) and not Path(several[0]).is_file():
        return Places(Path(several[0]))
    parts = [part for one in several for part in _found(one)]
    if not parts:
        raise DataError("no images were given: give a folder, files, or a pattern")
    places = list(dict.fromkeys(Path(os.path.abspath(part)) for part in parts))
    root = Path(os.path.commonpath([one if one.is_dir() else one.parent for one in places]))
    return Places(root, () if places == [root] else tuple(places))


def _is_pattern(given: str | os.PathLike[str]) -> bool:
    return glob.has_magic(os.fspath(given)) and not os.path.lexists(given)


def _found(given: str | os.PathLike[str]) -> list[Path]:
    if not _is_pattern(given):
        if not os.path.exists(given):
            name = os.fspath(given)
            raise DataError(f"{name} does not exist; give a folder, a file or a pattern")
        return [Path(given)]
    found = [Path(one) for one in sorted(glob.glob(os.fspath(given), recursive=True))]
    if not found:
        raise DataError(f"{os.fspath(given)}: nothing fits this pattern; check it, or its quotes")
    return found
