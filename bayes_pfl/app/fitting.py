"""Profiles in the app: those on offer, and new ones from the sound pictures that are dropped."""

from __future__ import annotations

import os
import re
import shutil
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bayes_pfl.app.inspection import Inspector
from bayes_pfl.data.images import read_image
from bayes_pfl.detect.name_sensitivity import NEUTRAL
from bayes_pfl.errors import ConfigError, DataError
from bayes_pfl.fit.fit import FitOptions, Fitted, fit_folder
from bayes_pfl.fit.profile_files import is_profile, save_profile
from bayes_pfl.support.parsing import short
from bayes_pfl.support.progress import NullProgress

NONE, FITTED = "no profile", "the one fitted here"
"""On offer besides profiles that have a name."""

_NAME = re.compile(r"[^\W_]([\w .-]{0,62}[\w-])?")


@dataclass(frozen=True)
class FitRequest:
    """What a person asks for; see :class:`bayes_pfl.fit.fit.FitOptions`."""

    checkpoint: str
    class_name: str
    samples: int | None = None
    fpr: float | None = None


@dataclass(frozen=True)
class Profiles:
    """The profiles that a page can choose from.

    Attributes:
        given: the folder of ``--profile``.
        folder: of ``--profiles``: each profile in it is on offer by its name.
    """

    given: Path | None
    folder: Path | None

    @property
    def default(self) -> str:
        """The name that is chosen at first."""
        return self.given.resolve().name if self.given else NONE

    def names(self, fitted: Path) -> list[str]:
        """All names; ``fitted`` is where a visitor's own would be."""
        saved: list[str] = []
        if self.folder and self.folder.is_dir():
            saved = sorted(path.name for path in self.folder.iterdir() if is_profile(path))
        own = [FITTED] if is_profile(fitted) else []
        return list(dict.fromkeys([NONE, self.default, *own, *filter(_NAME.fullmatch, saved)]))

    def path_of(self, name: str, fitted: Path) -> Path | None:
        """The folder of a name; None for no profile.

        Raises:
            ConfigError: a name that is not on offer.
        """
        if name == NONE:
            return None
        if self.given and name == self.default:
            return self.given
        if name not in self.names(fitted):
            raise ConfigError(f"profile {short(name)}: not on offer; load the page again")
        return fitted if name == FITTED else self.folder and self.folder / name

    def place_for(self, name: str) -> Path:
        """Where a new profile goes.

        Raises:
            ConfigError: no folder for profiles, a name that is no plain one, or taken.
        """
        if self.folder is None:
            raise ConfigError(f"name {short(name)}: start bayes-pfl app with --profiles FOLDER")
        if not _NAME.fullmatch(name) or name in (NONE, FITTED):
            raise ConfigError(
                f"name {short(name)}: give letters, digits, blanks, points and hyphens, 64 at most"
            )
        if name == self.default or (self.folder / name).exists():
            raise ConfigError(f"name {short(name)}: is taken; choose another")
        return self.folder / name


def fit_dropped(
    inspector: Inspector, paths: Sequence[str], request: FitRequest, folder: Path
) -> Fitted:
    """A profile from dropped pictures, as ``bayes-pfl fit`` makes it, saved in ``folder``/profile.

    ``folder``/profile.zip holds the same.

    Args:
        folder: of this visitor.

    Raises:
        ConfigError: too many files, too much time, or a setting that cannot be used.
        DataError: no picture that can be read, some that stand out, or an unusable class name.
    """
    known = inspector.settings
    inspector.check_count(paths)
    options = FitOptions(
        fpr=0.05 if request.fpr is None else request.fpr,
        samples=request.samples,
        tile=known.tile,
        overlap=known.overlap,
    )
    dropped = folder / "dropped"
    with inspector.alone():
        shutil.rmtree(dropped, ignore_errors=True)
        try:
            skipped = _gather(inspector, paths, dropped)
            found = fit_folder(
                inspector.model(request.checkpoint),
                dropped,
                request.class_name.strip() or NEUTRAL,
                options,
                checkpoint=request.checkpoint,
                progress=_Limited(known.max_seconds),
            )
        finally:
            shutil.rmtree(dropped, ignore_errors=True)
    found.skipped.extend(skipped)
    save_profile(found.profile, folder / "profile")
    _zip(folder / "profile", folder / "profile.zip")
    return found


def _gather(inspector: Inspector, paths: Sequence[str], folder: Path) -> list[tuple[str, str]]:
    """Link the pictures that can be read into a folder; names and reasons of the others."""
    folder.mkdir(parents=True)
    skipped = []
    for number, path in enumerate(map(Path, paths), start=1):
        try:
            inspector.check_size(path)
            read_image(path, max_pixels=inspector.settings.max_pixels)
        except DataError as error:
            skipped.append((path.name, str(error).removeprefix(f"{path}: ")))
            continue
        name = path.name if not (folder / path.name).exists() else f"{number} {path.name}"
        os.link(path, folder / name)
    if len(skipped) == len(paths):
        raise DataError(f"no picture could be read: {skipped[0][0]}: {skipped[0][1]}")
    return skipped


def _zip(folder: Path, archive: Path) -> None:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, Path("profile") / path.relative_to(folder))


class _Limited(NullProgress):
    """Ends a fit that takes too long."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.end = seconds, time.monotonic() + seconds

    def advance(self, done: int, values: dict[str, float]) -> None:
        if time.monotonic() > self.end:
            raise ConfigError(
                f"more than {self.seconds:g} seconds: give fewer pictures, or use bayes-pfl fit"
            )
