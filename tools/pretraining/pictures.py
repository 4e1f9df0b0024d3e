"""Rendered pictures and crops of them, seen once by the early trunk: maps with their facts.

Symbols: N views of pictures, S their side, C channels and h*w cells of a map.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bayes_pfl.errors import DataError
from pretraining.captions import GOOD, PictureFacts, Rng
from pretraining.cost import Cost
from pretraining.lite_weights import MEAN, STD
from pretraining.split_trunk import SplitTrunk

OnProgress = Callable[[str, int, int], None]
"""Called with the name of a stage, what is done of it, and its total."""
View = tuple[np.ndarray, np.ndarray, PictureFacts]
"""Pixels uint8 (S, S, 3), the defect's mask bool (S, S), and what they show."""
MASK_SIDE = 16
"""Cells along a side of the masks that are kept: shares of a cell that are defective."""

_log = logging.getLogger(__name__)
_LOG_EVERY = 500
_SMALLEST_CROP, _LARGEST_CROP = 0.45, 0.9  # of the side
_VISIBLE = 0.25  # share of a defect that a crop must hold to be called defective


class Renderer(Protocol):
    """As :func:`bayes_pfl.rendering.render`."""

    def __call__(self, category: str, seed: int, index: int, *, size: int, defect: str) -> Any: ...


@dataclass(frozen=True)
class PictureRequest:
    """Arguments of the renderer for one picture."""

    category: str
    seed: int
    index: int
    defect: str


@dataclass(frozen=True)
class PictureMaps:
    """What the early trunk sees of N views.

    Attributes:
        maps: float16 (N, C, h, w).
        masks: uint8 (N, MASK_SIDE, MASK_SIDE): the defect's share of each cell, of 255.
        subjects: what the views show.
        cost: of rendering and encoding them.
    """

    maps: Tensor
    masks: Tensor
    subjects: tuple[PictureFacts, ...]
    cost: Cost = field(default_factory=Cost)

    def save(self, path: Path) -> None:
        """As one .npz without pickles; the caption of a picture without one is empty."""
        columns = {
            "class_name": [s.class_name for s in self.subjects],
            "defect": [s.defect for s in self.subjects],
            "caption": [s.caption or "" for s in self.subjects],
        }
        texts = {name: np.array(values) for name, values in columns.items()}
        cost = np.array([self.cost.wall, self.cost.processor])
        np.savez(path, maps=self.maps.numpy(), masks=self.masks.numpy(), cost=cost, **texts)

    @classmethod
    def load(cls, path: Path) -> PictureMaps:
        """Raises DataError for a file of another kind."""
        try:
            with np.load(path, allow_pickle=False) as data:
                rows = zip(data["class_name"], data["defect"], data["caption"], strict=True)
                subjects = tuple(PictureFacts(str(n), str(d), str(c) or None) for n, d, c in rows)
                cost = Cost(*(float(seconds) for seconds in data["cost"]))
                maps, masks = (torch.from_numpy(data[name]) for name in ("maps", "masks"))
                return cls(maps, masks, subjects, cost)
        except Exception as error:  # numpy and zipfile raise many unrelated types
            raise DataError(f"{path}: not a file of maps ({error}); delete it") from error


def plan(kinds: Mapping[str, Sequence[str]], count: int, seed: int) -> list[PictureRequest]:
    """``count`` pictures, the categories in turn; of each category every second one is defective.

    A defective picture shows the same scene as the good one before it, so that what tells the two
    apart is the defect alone.

    Args:
        kinds: the kinds of defects of each category.
    """
    names, requests = list(kinds), []
    for number in range(count):
        turn, category = number // len(names), names[number % len(names)]
        scene, spoiled = divmod(turn, 2)
        defect = kinds[category][scene % len(kinds[category])] if spoiled else GOOD
        requests.append(PictureRequest(category, seed, scene, defect))
    return requests


def views_of(rendered: Any, count: int, rng: Rng) -> list[View]:
    """The whole picture, then ``count`` - 1 random crops of it, at the same size.

    A crop is defective if it holds a good part of the defect, normal if it holds nothing of it;
    crops between the two are not used.
    """
    subject = PictureFacts(rendered.class_name, rendered.defect, rendered.caption or None)
    views: list[View] = [_turned(rendered.image, rendered.mask, subject, rng)]
    while len(views) < count:
        views.append(_crop(rendered, subject, rng))
    return views


def encode_pictures(
    trunk: SplitTrunk,
    render: Renderer,
    requests: Sequence[PictureRequest],
    *,
    size: int,
    views: int = 1,
    workers: int = 0,
    progress: OnProgress | None = None,
) -> PictureMaps:
    """Render ``requests`` and send ``views`` of each through the early trunk.

    Args:
        trunk: its early part is frozen.
        render: the renderer.
        workers: processes that share the work, one thread each: on CPUs faster than one process
            with as many threads. 0 works in this process.
    """
    loader = DataLoader(
        _Encoded(trunk, render, requests, size, views),
        batch_size=None,
        collate_fn=_as_is,  # tensors in shared memory would exhaust the file descriptors
        num_workers=workers,
        generator=torch.Generator(),  # else the loader would draw from the global state
    )
    begin = Cost.now()
    maps, masks, subjects = [], [], []
    for number, (rows, shares, facts) in enumerate(loader):
        maps.append(torch.from_numpy(rows))
        masks.append(torch.from_numpy(shares))
        subjects.extend(facts)
        if progress:
            progress("pictures", number + 1, len(requests))
        if (number + 1) % _LOG_EVERY == 0:
            _log.info("encoded %d of %d pictures", number + 1, len(requests))
    cost = Cost.now().since(begin)
    return PictureMaps(torch.cat(maps), torch.cat(masks), tuple(subjects), cost)


def _as_is(item: Any) -> Any:
    return item


class _Encoded(Dataset):
    """Item i: maps, masks and subjects of the views of picture i, as arrays."""

    def __init__(
        self,
        trunk: SplitTrunk,
        render: Renderer,
        requests: Sequence[PictureRequest],
        size: int,
        views: int,
    ) -> None:
        self.trunk, self.render, self.requests = trunk, render, requests
        self.size, self.views = size, views
        self.mean, self.std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))

    def __len__(self) -> int:
        return len(self.requests)

    @torch.inference_mode()
    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray, list[PictureFacts]]:
        wanted = self.requests[number]
        rendered = self.render(
            wanted.category, wanted.seed, wanted.index, size=self.size, defect=wanted.defect
        )
        views = views_of(rendered, self.views, np.random.default_rng((wanted.seed, number)))
        pixels = torch.from_numpy(np.stack([pixels for pixels, _, _ in views])).permute(0, 3, 1, 2)
        images = (pixels.float() / 255 - self.mean) / self.std
        maps = self.trunk.early(images.contiguous(memory_format=torch.channels_last))
        masks = torch.from_numpy(np.stack([mask for _, mask, _ in views]))
        shares = F.adaptive_avg_pool2d(masks.float(), MASK_SIDE)
        rows = maps.contiguous().half().numpy()
        return rows, (255 * shares).round().byte().numpy(), [subject for _, _, subject in views]


def _crop(rendered: Any, subject: PictureFacts, rng: Rng) -> View:
    side = rendered.image.shape[0]
    total = int(rendered.mask.sum())
    for _ in range(8):
        length = int(side * rng.uniform(_SMALLEST_CROP, _LARGEST_CROP))
        top, left = (int(value) for value in rng.integers(0, side - length + 1, 2))
        window = (slice(top, top + length), slice(left, left + length))
        inside = int(rendered.mask[window].sum())
        if 0 < inside < _VISIBLE * total:
            continue
        whole = replace(subject, caption=subject.caption if inside or not total else None)
        seen = whole if inside else replace(whole, defect=GOOD)
        crop = Image.fromarray(rendered.image[window])
        pixels = np.asarray(crop.resize((side, side), Image.Resampling.BICUBIC))
        outline = Image.fromarray(np.ascontiguousarray(rendered.mask[window]))
        mask = np.asarray(outline.resize((side, side), Image.Resampling.NEAREST))
        return _turned(pixels, mask, seen, rng)
    return _turned(rendered.image, rendered.mask, subject, rng)


def _turned(pixels: np.ndarray, mask: np.ndarray, subject: PictureFacts, rng: Rng) -> View:
    """Mirrored left to right, or not."""
    if rng.random() < 0.5:
        pixels, mask = np.ascontiguousarray(pixels[:, ::-1]), np.ascontiguousarray(mask[:, ::-1])
    return pixels, mask, subject
