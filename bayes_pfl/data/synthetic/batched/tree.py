"""Pictures rendered by the batch on disk, in the folder layout of MVTec-AD."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bayes_pfl.data.synthetic.batched.families import BATCHED
from bayes_pfl.data.synthetic.batched.render import find_device, render_batch
from bayes_pfl.data.synthetic.tree import orders, save_picture

_PIXELS = {"cpu": 2**18, "cuda": 2**22}
"""Drawn at once, so that memory is bounded."""


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
    wanted = [o for name in categories for o in orders(name, BATCHED[name].defects, *numbers)]
    step = max(1, _PIXELS[place.type] // size**2)
    for start in range(0, len(wanted), step):
        part = wanted[start : start + step]
        names, _, _, indices, defects = zip(*part, strict=True)
        batch = render_batch(names, seed, indices, size=size, defects=defects, device=place)
        for order, picture in zip(part, batch.pictures(), strict=True):
            save_picture(root, picture, order)
    return root
