"""Journals: what a run has finished, in a file that is only added to, so that any stop is survived.

JSON lines. The first tells what the run is; each other one is an entry. Entries come in blocks,
whose last one says so: a block that was not written whole (the process was killed, the disk was
full) is no part of the journal, and is cut off when the run goes on. A block reaches the operating
system at once, which survives the end of the process, and the disk every few seconds, which
survives a power cut.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from bayes_pfl.errors import ConfigError
from bayes_pfl.support.differences import differences
from bayes_pfl.support.files import not_written
from bayes_pfl.support.locks import lock

FORMAT = 1
SECONDS_BETWEEN_SYNCS = 5.0
_END, _LAST = "end", "last"
_OPENING = b'{"journal":"bayes-pfl '

Entry = dict[str, Any]


class Journal:
    """The journal of one run, which no other process may write to.

    Args:
        path: made, with its folder, if it is not there.
        kind: of the run, such as "prediction".
        anew: how a user begins anew, for messages.

    Raises:
        ConfigError: it cannot be written, another process writes to it, or it is something else.
    """

    def __init__(self, path: Path, kind: str, anew: str) -> None:
        self.path, self.kind, self.anew = path, kind, anew
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "a+b", buffering=0)  # noqa: SIM115  (closed by close)
        except OSError as error:
            raise self._not_written(error) from error
        self._synced = time.monotonic()
        try:
            lock(self._file, path)
            self.header = self._read_header()
        except BaseException:
            self._file.close()
            raise

    # Reading ------------------------------------------------------------------------------------

    def _read_header(self) -> Entry | None:
        """The first line; None of an empty file, or if it was not written whole."""
        self._file.seek(0)
        reader = io.BufferedReader(self._file)
        line = reader.readline()
        reader.detach()
        if not line.endswith(b"\n"):
            begun = line.rstrip(b"\0")[: len(_OPENING)]
            if not _OPENING.startswith(begun):
                raise self._foreign()
            return None
        header = _parsed(line)
        if header is None or header.get("journal") != f"bayes-pfl {self.kind}":
            raise self._foreign()
        if header.get("format") != FORMAT:
            raise ConfigError(
                f"{self.path}: format {header.get('format')!r}, this version reads {FORMAT}; "
                f"finish the run with the version that began it, or {self.anew}"
            )
        return header

    def blocks(self) -> Iterator[list[tuple[int, Entry]]]:
        """Whole blocks, each entry with its place in the file; what follows them is cut off.

        Raises:
            ConfigError: a damaged line with whole blocks after it.
        """
        if self.header is None:
            return
        block: list[tuple[int, Entry]] = []
        end, torn = 0, 0
        for number, (place, line) in enumerate(self._lines(), start=1):
            entry = _parsed(line) if line.endswith(b"\n") else None
            if entry is None:
                torn = torn or number
                continue
            if number == 1:
                end = place + len(line)
                continue
            if torn and _LAST in entry:
                raise self.damaged(f"line {torn}")
            if torn:
                continue
            last = entry.pop(_LAST, None) is not None
            block.append((place, entry))
            if last:
                yield block
                block, end = [], place + len(line)
        self._cut(end)

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        self._file.seek(0)
        reader, place = io.BufferedReader(self._file, 2**16), 0
        try:
            for line in reader:
                yield place, line
                place += len(line)
        finally:
            reader.detach()

    def entries_at(self, places: Sequence[int]) -> Iterator[Entry]:
        """The entries at places that :meth:`blocks` or :meth:`append` gave, one at a time."""
        reader = io.BufferedReader(self._file, 2**16)
        try:
            for place in places:
                reader.seek(place)
                entry = _parsed(reader.readline())
                if entry is None:
                    raise self.damaged(f"the entry at byte {place}")
                entry.pop(_LAST, None)
                yield entry
        finally:
            reader.detach()

    def check_same(self, now: Mapping[str, Any]) -> None:
        """Refuse to go on with another run than the one that was begun.

        Args:
            now: the header as it would be.

        Raises:
            ConfigError: naming everything that differs.
        """
        own = {k: v for k, v in (self.header or {}).items() if k not in ("journal", "format")}
        # What was written came through JSON, which knows no tuples.
        if differing := differences(own, json.loads(json.dumps(now))):
            raise ConfigError(
                f"{self.path}: begun as another run: {'; '.join(differing)}; give what it was "
                f"begun with, or {self.anew}"
            )

    def damaged(self, what: str) -> ConfigError:
        """The error for a part that cannot be used."""
        return ConfigError(f"{self.path}: {what} is damaged; {self.anew}")

    # Writing ------------------------------------------------------------------------------------

    def begin(self, header: Mapping[str, Any]) -> None:
        """Forget everything, and note what the new run is."""
        self.header = {"journal": f"bayes-pfl {self.kind}", "format": FORMAT, **header}
        self._cut(0)
        self._write(_line(self.header))
        self.sync()

    def append(self, entries: Sequence[Entry]) -> list[int]:
        """Add a block; returns the places of its entries.

        Raises:
            ConfigError: no room, or the file is gone. What was there before is intact.
        """
        lines = [_line(entry) for entry in entries[:-1]]
        lines += [_line(entry | {_LAST: True}) for entry in entries[-1:]]
        place = self._size()
        places = [place + sum(map(len, lines[:index])) for index in range(len(lines))]
        self._write(b"".join(lines))
        if time.monotonic() - self._synced > SECONDS_BETWEEN_SYNCS:
            self.sync()
        return places

    def end(self) -> None:
        """Note that the run is finished."""
        self.append([{_END: True}])
        self.sync()

    def sync(self) -> None:
        """Wait until everything is on the disk."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._not_written(error) from error
        self._synced = time.monotonic()

    def close(self) -> None:
        """Let another process have the file. A journal without a single entry is removed."""
        with contextlib.suppress(OSError, ConfigError):
            if not self._size() and self._is_there():
                self.path.unlink()
            else:
                self.sync()
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _write(self, data: bytes) -> None:
        start = self._size()
        if not self._is_there():
            raise ConfigError(
                f"{self.path}: has vanished while the run went on; see to the folder, then begin "
                "anew"
            )
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) or 0 :]
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(start)
            raise self._not_written(error) from error

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self._file.fileno()))
        except OSError:
            return False

    def _size(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def _cut(self, end: int) -> None:
        try:
            if self._size() > end:
                self._file.truncate(end)
        except OSError as error:
            raise self._not_written(error) from error

    def _foreign(self) -> ConfigError:
        return ConfigError(
            f"{self.path}: no journal of a {self.kind} (bayes-pfl would write there); move it, or "
            "choose another --out"
        )

    def _not_written(self, error: OSError) -> ConfigError:
        mend = (
            "choose another output folder, on a disk with room, or make room and go on with "
            "--resume"
        )
        return not_written(self.path.parent, error, mend, ConfigError)


def is_end(entry: Entry) -> bool:
    """Whether an entry says that the run is finished."""
    return _END in entry


def _parsed(line: bytes) -> Entry | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _line(entry: Mapping[str, Any]) -> bytes:
    # ASCII, so that undecodable bytes of a path survive as escapes.
    return json.dumps(entry, separators=(",", ":")).encode("ascii") + b"\n"
