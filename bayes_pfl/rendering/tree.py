"""Rendered pictures on disk, in the folder layout of MVTec-AD."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from bayes_pfl.rendering.catalog import CATEGORIES
from bayes_pfl.rendering.render import Rendered, render

_TEST_START = 1_000_000
"""Pictures of train/ and test/ never share an index."""


def write_mvtec_tree(
    out: str | Path,
    categories: Sequence[str],
    *,
    normals: int,
    anomalies: int,
    train_normals: int = 0,
    size: int = 256,
    seed: int = 0,
    workers: int = 0,
    on_category: Callable[[], None] | None = None,
) -> Path:
    """Write ``<category>/{train/good,test/good,test/<defect>,ground_truth/<defect>}`` PNG files.

    Each category gets ``normals`` good test pictures and ``anomalies`` faulty ones, its kinds of
    fault in turn; masks are 0/255 and named ``<stem>_mask.png``. ``workers`` processes take a
    category each; the pictures are the same with any number. ``on_category`` is called after each
    one. Returns ``out`` as a Path.
    """
    root = Path(out)
    write = partial(_write_category, root, (normals, anomalies, train_normals), size, seed)
    with contextlib.ExitStack() as stack:
        run: Callable[..., Iterable[None]] = map
        if workers > 1:
            pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))
            run = stack.enter_context(pool).map
        for _ in run(write, categories):
            if on_category is not None:
                on_category()
    return root


def _write_category(
    root: Path, numbers: tuple[int, int, int], size: int, seed: int, category: str
) -> None:
    normals, anomalies, train_normals = numbers
    kinds = (
        tuple(dict.fromkeys(CATEGORIES[category].defects))
        if category in CATEGORIES
        else ("random",)
    )
    for i in range(train_normals):
        _save(root, render(category, seed, i, size=size), "train", i)
    for i in range(normals):
        _save(root, render(category, seed, _TEST_START + i, size=size), "test", i)
    for i in range(anomalies):
        index, kind = _TEST_START + normals + i, kinds[i % len(kinds)]
        _save(root, render(category, seed, index, size=size, defect=kind), "test", i)


def _save(root: Path, picture: Rendered, split: str, number: int) -> None:
    """Write one picture of a tree, and its mask if it has a fault."""
    folder, name = root / picture.category, f"{number:03d}"
    _write_png(folder / split / picture.defect / f"{name}.png", picture.image[..., ::-1])
    if picture.defect != "good":
        mask = picture.mask.astype(np.uint8) * 255
        _write_png(folder / "ground_truth" / picture.defect / f"{name}_mask.png", mask)


def _write_png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _, data = cv2.imencode(".png", np.ascontiguousarray(pixels))
    path.write_bytes(data.tobytes())
