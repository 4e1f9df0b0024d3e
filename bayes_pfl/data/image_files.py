"""Which files of a folder are images: by their extensions; none is opened."""

from __future__ import annotations

import os
from pathlib import Path

from bayes_pfl.errors import DataError

_DEEPEST = 200  # folders below each other: paths become too long, and makers of folders recurse
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


def is_image_name(name: str) -> bool:
    """Whether a file's name has an image's extension, and is not hidden (begins with a dot)."""
    return not name.startswith(".") and name.lower().endswith(IMAGE_SUFFIXES)


def find_images(folder: str | os.PathLike[str]) -> list[Path]:
    """The image files below a folder, by extension, sorted by their path within it.

    Hidden files and folders (names that begin with a dot) are left out. Linked folders are
    followed, each real folder once.

    Raises:
        DataError: the folder is missing, is no folder, or a folder below it cannot be listed or is
            nested too deeply.
    """
    folder = Path(folder)
    check_folder(folder, "a folder of images")
    found: list[Path] = []
    seen: set[str] = set()
    for where, folders, files in os.walk(folder, followlinks=True, onerror=_refuse_listing):
        real = os.path.realpath(where)
        if len(Path(where).parts) - len(folder.parts) > _DEEPEST:
            raise DataError(f"{folder}: more than {_DEEPEST} folders below each other; flatten it")
        # Sorted, so that every machine takes the same of two ways to one real folder.
        folders[:] = [] if real in seen else sorted(n for n in folders if not n.startswith("."))
        if real not in seen:
            found += [Path(where, name) for name in files if is_image_name(name)]
        seen.add(real)
    return sorted(found, key=lambda path: path.relative_to(folder).parts)


def images_in(folder: Path) -> list[Path]:
    """The image files directly in a folder, sorted by name; [] if there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if is_image_name(path.name))


def check_folder(folder: Path, wanted: str) -> None:
    """Refuse a path that is no folder.

    Args:
        wanted: what the user should give, such as "a folder of images".

    Raises:
        DataError: it does not exist, or is a file.
    """
    if not folder.is_dir():
        state = "is not a folder" if folder.exists() else "does not exist"
        raise DataError(f"{folder} {state}; give {wanted}")


def _refuse_listing(error: OSError) -> None:
    raise DataError(f"{error.filename} cannot be listed: {error.strerror}; make it readable")
