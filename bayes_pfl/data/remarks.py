"""What reading a dataset passed over, or decided between several readings: lines for the user."""

from __future__ import annotations

import functools
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from bayes_pfl.data.image_files import IMAGE_SUFFIXES, Files, is_good, list_files, remark
from bayes_pfl.data.records import Sample
from bayes_pfl.support.error_text import printable

_SHOWN = 3


def remarks(samples: Sequence[Sample], root: Path | None = None) -> list[str]:
    """One line for each kind of thing that a user should know of; no picture is opened.

    Args:
        root: the folder of a tree, whose other files are counted; None for a listing.
    """
    used = {sample.path for sample in samples} | {s.mask for s in samples if s.mask}
    lines = _of_tree(list_files(root), samples, used, root) if root else []
    odd = {s.path.parent.name for s in samples if not s.label and is_good(s.path.parent.name)}
    if odd := odd - {"good"}:
        lines.append(f"images in folders called {_several(map(repr, sorted(odd)))} count as normal")
    doubles = _doubles(samples)
    lines += doubles[:_SHOWN]
    lines += [f"{len(doubles) - _SHOWN} more masks like these"] if len(doubles) > _SHOWN else []
    return [printable(line) for line in lines]


def _of_tree(files: Files, samples: Sequence[Sample], used: set[Path], root: Path) -> list[str]:
    """Files of other kinds, leftovers, and images in folders below those that are read."""
    homes = {sample.path.parent for sample in samples}
    # The folder of all defects too: there may be one whose images all lie deeper.
    homes |= {s.path.parents[1] for s in samples if is_good(s.path.parent.name)}
    homes.discard(root)
    others = [path for path in files.images if path not in used]
    nested = [path for path in others if not homes.isdisjoint(path.parent.parents)]
    what = "images left out, in folders below those that are read"
    return [*files.remarks(root), *remark(what, nested, root)]


def _doubles(samples: Sequence[Sample]) -> list[str]:
    """Masks that several images share, and those that were chosen of several for an image."""
    names_in = functools.cache(lambda home: set(os.listdir(home)))
    used = {sample.path for sample in samples} | {sample.mask for sample in samples}
    owners: defaultdict[Path, list[str]] = defaultdict(list)
    for sample in samples:
        if sample.mask:
            owners[sample.mask].append(sample.path.name)
    lines = []
    for mask, names in owners.items():
        if len(names) > 1:
            lines.append(f"{mask}: one mask for {_several(names)}")
        stem, kinds = mask.stem.removesuffix("_mask"), (mask.suffix, *IMAGE_SUFFIXES)
        fits = dict.fromkeys(stem + end + kind for end in ("_mask", "") for kind in kinds)
        found = [name for name in fits if name in names_in(mask.parent)]
        others = [n for n in found if n != mask.name and mask.with_name(n) not in used]
        if others:
            lines.append(f"{mask}: read as the mask of {names[0]}, not {_several(others)}")
    return lines


def _several(names: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    first = list(names)
    more = [f"{len(first) - _SHOWN} more"] if len(first) > _SHOWN else []
    return ", ".join(first[:_SHOWN] + more)
