"""Where the files that travel with the package lie: dataset cards and embedded checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def resource_dir(kind: Literal["datasets", "checkpoints"]) -> Path:
    """Folder of ``kind``: inside an installed wheel, else at the root of the source tree."""
    package = Path(__file__).resolve().parent
    installed = package / "_resources" / kind
    return installed if installed.is_dir() else package.parent / kind
