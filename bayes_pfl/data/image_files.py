"""Which files of a folder are images: by their names; none is opened."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import features

from bayes_pfl.errors import DataError
from bayes_pfl.support.error_text import printable

_HAS_AVIF = "avif" in features.modules and bool(features.check_module("avif"))

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".jpe", ".jfif", ".gif"),
    *(".jp2", ".ppm", ".pgm", ".pbm", ".pnm"),
    *((".avif",) if _HAS_AVIF else ()),
)
"""Names of files that are read; where several files fit one name, the first of these is taken."""

# What other programs leave in a folder, besides names that begin with a dot.
_LEFTOVERS = (
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),
    *("__macosx", "lost+found"),
)

# Files that lie beside images and hold none: nobody misses them.
_DOCUMENTS = (
    *("", ".csv", ".tsv", ".json", ".jsonl", ".parquet", ".yaml", ".yml", ".xml", ".txt", ".md"),
    *(".html", ".htm", ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".bib", ".ini", ".log", ".py"),
    *(".ipynb", ".sh", ".zip", ".gz", ".tar", ".rar", ".7z"),
)

_DEEPEST = 200  # folders below each other: paths become too long, and makers of folders recurse
LEFT_OUT = "left out as hidden, or as leftovers of other programs"


def is_leftover(name: str) -> bool:
    """Whether a file or folder is hidden, or what a system or a program has left behind."""
    return name.startswith(".") or name.casefold() in _LEFTOVERS


def is_image_name(name: str) -> bool:
    """Whether a file's name has an image's extension, and is no leftover."""
    return not is_leftover(name) and name.lower().endswith(IMAGE_SUFFIXES)


@dataclass
class Files:
    """What lies below a folder, sorted by path.

    Attributes:
        unread: files of other kinds that may hold images, such as .dcm and .npy.
        leftovers: files and folders that :func:`is_leftover` names; those are not looked into.
    """

    images: list[Path]
    unread: list[Path]
    leftovers: list[Path]

    def remarks(self, folder: Path) -> list[str]:
        """What is passed over, one line for each reason."""
        suffixes = " ".join(sorted({path.suffix.lower() for path in self.unread}))
        return [
            *remark(self.leftovers, LEFT_OUT, folder),
            *remark(self.unread, f"of kinds that are not read ({suffixes})", folder),
        ]


def remark(paths: Sequence[Path], what: str, folder: Path) -> list[str]:
    """One line with the number of paths below a folder and the first of them; none for none.

    >>> remark([Path("a/x.npy"), Path("a/y.npy")], "not read", Path("a"))
    ['a: 2 files not read, first x.npy']
    """
    if not paths:
        return []
    files = "file" if len(paths) == 1 else "files"
    return [
        printable(
            f"{folder}: {len(paths)} {files} {what}, first {os.path.relpath(paths[0], folder)}"
        )
    ]


def list_files(folder: str | os.PathLike[str]) -> Files:
    """Walk a folder: images by extension, and what is passed over.

    Linked folders are followed, each real folder once.

    Raises:
        DataError: the folder is missing, is no folder, or a folder below it cannot be listed or is
            nested too deeply.
    """
    folder = Path(folder)
    check_folder(folder, "a folder of images")
    found = Files([], [], [])
    seen: set[str] = set()
    for where, folders, files in os.walk(folder, followlinks=True, onerror=_refuse_listing):
        real = os.path.realpath(where)
        if len(Path(where).parts) - len(folder.parts) > _DEEPEST:
            raise DataError(f"{folder}: more than {_DEEPEST} folders below each other; flatten it")
        # Sorted, so that every machine takes the same of two ways to one real folder.
        names = [] if real in seen else sorted(folders)
        folders[:] = [name for name in names if not is_leftover(name)]
        files = [] if real in seen else files
        seen.add(real)
        found.leftovers += [Path(where, name) for name in (*names, *files) if is_leftover(name)]
        for name in files:
            path = Path(where, name)
            if is_image_name(name):
                found.images.append(path)
            elif not is_leftover(name) and path.suffix.lower() not in _DOCUMENTS:
                found.unread.append(path)
    for paths in (found.images, found.unread, found.leftovers):
        paths.sort(key=lambda path: path.relative_to(folder).parts)
    return found


def find_images(folder: str | os.PathLike[str]) -> list[Path]:
    """The images of :func:`list_files`, sorted by their path within the folder."""
    return list_files(folder).images


def images_in(folder: Path) -> list[Path]:
    """The image files directly in a folder, sorted by name; [] if there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if is_image_name(path.name))


def is_good(folder_name: str) -> bool:
    """Whether a folder of that name holds normal images: good, in any case, blanks around it."""
    return folder_name.strip().casefold() == "good"


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
