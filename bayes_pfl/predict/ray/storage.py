"""Folders here or in a store, by path or URL (s3://, gs://, abfs://, ...), through fsspec."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from bayes_pfl.errors import BayesPFLError, ConfigError
from bayes_pfl.support.files import write_atomically


@dataclass(frozen=True)
class Place:
    """A folder by path or URL. It travels to other processes, which connect anew.

    Attributes:
        url: as the user gave it.
        options: of the store, for fsspec; credentials are better left to the environment.
    """

    url: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url, "options": dict(self.options)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    @cached_property
    def _connected(self) -> tuple[Any, str]:
        """File system and root.

        Raises:
            ConfigError: an unknown kind of store, or one whose package is missing.
        """
        from fsspec.core import url_to_fs
        from fsspec.implementations.local import LocalFileSystem

        if "://" not in self.url:
            return LocalFileSystem(), os.path.abspath(self.url)
        if self.url.startswith("memory://"):
            raise ConfigError(f"{self.url}: lives in one process; give a folder or a store")
        try:
            fs, root = url_to_fs(self.url, **self.options)
        except (ImportError, ValueError) as error:
            raise ConfigError(
                f"{self.url}: no such store here ({one_line(error)}); s3:// needs s3fs, gs:// "
                "gcsfs, abfs:// adlfs, installed beside this package"
            ) from error
        return fs, root.rstrip("/")

    @property
    def fs(self) -> Any:
        """The file system."""
        return self._connected[0]

    @property
    def root(self) -> str:
        """Path of the folder within its file system."""
        return self._connected[1]

    @property
    def folder(self) -> Path | None:
        """The folder, if it lies on this machine's file system."""
        from fsspec.implementations.local import LocalFileSystem

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
            raise ConfigError(
                f"{self.url}: cannot be written ({one_line(error)}); choose another output folder, "
                "with room and the right to write"
            ) from error

    def read(self, name: str) -> bytes | None:
        """The content of a file; None if there is no such file.

        Raises:
            ConfigError: the store cannot be reached, or does not let us read.
        """
        try:
            return self.fs.cat_file(self.path(name))
        except FileNotFoundError:
            return None
        except Exception as error:
            raise _unreachable(self.url, error) from error

    def names(self, folder: str, suffix: str) -> list[str]:
        """Names, below this place, of the files in one of its folders, sorted."""
        try:
            self.fs.invalidate_cache()
            found = self.fs.ls(self.path(folder), detail=False)
        except FileNotFoundError:
            return []
        except Exception as error:
            raise _unreachable(self.url, error) from error
        last = [str(path).rstrip("/").rsplit("/", 1)[-1] for path in found]
        return sorted(f"{folder}/{name}" for name in last if _shown(name, suffix))

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        try:
            self.fs.rm_file(self.path(name))
        except FileNotFoundError:
            return
        except Exception as error:
            raise _unreachable(self.url, error) from error


def one_line(error: BaseException) -> str:
    """What an error says, in one line."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(reason).split())[:300]


def _shown(name: str, suffix: str) -> bool:
    return name.endswith(suffix) and not name.startswith(".")


def _unreachable(url: str, error: Exception) -> BayesPFLError:
    if isinstance(error, BayesPFLError):
        return error
    return ConfigError(f"{url}: out of reach ({one_line(error)}); check the URL and your rights")
