"""What reading a dataset passed over, or decided between several readings: lines for the user."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from bayes_pfl.data.image_files import Files, images_in, is_good, list_files, remark
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
    owners: defaultdict[Path, list[str]] = defaultdict(list)
    for sample in samples:
        if sample.mask:
            owners[sample.mask].append(sample.path.name)
    for several in (
        [f"{mask}: one mask for {_several(all)}" for mask, all in owners.items() if len(all) > 1],
        _rivals(samples),
    ):
        lines += several[:_SHOWN]
        lines += [f"{len(several) - _SHOWN} more images alike"] if len(several) > _SHOWN else []
    return [printable(line) for line in lines]


def _of_tree(files: Files, samples: Sequence[Sample], used: set[Path], root: Path) -> list[str]:
    """Files of other kinds, leftovers, and images in folders below those that are read."""
    homes = {sample.path.parent for sample in samples}
    # The folder of all defects too: there may be one whose images all lie deeper.
    homes |= {s.path.parents[1] for s in samples if is_good(s.path.parent.name)}
    homes.discard(root)
    others = [path for path in files.images if path not in used]
    nested = [path for path in others if not homes.isdisjoint(path.parent.parents)]
    what = "left out, in folders below those that are read"
    return [*files.remarks(root), *remark(nested, what, root)]


def _rivals(samples: Sequence[Sample]) -> list[str]:
    """Images for which several masks lie in one folder."""
    images = {sample.path for sample in samples}
    owners = {sample.mask: sample for sample in samples if sample.mask}
    masks = [path for home in sorted({m.parent for m in owners}) for path in images_in(home)]
    found: defaultdict[tuple[Path, str], list[Path]] = defaultdict(list)
    for mask in masks:
        if mask not in images:
            found[mask.parent, mask.stem.removesuffix("_mask").casefold()].append(mask)
    lines = []
    for same in found.values():
        read = [mask for mask in same if mask in owners]
        if len(same) > 1 and read:
            names = _several(mask.name for mask in same)
            lines.append(f"{owners[read[0]].path}: of the masks {names}, {read[0].name} is read")
    return lines


def _several(names: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    first = list(names)
    more = [f"{len(first) - _SHOWN} more"] if len(first) > _SHOWN else []
    return ", ".join(first[:_SHOWN] + more)
