"""A file that was received and is kept in memory alone, for the readers of image files."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias


@dataclass(frozen=True)
class MemoryFile:
    """The bytes of a file, with the few methods of a `Path` that readers of first pictures call.

    Attributes:
        name: for messages.
    """

    data: bytes = field(repr=False)
    name: str = "the picture"

    def __str__(self) -> str:
        return self.name

    def is_file(self) -> bool:
        """Always: it can be read, and its end is known."""
        return True

    def open(self, mode: str = "rb") -> io.BytesIO:
        """The bytes as an open file."""
        return io.BytesIO(self.data)

    def read_bytes(self) -> bytes:
        """All of them."""
        return self.data


Source: TypeAlias = Path | MemoryFile
"""What a picture is read from."""
