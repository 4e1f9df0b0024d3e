"""Patch tokens of augmented views on disk, so that later epochs skip the frozen image tower.

Symbols: n images, K views, N patches, V_l layer widths, D joint width, S image side.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bayes_pfl.clip.frozen_clip import FrozenCLIP, ImageFeatures
from bayes_pfl.config import BackboneConfig
from bayes_pfl.data.records import Sample
from bayes_pfl.errors import DataError
from bayes_pfl.support.error_text import error_reason
from bayes_pfl.support.file_identity import file_stamp

CACHE_FORMAT = 2
_FLOAT16_MAX = float(np.finfo(np.float16).max)


def cache_key(
    backbone: BackboneConfig, samples: Sequence[Sample], augmentation: dict[str, Any]
) -> str:
    """A name made of all that the tokens depend on: backbone, augmentation and every file."""
    paths = [path for s in samples for path in (s.path, s.mask) if path is not None]
    try:
        files = [(str(path.resolve()), *file_stamp(path)) for path in paths]
    except OSError as error:
        reason = f"{error.filename}: {error_reason(error)}"
        raise DataError(f"{reason}; restore it, or leave it out") from error
    content = {"format": CACHE_FORMAT, "backbone": asdict(backbone)}
    content |= {"augmentation": augmentation, "files": files}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]


class FeatureCache:
    """Memory-mapped float16 tokens, float32 embeddings and masks of K views of n images.

    A row is one view of one image. Its checksum is written last and verified at every read, so a
    row that was not written completely is encoded again.

    Args:
        folder: of this cache alone; its name comes from :func:`cache_key`.
        images: n.
        views: K.
        backbone: its sizes give the shapes.

    Raises:
        DataError: the folder cannot be written, or has arrays of other shapes.
    """

    def __init__(self, folder: Path, images: int, views: int, backbone: FrozenCLIP) -> None:
        self.images, self.views = images, views
        rows, size = images * views, backbone.image_size
        patches = backbone.grid[0] * backbone.grid[1]
        shapes: dict[str, tuple[tuple[int, ...], type]] = {
            "pooled": ((rows, backbone.embed_dim), np.float32),
            "mask": ((rows, size, size), np.uint8),
            "label": ((rows,), np.int64),
            "checksum": ((rows,), np.int64),
        }
        self._tokens = [f"tokens_{i}" for i in range(len(backbone.vision_widths))]
        for name, width in zip(self._tokens, backbone.vision_widths, strict=True):
            shapes[name] = ((rows, patches, width), np.float16)
        sizes = (math.prod(shape) * np.dtype(kind).itemsize for shape, kind in shapes.values())
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._arrays = {k: _open(folder / f"{k}.npy", *v) for k, v in shapes.items()}
        except (OSError, ValueError) as error:
            raise DataError(
                f"{folder}: feature cache of {sum(sizes) / 2**30:.2f} GiB cannot be used "
                f"({error_reason(error)}); remove the folder, or choose another --cache-features, "
                "on a disk with room"
            ) from error

    def missing(self, view: int) -> list[int]:
        """Indices of the images whose row of ``view`` has not been written."""
        rows = self._arrays["checksum"][view * self.images : (view + 1) * self.images]
        return np.flatnonzero(np.asarray(rows) == 0).tolist()

    def write(self, view: int, indices: Tensor, features: ImageFeatures, batch: Any) -> None:
        """Write the features, masks and labels of a batch.

        Raises:
            DataError: float16 cannot hold a token.
        """
        rows = view * self.images + indices.cpu().numpy()
        values = {"pooled": features.pooled, "mask": batch["mask"], "label": batch["label"]}
        values |= dict(zip(self._tokens, features.tokens, strict=True))
        for name, value in values.items():
            if name in self._tokens and value.abs().max() > _FLOAT16_MAX:
                raise DataError("tokens exceed float16; train without --cache-features")
            self._arrays[name][rows] = value.cpu().numpy()
        for row in rows:
            self._arrays["checksum"][row] = self._checksum(row)

    def read(self, view: int, indices: Sequence[int]) -> dict[str, Any]:
        """The batch of ``indices`` as it was written.

        Returns:
            {"pooled": (B, D), "tokens": (B, N, V_l) of each layer, "mask": (B, S, S), all float32,
            "label": (B,), "index": (B,)}

        Raises:
            DataError: the checksum of a row does not match.
        """
        rows = view * self.images + np.asarray(indices)
        broken = [r for r in rows if self._arrays["checksum"][r] != self._checksum(r)]
        if broken:
            raise DataError(
                f"feature cache: row {broken[0]} is damaged; remove the cache folder, train again"
            )
        return {
            "pooled": self._tensor("pooled", rows),
            "tokens": tuple(self._tensor(name, rows).float() for name in self._tokens),
            "mask": self._tensor("mask", rows).float(),
            "label": self._tensor("label", rows),
            "index": torch.as_tensor(indices),
        }

    def flush(self) -> None:
        """Write everything to the disk now."""
        for array in self._arrays.values():
            array.flush()

    def _tensor(self, name: str, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(np.asarray(self._arrays[name][rows]))

    def _checksum(self, row: int) -> int:
        value = 0
        for name in ("pooled", "mask", "label", *self._tokens):
            value = zlib.crc32(np.ascontiguousarray(self._arrays[name][row]).data, value)
        return value + 1  # 0 marks a row that was never written


def _open(path: Path, shape: tuple[int, ...], dtype: type) -> np.memmap:
    if path.exists():
        array = np.lib.format.open_memmap(path, mode="r+")
        if array.shape != shape or array.dtype != dtype:
            raise ValueError(f"{path.name} has another shape")
        return array
    # Renamed when complete, because a run that is stopped here must not leave a short file.
    fresh = path.with_suffix(".new.npy")
    try:
        np.lib.format.open_memmap(fresh, mode="w+", dtype=dtype, shape=shape)
        _reserve(fresh)
        os.replace(fresh, path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    return np.lib.format.open_memmap(path, mode="r+")


def _reserve(path: Path) -> None:
    """Take the disk's space for a sparse file now: a write into a map has no error, but a signal.

    Raises:
        OSError: there is less.
    """
    size = path.stat().st_size
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    elif shutil.disk_usage(path.parent).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
