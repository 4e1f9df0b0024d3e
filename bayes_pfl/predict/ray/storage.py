"""Folders here or in a store, by path or URL (s3://, gs://, abfs://, ...), through fsspec."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from bayes_pfl.errors import BayesPFLError, ConfigError
from bayes_pfl.support.error_text import error_reason
from bayes_pfl.support.files import not_written, write_atomically


@dataclass
class Place:
    """A folder by path or URL. It travels to other processes, which connect again.

    Attributes:
        url: as the user gave it.
        options: of the store, for fsspec; credentials are better left to the environment.
        fs: the file system.
        root: path of the folder within its file system.

    Raises:
        ConfigError: an unknown kind of store, or one whose package is missing.
    """

    url: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    fs: Any = field(init=False, repr=False)
    root: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if "://" not in self.url:
            self.fs, self.root = LocalFileSystem(), os.path.abspath(self.url)
            return
        if self.url.startswith("memory://"):
            raise ConfigError(f"{self.url}: lives in one process; give a folder or a store")
        try:
            self.fs, root = url_to_fs(self.url, **self.options)
        except (ImportError, ValueError) as error:
            raise ConfigError(
                f"{self.url}: no such store here ({error_reason(error)}); s3:// needs s3fs, gs:// "
                "gcsfs, abfs:// adlfs, installed next to this package"
            ) from error
        self.root = root.rstrip("/")

    @property
    def folder(self) -> Path | None:
        """The folder, if it lies on this machine's file system."""
        return Path(self.root) if isinstance(self.fs, LocalFileSystem) else None

    @property
    def name(self) -> str:
        """The same for every way to write it: what a run is known by."""
        return str(self.folder.resolve()) if self.folder else self.fs.unstrip_protocol(self.root)

    def path(self, name: str) -> str:
        """Path, within the file system, of a file below the folder.

        Raises:
            ValueError: a name that leads out of the folder.
        """
        if ".." in name.split("/"):
            raise ValueError(f"{name!r} leads out of its folder")
        return f"{self.root}/{name}"

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole: here it takes its name at the end, stores show what is complete.

        Raises:
            ConfigError: it cannot be written.
        """
        path = self.path(name)
        try:
            if self.folder:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                write_atomically(Path(path), data)
            else:
                self.fs.pipe_file(path, data)
        except Exception as error:  # stores raise errors of their own
            mend = "choose another output folder, with room and the right to write"
            raise not_written(self.url, error, mend, ConfigError) from error

    def read(self, name: str) -> bytes | None:
        """The content of a file; None if there is no such file.

        Raises:
            ConfigError: the store cannot be reached, or does not let us read.
        """
        with self._reached():
            return bytes(self.fs.cat_file(self.path(name)))
        return None

    def names(self, folder: str, suffix: str) -> list[str]:
        """Names, below this place, of the files in one of its folders, sorted."""
        found: list[str] = []
        with self._reached():
            self.fs.invalidate_cache()
            found = self.fs.ls(self.path(folder), detail=False)
        last = [str(path).rstrip("/").rsplit("/", 1)[-1] for path in found]
        shown = [name for name in last if name.endswith(suffix) and name[0] != "."]
        return sorted(f"{folder}/{name}" for name in shown)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with self._reached():
            self.fs.rm_file(self.path(name))

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Within, a missing file is no error, and what else a store raises is a ConfigError."""
        try:
            yield
        except FileNotFoundError:
            return
        except BayesPFLError:
            raise
        except Exception as error:
            raise ConfigError(
                f"{self.url}: out of reach ({error_reason(error)}); check the URL and your rights"
            ) from error
