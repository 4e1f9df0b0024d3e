"""Rendered pictures and crops of them, seen once by the frozen trunk: features with their facts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from bayes_pfl.errors import DataError
from bayes_pfl.pretraining.captions import GOOD, Rng, Subject
from bayes_pfl.pretraining.lite_weights import MEAN, STD

Progress = Callable[[str, int, int], None]
"""Called with the name of a stage, what is done of it, and its total."""
View = tuple[np.ndarray, Subject]
"""Pixels uint8 (S, S, 3) and what they show."""

_log = logging.getLogger(__name__)
_BATCH = 16  # the fastest on CPUs in channels-last order: larger ones leave the cache
_SMALLEST_CROP, _LARGEST_CROP = 0.45, 0.9  # of the side
_VISIBLE = 0.25  # share of a defect that a crop must hold to be called defective


class Renderer(Protocol):
    """As :func:`bayes_pfl.data.synthetic.render`."""

    def __call__(self, category: str, seed: int, index: int, *, size: int, defect: str) -> Any: ...


@dataclass(frozen=True)
class PictureRequest:
    """Arguments of the renderer for one picture."""

    category: str
    seed: int
    index: int
    defect: str


@dataclass(frozen=True)
class FeatureSet:
    """Pooled features (N, 1280) and, in the same order, what their pictures show."""

    features: Tensor
    subjects: tuple[Subject, ...]

    def save(self, path: Path) -> None:
        """As one .npz without pickles; the caption of a picture without one is empty."""
        columns = {
            "class_name": [s.class_name for s in self.subjects],
            "defect": [s.defect for s in self.subjects],
            "caption": [s.caption or "" for s in self.subjects],
        }
        texts = {name: np.array(values) for name, values in columns.items()}
        np.savez(path, features=self.features.numpy(), **texts)

    @classmethod
    def load(cls, path: Path) -> FeatureSet:
        """Raises DataError for a file of another kind."""
        try:
            with np.load(path, allow_pickle=False) as data:
                rows = zip(data["class_name"], data["defect"], data["caption"], strict=True)
                subjects = tuple(Subject(str(n), str(d), str(c) or None) for n, d, c in rows)
                return cls(torch.from_numpy(data["features"]), subjects)
        except Exception as error:  # numpy and zipfile raise many unrelated types
            raise DataError(f"{path}: not a file of features ({error}); delete it") from error


def plan(
    kinds: Mapping[str, Sequence[str]], count: int, seed: int, first: int = 0
) -> list[PictureRequest]:
    """``count`` pictures, the categories in turn, every second one of a category defective.

    Args:
        kinds: the kinds of defects of each category.
        first: index of the first picture of each category.
    """
    names, requests = list(kinds), []
    for number in range(count):
        turn, category = number // len(names), names[number % len(names)]
        defects = kinds[category]
        defect = defects[turn // 2 % len(defects)] if turn % 2 and defects else GOOD
        requests.append(PictureRequest(category, seed, first + turn, defect))
    return requests


def views_of(rendered: Any, count: int, rng: Rng) -> list[View]:
    """The whole picture, then ``count`` - 1 random crops of it, at the same size.

    A crop is defective if it holds a good part of the defect, normal if it holds nothing of it;
    crops between the two are not used.
    """
    subject = Subject(rendered.class_name, rendered.defect, rendered.caption or None)
    views: list[View] = [(_turned(rendered.image, rng), subject)]
    while len(views) < count:
        views.append(_crop(rendered, subject, rng))
    return views


def embed_pictures(
    trunk: nn.Module,
    render: Renderer,
    requests: Sequence[PictureRequest],
    *,
    size: int,
    views: int = 1,
    workers: int = 0,
    progress: Progress | None = None,
) -> FeatureSet:
    """Render ``requests`` and embed ``views`` of each.

    Args:
        trunk: frozen network, images (B, 3, S, S) -> pooled features (B, 1280).
        render: the renderer; with ``workers``, it runs in that many processes.
    """
    trunk = trunk.to(memory_format=torch.channels_last)
    features, subjects = [], []
    for number, (pixels, facts) in enumerate(_rendered(render, requests, size, views, workers)):
        features.append(_embed(trunk, pixels))
        subjects.extend(facts)
        if progress:
            progress("pictures", min((number + 1) * _BATCH, len(requests)), len(requests))
    _log.info("embedded %d views of %d pictures", len(subjects), len(requests))
    return FeatureSet(torch.cat(features), tuple(subjects))


class _Pictures(Dataset):
    def __init__(
        self, render: Renderer, requests: Sequence[PictureRequest], size: int, views: int
    ) -> None:
        self.render, self.requests, self.size, self.views = render, requests, size, views

    def __len__(self) -> int:
        return len(self.requests)

    def __getitem__(self, number: int) -> list[View]:
        wanted = self.requests[number]
        rendered = self.render(
            wanted.category, wanted.seed, wanted.index, size=self.size, defect=wanted.defect
        )
        return views_of(rendered, self.views, np.random.default_rng((wanted.seed, number)))


def _rendered(
    render: Renderer, requests: Sequence[PictureRequest], size: int, views: int, workers: int
) -> Iterator[tuple[Tensor, list[Subject]]]:
    return iter(
        DataLoader(
            _Pictures(render, requests, size, views),
            batch_size=_BATCH,
            num_workers=workers,
            collate_fn=_stack,
            generator=torch.Generator(),  # else the loader would draw from the global state
        )
    )


def _stack(pictures: Sequence[Sequence[View]]) -> tuple[Tensor, list[Subject]]:
    """Pixels uint8 (B, 3, S, S) of all views, and their subjects."""
    flat = [view for picture in pictures for view in picture]
    pixels = torch.from_numpy(np.stack([pixels for pixels, _ in flat]))
    return pixels.permute(0, 3, 1, 2), [subject for _, subject in flat]


@torch.inference_mode()
def _embed(trunk: nn.Module, pixels: Tensor) -> Tensor:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    images = ((pixels.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)
    return torch.cat([trunk(part) for part in images.split(_BATCH)]).clone()


def _crop(rendered: Any, subject: Subject, rng: Rng) -> View:
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
        return _turned(pixels, rng), seen
    return _turned(rendered.image, rng), subject


def _turned(pixels: np.ndarray, rng: Rng) -> np.ndarray:
    """Mirrored left to right, or not."""
    return np.ascontiguousarray(pixels[:, ::-1] if rng.random() < 0.5 else pixels)
