"""The images of a folder: where they lie, what they are called, which files they are."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bayes_pfl.data.image_files import IMAGE_SUFFIXES, find_images
from bayes_pfl.data.wording import ClassNames
from bayes_pfl.detect.class_names import check_class_name
from bayes_pfl.errors import DataError
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.report.pictures import FOLDER as REPORT
from bayes_pfl.support.file_identity import stamp_or_unreadable
from bayes_pfl.support.run_names import CSV_NAME, JOURNAL_NAME, MAPS, OVERLAYS, SUMMARY_NAME


@dataclass(frozen=True)
class InputImages:
    """The images of a run in the order of their paths.

    Attributes:
        names: class name of each.
        stamps: (n, 2) int64: size in bytes and time of change in ns of each when the run began;
            -1 and 0 of a file that is out of reach.
    """

    folder: Path
    paths: list[Path]
    names: list[str]
    stamps: np.ndarray

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
    paths = input_images(folder, out)
    names = names_of(model, class_name, folder, paths)
    stamps = np.array([stamp_or_unreadable(path) for path in paths], np.int64)
    return InputImages(folder, paths, names, stamps)


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


def input_images(folder: Path, out: Path) -> list[Path]:
    """The images below ``folder``, except those that a run has written there.

    These are maps/, overlays/ and report/ of ``out``, and of a folder with files of an earlier run.

    Raises:
        DataError: there are none, or no such folder.
    """
    paths = find_images(folder)
    below = {parent for path in paths for parent in path.relative_to(folder).parents}
    written = {place for place in below if _is_output(folder / place, out)}
    if written:
        paths = [p for p in paths if written.isdisjoint(p.relative_to(folder).parents)]
    if not paths:
        raise no_images(folder)
    return paths


def no_images(place: Path | str) -> DataError:
    """The error for a folder or store without images."""
    return DataError(
        f"{place}: no images; files that end in {' '.join(IMAGE_SUFFIXES)} are looked for, in the "
        "folder and those below it"
    )


def _is_output(place: Path, out: Path) -> bool:
    home = place.parent
    return place.name in (MAPS, OVERLAYS, REPORT) and (
        os.path.realpath(home) == os.path.realpath(out)
        or (home / JOURNAL_NAME).is_file()
        or all((home / name).is_file() for name in (CSV_NAME, SUMMARY_NAME))
    )
