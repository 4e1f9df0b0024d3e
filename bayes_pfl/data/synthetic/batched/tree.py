"""Pictures rendered by the batch on disk, in the folder layout of MVTec-AD."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bayes_pfl.data.synthetic.batched.families import BATCHED
from bayes_pfl.data.synthetic.batched.render import find_device, render_batch
from bayes_pfl.data.synthetic.tree import TEST_START, save_picture

_PIXELS = {"cpu": 2**18, "cuda": 2**22}
"""Drawn at once, so that memory is bounded."""


class _Order(NamedTuple):
    """A picture to be rendered, and where its file goes."""

    category: str
    split: str
    number: int
    index: int
    defect: str


def write_batched_tree(
    out: str | Path,
    categories: Sequence[str],
    *,
    normals: int,
    anomalies: int,
    train_normals: int = 0,
    size: int = 256,
    seed: int = 0,
    device: str = "auto",
) -> Path:
    """Write families of ``BATCHED`` as ``write_mvtec_tree`` writes its categories.

    ``device`` is cpu, cuda, or auto: cuda where there is one. Returns ``out`` as a Path.
    """
    root, place = Path(out), find_device(device)
    numbers = normals, anomalies, train_normals
    orders = [order for name in categories for order in _orders(name, *numbers)]
    step = max(1, _PIXELS[place.type] // size**2)
    for start in range(0, len(orders), step):
        part = orders[start : start + step]
        names, _, _, indices, defects = zip(*part, strict=True)
        batch = render_batch(names, seed, indices, size=size, defects=defects, device=place)
        for order, picture in zip(part, batch.pictures(), strict=True):
            save_picture(root, picture, order.split, order.number)
    return root


def _orders(name: str, normals: int, anomalies: int, train_normals: int) -> Iterator[_Order]:
    kinds = BATCHED[name].defects
    for i in range(train_normals):
        yield _Order(name, "train", i, i, "good")
    for i in range(normals):
        yield _Order(name, "test", i, TEST_START + i, "good")
    for i in range(anomalies):
        yield _Order(name, "test", i, TEST_START + normals + i, kinds[i % len(kinds)])
