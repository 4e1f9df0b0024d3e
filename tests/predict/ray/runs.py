"""Folders to score, what a run writes, and progress that stops one."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

FIGURES = ["score", "uncertainty", "text_score", "map_score", "score_low", "score_high"]
FIGURES += ["words_score", "memory_score", "p_value"]
EXACT = ["path", "class_name", "label", "needs_review", "width", "height", "error", "compared_with"]


def paint(path, index=0, size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = np.random.default_rng(index).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC).save(path, "PNG")


def images_in(folder, count, bad=2):
    for index in range(count):
        paint(folder / f"kind {index % 3}" / f"{index:05d}.png", index)
    for index in range(bad):
        (folder / f"bad {index}.png").write_bytes(b"no image" * index)
    return folder


def rows_of(out):
    table = pq.read_table(out / "predictions")
    return sorted(table.to_pylist(), key=lambda row: row["path"].split("/"))


def assert_same_rows(found, expected, tolerance=1e-4):
    assert len(found) == len(expected) > 0
    expected = sorted(expected, key=lambda row: row["path"].split("/"))
    for one, other in zip(found, expected, strict=True):
        for name in EXACT:
            value = "" if one[name] is None else one[name]
            assert str(value) == other[name], (one["path"], name)
        for name in FIGURES:
            value = float(other[name]) if other[name] else None
            assert one[name] == pytest.approx(value, abs=tolerance), (one["path"], name)


class Parts:
    """Progress that counts, and acts when a part is done."""

    def __init__(self, act=None, after=1):
        self.steps, self.done, self.act, self.after = 0, [], act, after

    def start(self, title, steps):
        self.steps = steps

    def advance(self, done, values):
        self.done.append(done)
        # The first report is of what was done before.
        if self.act and len(self.done) == self.after + 1:
            self.act()


def interrupt():
    raise KeyboardInterrupt


def stopped(run_ray, folder, out, **options):
    with pytest.raises(KeyboardInterrupt, match="4 of 14 images are done"):
        run_ray(folder, out, part_images=4, progress=Parts(interrupt), **options)
