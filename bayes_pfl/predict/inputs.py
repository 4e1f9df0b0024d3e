"""The images of a folder: where they lie, what they are called, which files they are."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bayes_pfl.data.image_files import IMAGE_SUFFIXES, Files, list_files
from bayes_pfl.data.wording import ClassNames
from bayes_pfl.detect.class_names import check_class_name
from bayes_pfl.errors import DataError
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.report.pictures import FOLDER as REPORT
from bayes_pfl.support.file_identity import stamp_or_unreadable
from bayes_pfl.support.run_names import CSV_NAME, IMAGE_FOLDERS, JOURNAL_NAME, SUMMARY_NAME


@dataclass(frozen=True)
class InputImages:
    """The images of a run in the order of their paths.

    Attributes:
        names: class name of each.
        stamps: (n, 2) int64: size in bytes and time of change in ns of each when the run began;
            -1 and 0 of a file that is out of reach.
        remarks: what else lies in the folder, one line each.
    """

    folder: Path
    paths: list[Path]
    names: list[str]
    stamps: np.ndarray
    remarks: list[str]

    def __len__(self) -> int:
        return len(self.paths)

    def inside(self, index: int) -> str:
        """Path of an image within the folder, with forward slashes."""
        return self.paths[index].relative_to(self.folder).as_posix()


def read_input(
    model: BayesPFLNetwork, folder: Path, out: Path, class_name: str | ClassNames
) -> InputImages:
    """Look for the images of a run that writes into ``out``.

    Raises:
        DataError: no images, or class names that cannot be used.
    """
    files = input_files(folder, out)
    names = names_of(model, class_name, folder, files.images)
    stamps = np.array([stamp_or_unreadable(path) for path in files.images], np.int64)
    return InputImages(folder, files.images, names, stamps, files.remarks(folder))


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
        raise no_images(folder)
    return files


def no_images(place: Path | str) -> DataError:
    """The error for a folder or store without images."""
    return DataError(
        f"{place}: no images; files that end in {' '.join(IMAGE_SUFFIXES)} are looked for, in the "
        "folder and those below it"
    )


def _is_output(place: Path, out: Path) -> bool:
    home = place.parent
    return place.name in (*IMAGE_FOLDERS, REPORT) and (
        os.path.realpath(home) == os.path.realpath(out)
        or (home / JOURNAL_NAME).is_file()
        or all((home / name).is_file() for name in (CSV_NAME, SUMMARY_NAME))
    )
