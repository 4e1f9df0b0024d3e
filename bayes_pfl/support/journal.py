"""Journals: what a run has finished, in a file that only grows, so that any run can be resumed.

JSON lines. The first describes the run; each other one is an entry. Entries come in blocks, whose
last entry is marked as such: a block that was not written whole (the process was killed, the disk
was full) does not count, and is cut off when the run is resumed. A block reaches the operating
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
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from bayes_pfl.errors import ConfigError
from bayes_pfl.support.differences import check_same
from bayes_pfl.support.files import raising_not_written
from bayes_pfl.support.locks import lock

JOURNAL_FORMAT = 1
SECONDS_BETWEEN_SYNCS = 5.0
_END, _LAST = "end", "last"
_OPENING = b'{"journal":"bayes-pfl '

JournalEntry = dict[str, Any]


class Journal:
    """The journal of one run; no other process can open it at the same time.

    Args:
        path: of the file; created, with its folder, if it does not exist.
        kind: of the run, such as "prediction".
        restart: how a user starts the run again, for messages.

    Raises:
        ConfigError: it cannot be written, another process writes to it, or it is another file.
    """

    def __init__(self, path: Path, kind: str, restart: str) -> None:
        self.path, self.kind, self.restart = path, kind, restart
        with self._writing():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = io.FileIO(path, "a+")
        self._synced = time.monotonic()
        try:
            lock(self._file, path)
            self.header = self._read_header()
        except BaseException:
            self._file.close()
            raise

    def _read_header(self) -> JournalEntry | None:
        """The first line; None if the file is empty, or if the line was not written whole."""
        with self._reading() as reader:
            line = reader.readline()
        if not line.endswith(b"\n"):
            begun = line.rstrip(b"\0")[: len(_OPENING)]
            if not _OPENING.startswith(begun):
                raise self._foreign()
            return None
        header = _parsed(line)
        if header is None or header.get("journal") != f"bayes-pfl {self.kind}":
            raise self._foreign()
        if header.get("format") != JOURNAL_FORMAT:
            raise ConfigError(
                f"{self.path}: format {header.get('format')!r}, this version reads "
                f"{JOURNAL_FORMAT}; finish the run with the version that began it, or "
                f"{self.restart}"
            )
        return header

    def blocks(self) -> Iterator[list[tuple[int, JournalEntry]]]:
        """Whole blocks, each entry with its byte offset in the file; what follows them is cut off.

        Raises:
            ConfigError: a line is damaged, and whole blocks follow it.
        """
        if self.header is None:
            return
        block: list[tuple[int, JournalEntry]] = []
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

    def readable(self) -> Iterator[JournalEntry]:
        """All that can be read, also behind a damaged line, with the header."""
        yield from filter(None, (_parsed(line) for _, line in self._lines()))

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        place = 0
        with self._reading() as reader:
            for line in reader:
                yield place, line
                place += len(line)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[io.BufferedReader[io.FileIO]]:
        self._file.seek(0)
        reader = io.BufferedReader(self._file, 2**16)
        try:
            yield reader
        finally:
            reader.detach()

    def entries_at(self, places: Sequence[int]) -> Iterator[JournalEntry]:
        """The entries at byte offsets that :meth:`blocks` or :meth:`append` returned."""
        with self._reading() as reader:
            for place in places:
                reader.seek(place)
                entry = _parsed(reader.readline())
                if entry is None:
                    raise self.damaged(f"the entry at byte {place}")
                entry.pop(_LAST, None)
                yield entry

    def check_same(self, now: Mapping[str, Any]) -> None:
        """As :func:`check_same`; ``now`` is the header that a new run would get."""
        own = {k: v for k, v in (self.header or {}).items() if k not in ("journal", "format")}
        check_same(self.path, own, now, self.restart)

    def damaged(self, what: str) -> ConfigError:
        """The error for a damaged part, named by ``what``."""
        return ConfigError(f"{self.path}: {what} is damaged; {self.restart}")

    def begin(self, header: Mapping[str, Any]) -> None:
        """Empty the journal, and write the header of a new run."""
        self.header = {"journal": f"bayes-pfl {self.kind}", "format": JOURNAL_FORMAT, **header}
        self._cut(0)
        self._write(_line(self.header))
        self.sync()

    def append(self, entries: Sequence[JournalEntry]) -> list[int]:
        """Add a block; returns the byte offsets of its entries.

        Raises:
            ConfigError: no room, or the file is gone. Blocks written before are intact.
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
        """Mark the run as finished."""
        self.append([{_END: True}])
        self.sync()

    def sync(self) -> None:
        """Wait until everything is on the disk."""
        with self._writing():
            os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def close(self) -> None:
        """Release the file for other processes; an empty journal is removed."""
        with contextlib.suppress(OSError, ConfigError):
            if not self._size() and self._is_there():
                self.path.unlink()
            else:
                self.sync()
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, data: bytes) -> None:
        start = self._size()
        if not self._is_there():
            raise ConfigError(
                f"{self.path}: has vanished during the run; look for the cause, then start again"
            )
        with self._writing():
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[self._file.write(rest) or 0 :]
            except OSError:
                with contextlib.suppress(OSError):
                    self._file.truncate(start)
                raise

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self._file.fileno()))
        except OSError:
            return False

    def _size(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def _cut(self, end: int) -> None:
        with self._writing():
            if self._size() > end:
                self._file.truncate(end)

    def _foreign(self) -> ConfigError:
        return ConfigError(
            f"{self.path}: no journal of a {self.kind}, but bayes-pfl would write one there; move "
            "it, or choose another --out"
        )

    def _writing(self) -> AbstractContextManager[None]:
        where = "choose another output folder, on a disk with room"
        mend = f"{where}, or make room and go on with --resume"
        return raising_not_written(self.path.parent, mend, ConfigError)


def is_end(entry: JournalEntry) -> bool:
    """Whether an entry marks the end of the run."""
    return _END in entry


def _parsed(line: bytes) -> JournalEntry | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _line(entry: Mapping[str, Any]) -> bytes:
    # ASCII, so that bytes of a path that are not UTF-8 are kept as escapes.
    return json.dumps(entry, separators=(",", ":")).encode("ascii") + b"\n"
