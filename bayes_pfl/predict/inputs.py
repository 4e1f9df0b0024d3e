"""The images of a folder: where they lie, what they are called, which files they are."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bayes_pfl.data.dicom import Window
from bayes_pfl.data.image_files import Files, list_files, no_images
from bayes_pfl.data.pages import Picture, pictures_in
from bayes_pfl.data.wording import ClassNames
from bayes_pfl.detect.class_names import check_class_name
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.report.pictures import FOLDER as REPORT
from bayes_pfl.support.file_identity import stamp_or_unreadable
from bayes_pfl.support.run_names import (
    CSV_NAME,
    IMAGE_FOLDERS,
    JOURNAL_NAME,
    SUMMARY_NAME,
    page_title,
)


@dataclass(frozen=True)
class InputImages:
    """The images of a run in the order of their paths and pages.

    Attributes:
        pictures: each image.
        names: class name of each.
        stamps: (n, 2) int64: size in bytes and time of change in ns of each when the run began;
            -1 and 0 of a file that is out of reach.
        remarks: what else lies in the folder, one line each.
    """

    folder: Path
    pictures: list[Picture]
    names: list[str]
    stamps: np.ndarray
    remarks: list[str]

    def __len__(self) -> int:
        return len(self.pictures)

    def inside(self, index: int) -> str:
        """Path of an image's file within the folder, with forward slashes."""
        return self.pictures[index].path.relative_to(self.folder).as_posix()

    def key(self, index: int) -> tuple[str, int | None]:
        """What tells an image from all others: :meth:`inside` and its page."""
        return self.inside(index), self.pictures[index].page

    def title(self, index: int) -> str:
        """The same, for people."""
        return page_title(*self.key(index))


def read_input(
    model: BayesPFLNetwork,
    folder: Path,
    files: Files,
    class_name: str | ClassNames,
    window: Window | None = None,
) -> InputImages:
    """The images of a run.

    Args:
        folder: that their paths are relative to.
        window: of DICOM values; None for the files' own.

    Raises:
        DataError: class names that cannot be used.
    """
    found = pictures_in(files, folder, window)
    paths = [picture.path for picture in found.pictures]
    names = names_of(model, class_name, folder, paths)
    stamp = {path: stamp_or_unreadable(path) for path in dict.fromkeys(paths)}
    stamps = np.array([stamp[path] for path in paths], np.int64)
    return InputImages(folder, found.pictures, names, stamps, found.remarks)


def names_of(
    model: BayesPFLNetwork, class_name: str | ClassNames, folder: Path, paths: Collection[Any]
) -> list[str]:
    """The class name of each image; each name is checked once.

    Args:
        paths: of anything whose text is a path.

    Raises:
        DataError: one that cannot be used.
    """
    if isinstance(class_name, str):
        names = [class_name] * len(paths)
    else:
        names = class_name.resolve(folder, [Path(str(path)) for path in paths])
    for name in dict.fromkeys(names):
        check_class_name(model, name)
    return names


def input_files(folder: Path, out: Path) -> Files:
    """The images below ``folder`` and its other files, except those that a run has written there.

    These are maps/, overlays/, report/ and the like of ``out``, and of a folder with files of an
    earlier run.

    Raises:
        DataError: there are no images, or no such folder.
    """
    files = list_files(folder)
    every = (*files.images, *files.unread)
    below = {parent for path in every for parent in path.relative_to(folder).parents}
    written = {place for place in below if _is_output(folder / place, out)}

    def given(paths: list[Path]) -> list[Path]:
        return [p for p in paths if written.isdisjoint(p.relative_to(folder).parents)]

    files = Files(given(files.images), given(files.unread), files.leftovers)
    if not files.images:
        raise no_images(folder, files.remarks(folder))
    return files


def _is_output(place: Path, out: Path) -> bool:
    home = place.parent
    return place.name in (*IMAGE_FOLDERS, REPORT) and (
        os.path.realpath(home) == os.path.realpath(out)
        or (home / JOURNAL_NAME).is_file()
        or all((home / name).is_file() for name in (CSV_NAME, SUMMARY_NAME))
    )
