"""From names and numbers to batches of pictures with their masks, on any device."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bayes_pfl.data.synthetic.batched.camera import photograph
from bayes_pfl.data.synthetic.batched.families import BATCHED
from bayes_pfl.data.synthetic.batched.faults import spoil
from bayes_pfl.data.synthetic.batched.fields import plane
from bayes_pfl.data.synthetic.batched.hashing import Draws
from bayes_pfl.data.synthetic.batched.scene import Scene
from bayes_pfl.data.synthetic.captions import caption
from bayes_pfl.data.synthetic.render import Rendered, check_size, kind_of
from bayes_pfl.errors import ConfigError


@dataclass(frozen=True)
class RenderedBatch:
    """Rendered pictures; the tensors stay on the device that they were drawn on.

    images       uint8 (B, 3, S, S), RGB
    masks        bool (B, S, S), True where the fault shows; all False for "good"
    categories   names in ``BATCHED``
    class_names  how a prompt calls each
    defects      "good" or the kind of fault
    captions     a sentence for each that names the thing and its state
    """

    images: Tensor
    masks: Tensor
    categories: tuple[str, ...]
    class_names: tuple[str, ...]
    defects: tuple[str, ...]
    captions: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def pictures(self) -> Iterator[Rendered]:
        """One picture after the other, as ``synthetic.render`` gives them."""
        images, masks = self.images.permute(0, 2, 3, 1).cpu().numpy(), self.masks.cpu().numpy()
        words = self.categories, self.class_names, self.defects, self.captions
        for image, mask, *rest in zip(images, masks, *words, strict=True):
            yield Rendered(image, mask, *rest)


@dataclass(frozen=True)
class ExposedBatch:
    """Scenes before the camera, clean and spoiled, both float32 (B, 3, S, S), and the masks."""

    scene: Scene
    clean: Tensor
    spoiled: Tensor
    masks: Tensor
    defects: tuple[str, ...]


def render_batch(
    categories: Sequence[str],
    seed: int,
    indices: Sequence[int],
    *,
    size: int = 256,
    defects: Sequence[str | None] | None = None,
    device: str | torch.device = "cpu",
) -> RenderedBatch:
    """Render a batch: picture i is number ``indices[i]`` of ``categories[i]``.

    Each entry of ``defects`` is None or "good" for a faultless picture, the name of a kind of
    fault, or "random" for one that the family lists; without ``defects`` all are faultless. A
    picture depends on its own arguments alone, never on the rest of the batch. With all else equal,
    the faultless and the faulty picture show the same scene through the same camera.

    Raises ConfigError for an unknown name, kind of fault or device, sequences of unequal lengths,
    or a size out of range.
    """
    shot = expose_batch(categories, seed, indices, size=size, defects=defects, device=device)
    draws = Draws.of(categories, seed, indices, shot.clean.device)
    images = photograph(draws, shot.spoiled, shot.scene.grey)
    names = tuple(BATCHED[name].class_name for name in categories)
    masks, grey = shot.masks.cpu().numpy(), shot.scene.grey.tolist()
    captions = tuple(
        caption(_words(name, seed, index), word, kind, mask, dull, BATCHED[name].kind == "organic")
        for name, index, word, kind, mask, dull in zip(
            categories, indices, names, shot.defects, masks, grey, strict=True
        )
    )
    return RenderedBatch(images, shot.masks, tuple(categories), names, shot.defects, captions)


def expose_batch(
    categories: Sequence[str],
    seed: int,
    indices: Sequence[int],
    *,
    size: int = 256,
    defects: Sequence[str | None] | None = None,
    device: str | torch.device = "cpu",
) -> ExposedBatch:
    """What the camera will see: the same scenes with and without their faults, and the masks."""
    defects = [None] * len(categories) if defects is None else defects
    _check(categories, indices, defects, size)
    place = find_device(str(device))
    draws = Draws.of(categories, seed, indices, place)
    kinds = tuple(
        _kind(name, seed, index, kind)
        for name, index, kind in zip(categories, indices, defects, strict=True)
    )
    scene = _scenes(categories, draws, size)
    image, masks = scene.image.clone(), torch.zeros_like(scene.where, dtype=torch.bool)
    for kind, rows in _groups(kinds, place).items():
        if kind != "good":
            image[rows], masks[rows] = spoil(draws.rows(rows).under(kind), scene.rows(rows), kind)
    return ExposedBatch(scene, scene.lit(scene.image), scene.lit(image), masks, kinds)


def find_device(name: str) -> torch.device:
    """The device of a name; "auto" is CUDA where there is one, else the processor."""
    there = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if there else "cpu")
    kind, _, number = name.partition(":")
    known = kind == "cpu" and not number or kind == "cuda" and (not number or number.isdigit())
    if not known:
        raise ConfigError(f"device {name!r} is not known: give cpu, cuda, cuda:0 or auto")
    count = torch.cuda.device_count() if there else 0
    if kind == "cuda" and int(number or 0) >= count:
        raise ConfigError(
            f"device {name!r} is not here (CUDA devices found: {count}): give cpu or auto"
        )
    return torch.device(name)


def _scenes(categories: Sequence[str], draws: Draws, size: int) -> Scene:
    """Every family's pictures in one go, then put back in order."""
    parts, order = [], []
    for name, rows in _groups(categories, draws.keys.device).items():
        at = plane(len(rows), size, rows.device)
        parts.append(BATCHED[name].build(draws.rows(rows), at))
        order.append(rows)
    return Scene.gather(parts, torch.cat(order))


def _groups(names: Sequence[str], device: torch.device) -> dict[str, Tensor]:
    """Where each name is."""
    rows = {name: [i for i, n in enumerate(names) if n == name] for name in dict.fromkeys(names)}
    return {name: torch.tensor(row, device=device) for name, row in rows.items()}


def _check(
    categories: Sequence[str], indices: Sequence[int], defects: Sequence[str | None], size: int
) -> None:
    if unknown := [name for name in categories if name not in BATCHED]:
        raise ConfigError(
            f"unknown category {unknown[0]!r}: in batches choose of {', '.join(sorted(BATCHED))}"
        )
    numbers = len(categories), len(indices), len(defects)
    if len(set(numbers)) > 1 or not categories:
        raise ConfigError(
            f"{numbers[0]} categories, {numbers[1]} indices and {numbers[2]} defects: "
            "give as many of each, at least one"
        )
    check_size(size)


def _kind(name: str, seed: int, index: int, defect: str | None) -> str:
    kinds = BATCHED[name].defects

    def pick() -> int:
        draws = Draws.of([name], seed, [index], torch.device("cpu"))
        return int(draws.bits("kind", 1)) % len(kinds)

    return kind_of(name, kinds, defect, pick)


def _words(category: str, seed: int, index: int) -> np.random.Generator:
    names = zlib.crc32(category.encode()), zlib.crc32(b"words")
    return np.random.default_rng([*names, seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF, index])
