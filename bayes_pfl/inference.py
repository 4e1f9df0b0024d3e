"""Images from files or memory through the model: what `BayesPFL.predict` does.

Symbols: B images, S model's image side, H×W pixels of an image.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, repeat, zip_longest
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bayes_pfl.data.images import as_rgb, read_image
from bayes_pfl.data.transforms import resize_image
from bayes_pfl.draws import PromptNoise, RunSamples
from bayes_pfl.errors import ConfigError, DataError
from bayes_pfl.model import BatchScores, BayesPFL
from bayes_pfl.precision import autocast
from bayes_pfl.results import AnomalyResult, resize_map
from bayes_pfl.scoring import DEPLOY_FRACTION, gaussian_smooth, top_mean

ImageLike: TypeAlias = "str | os.PathLike[str] | Image.Image | np.ndarray | Tensor"
Item = TypeVar("Item")


@dataclass(frozen=True)
class ScoredImage:
    """Scores of one image, as in :class:`AnomalyResult`; its maps on the CPU at the model's size.

    Attributes:
        map: (S, S) in [0, 1]; None if maps were not asked for.
        spread: (S, S) in [0, 0.5]; likewise.
    """

    score: float
    text_score: float
    map_score: float
    uncertainty: float
    map: Tensor | None
    spread: Tensor | None

    @property
    def finite(self) -> bool:
        """False where half precision overflowed."""
        return bool(np.isfinite(self.score) and np.isfinite(self.uncertainty))


class Scorer:
    """A model with the settings and the random draws of one run; scores any number of batches.

    Every image meets the same draws, so its result does not depend on the batch it came in.

    Args:
        samples: R; None for the checkpoint's.
        precision: float32 (exact), bfloat16 or float16; or fp32, bf16, fp16.
        seed, generator: of the draws; a generator is used, and advanced, in place of the seed.
        smoothing: of the maps; the scores never see it.
        maps, spread: whether the maps, and those of the uncertainty, are wanted.

    Raises:
        ConfigError: a setting that cannot be used.
    """

    def __init__(
        self,
        model: BayesPFL,
        *,
        samples: int | None = None,
        precision: str = "float32",
        seed: int = 0,
        generator: torch.Generator | None = None,
        smoothing: bool = True,
        maps: bool = True,
        spread: bool = True,
    ) -> None:
        autocast(model.device, precision)  # an unknown name should be told before any work
        self.model, self.precision = model, precision
        self.draws = run_draws(model, samples, seed, generator)
        self.sigma = model.config.scoring.smoothing * model.backbone.image_size if smoothing else 0
        self.maps, self.spread = maps, spread

    @torch.no_grad()
    def __call__(self, pixels: Sequence[np.ndarray], class_names: Sequence[str]) -> list[ScoredImage]:
        """Score B pictures, uint8 (S, S, 3) each, with their class names."""
        try:
            with autocast(self.model.device, self.precision):
                scores = self.model.score_batch(self._normalised(pixels), class_names, self.draws)
            return self._images(scores)
        except torch.OutOfMemoryError as error:
            raise ConfigError(
                f"{self.model.device} has no memory for a batch of {len(pixels)} with "
                f"{self.draws.count} samples; use a smaller batch size, or fewer samples"
            ) from error

    def _normalised(self, pixels: Sequence[np.ndarray]) -> Tensor:
        """uint8 pictures -> float32 (B, 3, S, S) on the device; bytes travel, not floats."""
        device, backbone = self.model.device, self.model.backbone
        batch = torch.from_numpy(np.stack(pixels))
        if device.type == "cuda":
            batch = batch.pin_memory()
        values = batch.to(device, non_blocking=True).permute(0, 3, 1, 2).float() / 255
        mean = torch.tensor(backbone.mean, device=device).view(3, 1, 1)
        std = torch.tensor(backbone.std, device=device).view(3, 1, 1)
        return ((values - mean) / std).contiguous()

    def _images(self, scores: BatchScores) -> list[ScoredImage]:
        map_score = top_mean(scores.map, fraction=DEPLOY_FRACTION)
        columns = (
            (scores.text_score + map_score) / 2,
            scores.text_score,
            map_score,
            (scores.text_spread + top_spread(scores.map, scores.map_spread)) / 2,
        )
        rows = torch.stack([column.float() for column in columns], dim=1).tolist()
        nothing: Iterable[None] = repeat(None, len(rows))
        maps = gaussian_smooth(scores.map, self.sigma).cpu() if self.maps else nothing
        spreads = scores.map_spread.cpu() if self.spread else nothing
        return [ScoredImage(*row, *m) for row, *m in zip(rows, maps, spreads, strict=True)]


def run_draws(
    model: BayesPFL, samples: int | None, seed: int, generator: torch.Generator | None = None
) -> RunSamples:
    """The draws of a run, from a seed or from the user's generator; the global one is not touched.

    Raises:
        ConfigError: fewer than one sample.
    """
    count = model.config.scoring.samples if samples is None else samples
    check_whole("samples", count, 1)
    with torch.no_grad():
        if generator is None:
            return model.draw(count, seed)
        return model.samples_from(
            PromptNoise.draw(count, model.backbone.embed_dim, generator)
        )


def top_spread(maps: Tensor, spread: Tensor, fraction: float = DEPLOY_FRACTION) -> Tensor:
    """Mean of the spread over the highest pixels of the maps: both (B, H, W) -> (B,).

    Ties at the limit are all taken: which of equal pixels comes first depends on the batch.
    """
    count = max(1, round(fraction * maps[0].numel()))
    limit = maps.flatten(1).topk(count, dim=1, sorted=True).values[:, -1]
    highest = maps >= limit.view(-1, 1, 1)
    return (spread * highest).sum((1, 2)) / highest.sum((1, 2))


def predict(
    model: BayesPFL,
    images: ImageLike | Iterable[ImageLike],
    class_name: str | Iterable[str],
    *,
    samples: int | None = None,
    precision: str = "float32",
    batch_size: int = 8,
    generator: torch.Generator | None = None,
    seed: int = 0,
    smoothing: bool = True,
    threshold: float | None = None,
    uncertainty: bool = True,
) -> AnomalyResult | list[AnomalyResult]:
    """Detect anomalies in one image, or in several of any sizes.

    The score is half the text score and half the mean of the highest 0.75% of the map's pixels.
    Nothing global is changed: not the random state, the gradient mode, nor the number of threads.

    Args:
        images: a path, Pillow image, array or tensor (values as
            :func:`bayes_pfl.data.images.as_rgb` takes them); or an iterable of these, or an array
            or tensor of four dimensions. For more than fits into memory: :func:`predict_stream`.
        class_name: what the images show, such as "metal nut"; one for all, or one for each.
        samples: Monte Carlo samples R; None for the checkpoint's.
        precision: float32 (exact), bfloat16 or float16; or fp32, bf16, fp16.
        batch_size: images at once; the results do not depend on it.
        generator: source of the draws, in place of ``seed``.
        seed: of the draws: the same seed gives the same results.
        smoothing: False leaves the maps as the patches give them.
        threshold: scores of at least this give the label 1, others 0.
        uncertainty: False leaves the uncertainty map out, which halves the memory of a result.

    Returns:
        One result for one image, else a list in the order given.

    Raises:
        ConfigError: a setting that cannot be used, or names and images that differ in number.
        DataError: an image that cannot be read (the message names it), or an unusable class name.
    """
    one = _is_one(images)
    if one and not isinstance(class_name, str):
        raise ConfigError(f"class_name = {class_name!r}: for one image, give one name")
    stream = predict_stream(
        model,
        [images] if one else images,  # type: ignore[list-item, arg-type]
        class_name,
        samples=samples,
        precision=precision,
        batch_size=batch_size,
        generator=generator,
        seed=seed,
        smoothing=smoothing,
        threshold=threshold,
        uncertainty=uncertainty,
    )
    results = list(stream)
    return results[0] if one else results


def predict_stream(
    model: BayesPFL,
    images: Iterable[ImageLike],
    class_name: str | Iterable[str],
    *,
    samples: int | None = None,
    precision: str = "float32",
    batch_size: int = 8,
    generator: torch.Generator | None = None,
    seed: int = 0,
    smoothing: bool = True,
    threshold: float | None = None,
    uncertainty: bool = True,
) -> Iterator[AnomalyResult]:
    """As :func:`predict`, one result after the other: of any number of images a batch is held.

    Settings are checked at once, images when their turn comes.
    """
    check_whole("batch_size", batch_size, 1)
    scorer = Scorer(
        model,
        samples=samples,
        precision=precision,
        seed=seed,
        generator=generator,
        smoothing=smoothing,
        spread=uncertainty,
    )
    if isinstance(class_name, str):
        check_class_name(model, class_name)
    elif _length(images) != _length(class_name) and None not in (_length(images), _length(class_name)):
        raise _unequal()
    return _stream(scorer, _named(images, class_name), batch_size, threshold)


def check_class_name(model: BayesPFL, name: str) -> None:
    """Raise DataError for a name that is empty, or too long for the text tower."""
    prompts = model.config.prompts
    model.backbone.tokenize([name], prompts.context_tokens + prompts.state_tokens)


def check_whole(name: str, value: Any, low: int) -> None:
    """Raise ConfigError unless ``value`` is a whole number of at least ``low``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ConfigError(f"{name} = {value!r}: must be a whole number, {low} at least")


@dataclass(frozen=True)
class _Loaded:
    """An image on its way: what the model needs, and what the result keeps."""

    pixels: np.ndarray
    size: tuple[int, int]
    class_name: str
    path: str | None
    image: Image.Image | None


def _stream(
    scorer: Scorer,
    named: Iterator[tuple[ImageLike, str]],
    batch_size: int,
    threshold: float | None,
) -> Iterator[AnomalyResult]:
    side = scorer.model.backbone.image_size
    loaded = (_load(image, name, index, side) for index, (image, name) in enumerate(named))
    for batch in batched(loaded, batch_size):
        scored = scorer([x.pixels for x in batch], [x.class_name for x in batch])
        for item, scores in zip(batch, scored, strict=True):
            yield _result(item, scores, threshold)


def batched(items: Iterable[Item], count: int) -> Iterator[list[Item]]:
    """Lists of ``count`` items, the last one perhaps shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, count)):
        yield batch


def _load(image: ImageLike, class_name: str, index: int, side: int) -> _Loaded:
    if isinstance(image, str | os.PathLike):
        rgb, path = read_image(image), os.fspath(image)
        return _Loaded(resize_image(rgb, side), rgb.size, class_name, path, None)
    try:
        rgb = as_rgb(image)
    except DataError as error:
        raise DataError(f"image {index}: {error}") from error
    return _Loaded(resize_image(rgb, side), rgb.size, class_name, None, rgb)


def _result(item: _Loaded, scores: ScoredImage, threshold: float | None) -> AnomalyResult:
    if not scores.finite:
        raise ConfigError(
            f"the score of {item.path or 'an image'} is not finite: the precision overflowed; "
            "use bfloat16 or float32"
        )
    assert scores.map is not None
    return AnomalyResult(
        score=scores.score,
        text_score=scores.text_score,
        map_score=scores.map_score,
        uncertainty=scores.uncertainty,
        anomaly_map=resize_map(scores.map, item.size),
        uncertainty_map=None if scores.spread is None else resize_map(scores.spread, item.size),
        class_name=item.class_name,
        size=item.size,
        path=item.path,
        label=None if threshold is None else int(scores.score >= threshold),
        image=item.image,
    )


def _is_one(images: Any) -> bool:
    if isinstance(images, np.ndarray | Tensor):
        return images.ndim != 4
    # What is neither an image nor iterable is refused with the images' own message.
    known = isinstance(images, str | bytes | os.PathLike | Image.Image)
    return known or not isinstance(images, Iterable)


def _named(
    images: Iterable[ImageLike], class_name: str | Iterable[str]
) -> Iterator[tuple[ImageLike, str]]:
    if isinstance(class_name, str):
        yield from zip(images, repeat(class_name))  # noqa: B905  (the name never ends)
        return
    missing = object()
    for image, name in zip_longest(images, class_name, fillvalue=missing):
        if image is missing or name is missing:
            raise _unequal()
        if not isinstance(name, str):
            raise ConfigError(f"class name {name!r} is not a word; give strings")
        yield image, name  # type: ignore[misc]


def _unequal() -> ConfigError:
    return ConfigError(
        "images and class names differ in number; give one name for all, or one for each image"
    )


def _length(items: Any) -> int | None:
    return len(items) if hasattr(items, "__len__") else None
