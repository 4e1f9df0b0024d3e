"""Many image files decoded and resized ahead of the model; a bad one becomes an item too."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from bayes_pfl.data.images import read_image
from bayes_pfl.data.transforms import resize_image

Item = TypeVar("Item")


@dataclass(frozen=True)
class Decoded:
    """One file, as far as it could be read.

    Attributes:
        size: (width, height) of the picture; None if it could not be read.
        pixels: uint8 (S, S, 3) for the model; None if it could not be read.
        preview: uint8 (h, w, 3) for a person, no larger than asked for; None if not asked for.
        error: why it could not be read, without the path; empty if it could.
    """

    path: Path
    size: tuple[int, int] | None = None
    pixels: np.ndarray | None = None
    preview: np.ndarray | None = None
    error: str = ""


class ImageFiles(Dataset[Decoded]):
    """Decodes files on demand; an unreadable one is an item with its error.

    Args:
        image_size: S.
        preview_side: longest side of the preview, in pixels; 0 for none.
    """

    def __init__(self, paths: Sequence[Path], image_size: int, preview_side: int = 0) -> None:
        self.paths, self.image_size, self.preview_side = paths, image_size, preview_side

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Decoded:
        path = self.paths[index]
        try:
            image = read_image(path)
            pixels = resize_image(image, self.image_size)
            preview = reduced(image, self.preview_side) if self.preview_side else None
        except Exception as error:  # MemoryError and what file systems raise must not end a run
            reason = str(error).removeprefix(f"{path}: ") or type(error).__name__
            return Decoded(path, error=" ".join(reason.split()))
        return Decoded(path, image.size, pixels, preview)


def reduced(image: Image.Image, side: int) -> np.ndarray:
    """uint8 (h, w, 3), the longer side at most ``side`` pixels."""
    scale = side / max(image.size)
    if scale < 1:
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        image = image.resize(size, Image.Resampling.BICUBIC)
    return np.asarray(image)


def decode(
    paths: Sequence[Path],
    image_size: int,
    *,
    preview_side: int = 0,
    batch_size: int = 8,
    workers: int = 0,
) -> Generator[list[Decoded], None, None]:
    """Batches of decoded files, in order, fetched ahead by a thread; a few are in memory at once.

    Args:
        workers: processes that decode; 0 leaves it to the thread. One that a decoder kills (a crash
            in a library, no memory) costs the file that did it, and is replaced.
    """
    files = ImageFiles(paths, image_size, preview_side)
    return read_ahead(_batches(files, batch_size, workers), depth=1 + (workers > 0))


def _batches(
    files: ImageFiles, batch_size: int, workers: int
) -> Generator[list[Decoded], None, None]:
    done = 0
    while done < len(files):
        try:
            for batch in decoding_loader(files, batch_size, workers, range(done, len(files))):
                done += len(batch)
                yield batch
        except RuntimeError:  # a worker died; ordinary errors have become items
            if workers == 0:
                raise
            suspects = range(done, min(done + batch_size, len(files)))
            yield [_alone(files, index) for index in suspects]
            done = suspects.stop


def _alone(files: ImageFiles, index: int) -> Decoded:
    try:
        return next(iter(decoding_loader(files, 1, 1, range(index, index + 1))))[0]
    except RuntimeError:
        return Decoded(files.paths[index], error="its decoder crashed or ran out of memory")


def decoding_loader(
    files: Dataset[Any], batch_size: int, workers: int, order: range | None = None
) -> DataLoader[Any]:
    """Lists of ``batch_size`` items, decoded by ``workers`` other processes or (0) by this one.

    Args:
        order: indices of the items to load; all of them by default.
    """
    return DataLoader(
        files,
        batch_size=batch_size,
        sampler=order,
        num_workers=workers,
        # Arrays go through a pipe; tensors need shared memory, of which containers have 64 MB.
        collate_fn=list,
        worker_init_fn=_stop_opencv_threads,
        # Without one of its own, a loader draws from the global random state.
        generator=torch.Generator().manual_seed(0),
    )


def _stop_opencv_threads(_: int) -> None:
    # A pool of threads does not survive the fork: OpenCV would wait for it for ever.
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(0)


def read_ahead(items: Iterable[Item], depth: int) -> Generator[Item, None, None]:
    """Yield ``items`` while a thread fetches up to ``depth`` more.

    The thread has a second use: a DataLoader whose worker dies raises its error in the main thread,
    wherever that is, unless it is run from another.
    """
    iterator = iter(items)
    end: Any = object()
    with ThreadPoolExecutor(1) as thread:
        coming = deque(thread.submit(next, iterator, end) for _ in range(depth))
        try:
            while True:
                coming.append(thread.submit(next, iterator, end))
                item = coming.popleft().result()
                if item is end:
                    return
                yield item
        finally:
            thread.shutdown(cancel_futures=True)
