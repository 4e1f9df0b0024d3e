"""What an earlier run has left in a folder: it goes before another run writes there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from bayes_pfl.predict.tables import writing_to
from bayes_pfl.report.pictures import FOLDER as REPORT
from bayes_pfl.report.pictures import crops_name, nearest_name, picture_name
from bayes_pfl.support.files import mirrored
from bayes_pfl.support.run_names import LABELME, MAPS, MASKS, OVERLAYS, page_file

_KINDS = ((MAPS, ".png"), (MAPS, ".npy"), (OVERLAYS, ".png"), (MASKS, ".png"), (LABELME, ".json"))


def remove_pictures(out: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Remove the maps, overlays and other files of images that an earlier run has looked at.

    Nothing else is touched, because the folder may be one of the user's own.

    Args:
        entries: of the run's journal; those without a path are passed over.

    Raises:
        ConfigError: a file cannot be removed.
    """
    root, folders = Path(os.path.abspath(out)), set[Path]()
    with writing_to(out):
        for entry in entries:
            path, page = entry.get("path"), entry.get("page")
            if isinstance(path, str) and "\0" not in path and isinstance(page, int | None):
                for file in _files(root, page_file(path, page)):
                    inside = Path(os.path.normpath(file)).is_relative_to(root)
                    if inside and file.is_file():
                        file.unlink()
                        folders.add(file.parent)
    for folder in sorted(folders, reverse=True):
        while folder != root:
            with suppress(OSError):  # it is not empty
                folder.rmdir()
            folder = folder.parent


def _files(out: Path, file: str) -> Iterator[Path]:
    """Every file that a run may have written for an image, a `Row.file`."""
    for folder, suffix in _KINDS:
        yield out / folder / mirrored(file, suffix)
    name = picture_name(file)
    for small in (name, nearest_name(name), crops_name(name)):
        yield out / REPORT / "pictures" / small
