"""Which files of a folder are images: by their names; DICOM files may have any number for one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import features

from bayes_pfl.data import dicom
from bayes_pfl.errors import DataError
from bayes_pfl.support.error_text import printable

_HAS_AVIF = "avif" in features.modules and bool(features.check_module("avif"))

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".jpe", ".jfif", ".gif"),
    *(".jp2", ".ppm", ".pgm", ".pbm", ".pnm"),
    *((".avif",) if _HAS_AVIF else ()),
)
"""Names that are read without any extra; where several files fit one name, the first is taken."""


def readable_suffixes() -> tuple[str, ...]:
    """How the names of files that are read end: those of the extras that are installed too."""
    return IMAGE_SUFFIXES + (dicom.SUFFIXES if dicom.can_read_dicom() else ())


# What other programs leave in a folder, besides names that begin with a dot.
_LEFTOVERS = (
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),
    *("__macosx", "lost+found", "dicomdir"),
)

# Files that lie beside images and hold none: nobody misses them.
_DOCUMENTS = (
    *("", ".csv", ".tsv", ".json", ".jsonl", ".parquet", ".yaml", ".yml", ".xml", ".txt", ".md"),
    *(".html", ".htm", ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".bib", ".ini", ".log", ".py"),
    *(".ipynb", ".sh", ".zip", ".gz", ".tar", ".rar", ".7z"),
)

_DEEPEST = 200  # folders below each other: paths become too long, and makers of folders recurse
DICOM_KIND = "DICOM"
LEFT_OUT = "left out, hidden files and leftovers of other programs"


def is_leftover(name: str) -> bool:
    """Whether a file or folder is hidden, or what a system or a program has left behind."""
    return name.startswith(".") or name.casefold() in _LEFTOVERS


def is_image_name(name: str) -> bool:
    """Whether a file's name has an image's extension, and is no leftover."""
    return not is_leftover(name) and name.lower().endswith(readable_suffixes())


def may_hold_image(suffix: str) -> bool:
    """Whether files with this suffix, in lower case, are named where they are not read."""
    return suffix not in _DOCUMENTS


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
        suffixes = sorted({_kind(path) for path in self.unread})
        what = f"files of kinds that are not read ({' '.join(suffixes)})"
        medical = DICOM_KIND in suffixes or any(suffix in dicom.SUFFIXES for suffix in suffixes)
        mend = f"; {dicom.MEND} to read DICOM" if medical else ""
        return [
            *remark(LEFT_OUT, self.leftovers, folder),
            *(line + mend for line in remark(what, self.unread, folder)),
        ]


def _kind(path: Path) -> str:
    return DICOM_KIND if dicom.is_named_by_number(path) else path.suffix.lower()


def remark(what: str, paths: Sequence[Path], folder: Path) -> list[str]:
    """One line with the number of paths below a folder and the first of them; none for none.

    >>> remark("not read", [Path("a/x.npy"), Path("a/y.npy")], Path("a"))
    ['a: not read: 2, first x.npy']
    """
    first = [os.path.relpath(path, folder) for path in paths[:1]]
    return [printable(f"{folder}: {what}: {len(paths)}, first {name}") for name in first]


def list_files(folder: str | os.PathLike[str]) -> Files:
    """Walk a folder: images by extension, and what is passed over.

    Of files without an extension, or with one of digits, the first bytes are read: DICOM files are
    often called so.

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
        if real in seen:
            folders[:] = []
            continue
        seen.add(real)
        left = [name for name in (*folders, *files) if is_leftover(name)]
        folders[:] = sorted(set(folders).difference(left))
        for path in (Path(where, name) for name in set(files).difference(left)):
            if is_image_name(path.name):
                found.images.append(path)
            elif dicom.is_named_by_number(path) and dicom.is_dicom(path):
                (found.images if dicom.can_read_dicom() else found.unread).append(path)
            elif may_hold_image(path.suffix.lower()):
                found.unread.append(path)
        found.leftovers += [Path(where, name) for name in left]
    for paths in (found.images, found.unread, found.leftovers):
        paths.sort(key=lambda path: path.relative_to(folder).parts)
    return found


def find_images(folder: str | os.PathLike[str]) -> list[Path]:
    """The images of :func:`list_files`, sorted by their path within the folder."""
    return list_files(folder).images


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


def no_images(place: Path | str | os.PathLike[str], remarks: Sequence[str] = ()) -> DataError:
    """The error for a folder or store without images.

    Args:
        remarks: what lies there instead.
    """
    suffixes = " ".join(readable_suffixes())
    found = "".join(f"; {line}" for line in remarks)
    return DataError(
        f"{place}: no images; files that end in {suffixes} are looked for, in the folder and those "
        f"below it{found}"
    )
