"""Where the files that come with the package are: in an installed wheel, or in a checkout."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def resource_dir(kind: Literal["datasets", "checkpoints"]) -> Path:
    """The folder of the dataset cards, or of the embedded checkpoints.

    An installed wheel has them inside the package, a checkout next to it.
    """
    package = Path(__file__).resolve().parents[1]
    inside = package / "_resources" / kind
    return inside if inside.is_dir() else package.parent / kind
