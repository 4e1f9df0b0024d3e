"""The package's dependencies, direct and indirect, and their licences.

`python tools/dependencies.py` writes the table of docs/licences.md; tools/audit.py uses it.
"""

from __future__ import annotations

import argparse
import re
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "licences.md"
PACKAGE = "bayes-pfl"
MARK = "<!-- the table below is written by tools/dependencies.py -->\n"

ALLOWED = frozenset(
    [
        "0BSD",
        "Apache-2.0",
        "BSD",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSL-1.0",
        "CC0-1.0",
        "CNRI-Python",
        "ISC",
        "MIT",
        "MIT-CMU",
        "MPL-2.0",
        "PSF-2.0",
        "Unlicense",
        "Zlib",
    ]
)
"""Licences that ask for no more than their text and, of MPL-2.0, for changes to its own files."""

VENDOR = "LicenseRef-NVIDIA-Proprietary"
"""Of the libraries that PyTorch's CUDA build brings; free to use, not free software."""

_VENDORS = ("nvidia-", "cuda-")

_NAMES = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}


def direct() -> list[str]:
    """Names of the direct dependencies, without extras."""
    found = map(Requirement, metadata.requires(PACKAGE) or [])
    return sorted({canonicalize_name(r.name) for r in found if _applies(r, frozenset())})


def closure() -> dict[str, str]:
    """Versions of all dependencies installed here, direct and indirect, by name."""
    extras: dict[str, frozenset[str]] = {}
    waiting = [(PACKAGE, frozenset[str]())]
    while waiting:
        name, wanted = waiting.pop()
        if wanted <= extras.get(name, frozenset()) and name in extras:
            continue
        extras[name] = extras.get(name, frozenset()) | wanted
        for item in map(Requirement, _requires(name)):
            if _applies(item, extras[name]):
                waiting.append((canonicalize_name(item.name), frozenset(item.extras)))
    del extras[PACKAGE]
    return {name: version for name in sorted(extras) if (version := _version(name))}


def _applies(requirement: Requirement, extras: frozenset[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": name}) for name in extras | {""})


def _requires(name: str) -> list[str]:
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def licence(name: str) -> str:
    """The licence of an installed package, as an SPDX expression where its metadata allow.

    NVIDIA's libraries state their terms in words that change from release to release; whatever they
    say, it is :data:`VENDOR`, unless it is a free licence.
    """
    data = metadata.metadata(name)
    classifiers = [
        text.rsplit("::", 1)[1].strip()
        for text in data.get_all("Classifier") or []
        if text.startswith("License ::")
    ]
    text = (data.get("License") or "").strip()
    short = [text] if text and len(text) < 40 and "\n" not in text else []
    known = sorted({_NAMES.get(item, item) for item in classifiers})
    if "BSD" in known and short and re.fullmatch(r"BSD-[23]-Clause", short[0]):
        known[known.index("BSD")] = short[0]  # the classifier does not say which
    found = data.get("License-Expression") or " OR ".join(known) or "".join(short)
    found = _NAMES.get(found, found) or "unknown"
    return VENDOR if name.startswith(_VENDORS) and _not_allowed(found) else found


def refused(name: str, expression: str) -> list[str]:
    """Parts of a licence that are not allowed."""
    known = {VENDOR} if name.startswith(_VENDORS) else set()
    return [part for part in _not_allowed(expression) if part not in known]


def _not_allowed(expression: str) -> list[str]:
    parts = [part.strip("() ") for part in re.split(r"\s+(?:AND|OR)\s+", expression)]
    names = [re.split(r"\s+WITH\s+", part)[0] for part in parts]
    return [name for name in names if name not in ALLOWED]


def table() -> str:
    """The direct dependencies and their licences, in markdown."""
    rows = [
        f"| [{name}](https://pypi.org/project/{name}/) | {licence(name)} |" for name in direct()
    ]
    return "\n".join(["| package | licence |", "|---|---|", *rows]) + "\n"


def main() -> None:
    """Write the table."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    before = PAGE.read_text(encoding="utf-8").split(MARK)[0]
    PAGE.write_text(f"{before}{MARK}\n{table()}", encoding="utf-8")
    sys.stdout.write(f"{PAGE.relative_to(ROOT)} written\n")


if __name__ == "__main__":
    main()
