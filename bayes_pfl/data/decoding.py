"""Many pictures of files decoded and resized ahead of the model; a bad one becomes an item too."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from bayes_pfl.data.by_parts import read_by_parts
from bayes_pfl.data.images import TURN
from bayes_pfl.data.large_tiff import LargePage
from bayes_pfl.data.pages import Picture
from bayes_pfl.data.roi import PictureRoi
from bayes_pfl.data.roi_files import AnyRoi, roi_of
from bayes_pfl.data.tiles import Cutting, TileSettings, Tiling, tiles_of
from bayes_pfl.data.transforms import resize_image

Item = TypeVar("Item")

PICTURES_AT_ONCE = 2
"""Large pictures of a batch: their tiles are many, and their maps as large as they are."""


@dataclass(frozen=True)
class Decoded:
    """One picture, as far as it could be read.

    Attributes:
        size: (width, height) of the picture; None if it could not be read.
        pixels: uint8 (S, S, 3) for the model; None if it could not be read.
        preview: uint8 (h, w, 3) for a person, no larger than asked for; None if not asked for.
        error: why it could not be read, without the path; empty if it could.
        tiling, tiles: how a large picture is cut, and its tiles; else None, and none.
        roi: the region of interest; ``pixels`` and ``tiles`` are then those of its rectangle.
        large: a page that is too large to be decoded at once.
    """

    picture: Picture
    size: tuple[int, int] | None = None
    pixels: np.ndarray | None = None
    preview: np.ndarray | None = None
    error: str = ""
    tiling: Tiling | None = None
    tiles: Iterable[Cutting] = ()
    roi: PictureRoi | None = None
    large: LargePage | None = None

    @property
    def path(self) -> Path:
        """The file."""
        return self.picture.path

    @property
    def title(self) -> str:
        """The file and the page, for people."""
        return str(self.picture)


def _decoded(
    picture: Picture,
    image_size: int,
    preview_side: int,
    tiles: TileSettings | None = None,
    roi: AnyRoi | None = None,
    by_parts: bool = False,
) -> Decoded:
    try:
        if by_parts and (part := read_by_parts(picture, image_size, tiles, roi)):
            preview = _reduced(part.shown, preview_side) if preview_side else None
            cut = part.tiling, part.tiles
            return Decoded(
                picture, part.page.size, part.pixels, preview, "", *cut, part.roi, part.page
            )
        image = picture.read()
        spot = roi_of(roi, picture.path, image.size, image.info.get(TURN))
        seen = spot.crop(image) if spot else image
        pixels = resize_image(seen, image_size)
        preview = _reduced(image, preview_side) if preview_side else None
        cut = tiles_of(seen, tiles, spot.touches) if spot else tiles_of(seen, tiles)
    except Exception as error:  # MemoryError and what file systems raise must not end a run
        reason = str(error).removeprefix(f"{picture}: ") or type(error).__name__
        return Decoded(picture, error=" ".join(reason.split()))
    return Decoded(picture, image.size, pixels, preview, "", *cut, spot)


def _reduced(image: Image.Image, side: int) -> np.ndarray:
    """uint8 (h, w, 3), the longer side at most ``side`` pixels."""
    scale = side / max(image.size)
    if scale < 1:
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        image = image.resize(size, Image.Resampling.BICUBIC)
    return np.asarray(image)


def decode(
    pictures: Sequence[Picture],
    image_size: int,
    *,
    preview_side: int = 0,
    batch_size: int = 8,
    workers: int = 0,
    tiles: TileSettings | None = None,
    roi: AnyRoi | None = None,
    by_parts: bool = False,
) -> Generator[list[Decoded], None, None]:
    """Batches of decoded pictures in order, fetched ahead by a thread; a few are held at once.

    Args:
        image_size: S.
        preview_side: longest side of the preview, in pixels; 0 for none.
        workers: processes that decode; 0 leaves it to the thread. One that a decoder kills (a crash
            in a library, no memory) costs the file that did it, and is replaced.
        tiles: how large pictures are cut; None to score whole images only. Batches are then
            of :data:`PICTURES_AT_ONCE` pictures at most.
        roi: the region of interest, which pictures are cropped to; None for whole pictures.
        by_parts: whether a TIFF page that is too large to be decoded at once is read a part at a
            time, as it always is with tiles.
    """
    batch_size = min(batch_size, PICTURES_AT_ONCE) if tiles else batch_size
    read = functools.partial(
        _decoded,
        image_size=image_size,
        preview_side=preview_side,
        tiles=tiles,
        roi=roi,
        by_parts=by_parts or tiles is not None,
    )
    return read_ahead(_batches(pictures, read, batch_size, workers), depth=1 + (workers > 0))


def _batches(
    pictures: Sequence[Picture], read: Callable[[Picture], Decoded], batch_size: int, workers: int
) -> Iterator[list[Decoded]]:
    done = 0
    while done < len(pictures):
        try:
            for batch in decoding_loader(pictures[done:], read, batch_size, workers):
                done += len(batch)
                yield batch
        except RuntimeError:  # a worker died; ordinary errors have become items
            if workers == 0:
                raise
            suspects = pictures[done : done + batch_size]
            yield [_decoded_alone(picture, read) for picture in suspects]
            done += len(suspects)


def _decoded_alone(picture: Picture, read: Callable[[Picture], Decoded]) -> Decoded:
    try:
        return next(iter(decoding_loader([picture], read, 1, 1)))[0]
    except RuntimeError:
        return Decoded(picture, error="its decoder crashed or ran out of memory")


def decoding_loader(
    items: Any, read: Callable[[Any], Any], batch_size: int, workers: int
) -> DataLoader[Any]:
    """Lists of ``read(item)`` for ``batch_size`` items, in order.

    Args:
        items: a sequence, such as pictures.
        workers: other processes that read; 0 leaves it to this one.
    """
    return DataLoader(
        items,
        batch_size=batch_size,
        num_workers=workers,
        # Arrays go through a pipe; tensors need shared memory, of which containers have 64 MB.
        collate_fn=functools.partial(_read_all, read),
        worker_init_fn=_stop_opencv_threads,
        # Without one of its own, a loader draws from the global random state.
        generator=torch.Generator().manual_seed(0),
    )


def _read_all(read: Callable[[Any], Any], items: list[Any]) -> list[Any]:
    return [read(item) for item in items]


def _stop_opencv_threads(_: int) -> None:
    # A pool of threads does not survive the fork: OpenCV would wait for it for ever.
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(0)


def read_ahead(items: Iterable[Item], depth: int) -> Generator[Item, None, None]:
    """Yield ``items`` while a thread fetches up to ``depth`` more.

    The thread has a second use: a DataLoader whose worker dies raises its error in the main thread,
    wherever that is, unless it is run from another.
    """
    queue: Queue[tuple[Any, BaseException | None]] = Queue()
    room, stop, end = threading.Semaphore(depth), threading.Event(), StopIteration()

    def fetch() -> None:
        try:
            for item in items:
                queue.put((item, None))
                room.acquire()
                if stop.is_set():
                    return
            queue.put((None, end))
        except BaseException as error:
            queue.put((None, error))

    # No pool of threads: a process forked from one of its threads fails when it ends.
    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    try:
        while True:
            item, error = queue.get()
            if error is end:
                return
            if error is not None:
                raise error
            room.release()
            yield item
    finally:
        stop.set()
        room.release()
        thread.join()
