"""Images from files or memory through the model: what `BayesPFL.predict` does.

Symbols: B images, S model's image side, H×W pixels of an image.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import repeat, zip_longest
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bayes_pfl.detect.class_names import check_class_name
from bayes_pfl.detect.inputs import ImageLike, Loaded, batched, load_pixels
from bayes_pfl.detect.results import AnomalyResult, resize_map
from bayes_pfl.detect.scorer import ScoredImage, Scorer, check_whole
from bayes_pfl.errors import ConfigError
from bayes_pfl.fit.calibration import Calibration
from bayes_pfl.fit.decision import Decision, decision
from bayes_pfl.model.network import BayesPFLNetwork


def predict(
    model: BayesPFLNetwork,
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
    calibration: Calibration | str | os.PathLike[str] | None = None,
    uncertainty: bool = True,
    compile: bool = False,
) -> AnomalyResult | list[AnomalyResult]:
    """Detect anomalies in one image, or in several of any sizes.

    The score is half the text score and half the mean of the highest 0.75% of the map's pixels.
    Nothing global is changed: not the random state, the gradient mode, nor the number of threads.

    Args:
        images: a path, Pillow image, array or tensor (values as
            :func:`bayes_pfl.data.images.as_rgb` takes them); or an iterable of these, or an array
            or tensor of four dimensions. For more than fits into memory: :func:`predict_stream`.
        class_name: what the images show, such as "metal nut"; one for all, or one for each.
            Synonyms, as in "screw|bolt", are averaged as text embeddings.
        samples: Monte Carlo samples R; 0 for the mean prompt, whose text is encoded once per class;
            None for the checkpoint's.
        precision: float32 (exact), bfloat16 or float16; or fp32, bf16, fp16.
        batch_size: images at once; the results do not depend on it.
        generator: source of the draws, in place of ``seed``.
        seed: of the draws: the same seed gives the same results.
        smoothing: False leaves the maps as the patches give them.
        threshold: scores of at least this give the label 1, others 0.
        calibration: of the same model, class name and settings, or its file: brings the threshold,
            that of the map, and p-values.
        uncertainty: False leaves the uncertainty map out, which halves the memory of a result.
        compile: the image tower through torch.compile: for long runs, the first batch takes longer.

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
        calibration=calibration,
        uncertainty=uncertainty,
        compile=compile,
    )
    results = list(stream)
    return results[0] if one else results


def predict_stream(
    model: BayesPFLNetwork,
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
    calibration: Calibration | str | os.PathLike[str] | None = None,
    uncertainty: bool = True,
    compile: bool = False,
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
        compile=compile,
    )
    if isinstance(class_name, str):
        check_class_name(model, class_name)
    elif None not in (lengths := (_length(images), _length(class_name))) and len(set(lengths)) > 1:
        raise _unequal()
    rule = decision(
        model,
        class_name,
        threshold=threshold,
        calibration=calibration,
        samples=samples,
        precision=precision,
        smoothing=smoothing,
        seed=seed,
        generator=generator,
    )
    return _stream(scorer, _named(images, class_name), batch_size, rule)


def _stream(
    scorer: Scorer,
    named: Iterator[tuple[ImageLike, str]],
    batch_size: int,
    rule: Decision,
) -> Iterator[AnomalyResult]:
    side = scorer.model.backbone.image_size
    colours = scorer.model.config.scoring.map_range
    loaded = ((load_pixels(image, at, side), name) for at, (image, name) in enumerate(named))
    for batch in batched(loaded, batch_size):
        scored = scorer([item.pixels for item, _ in batch], [name for _, name in batch])
        for (item, name), scores in zip(batch, scored, strict=True):
            yield _result(item, name, scores, rule, colours)


def _result(
    item: Loaded,
    class_name: str,
    scores: ScoredImage,
    rule: Decision,
    colours: tuple[float, float],
) -> AnomalyResult:
    if not scores.finite:
        raise ConfigError(
            f"the score of {item.path or 'an image'} is not finite: the precision overflowed; "
            "use bfloat16 or float32"
        )
    verdict = rule.verdict(scores.score, scores.low, scores.high)
    return AnomalyResult(
        score=scores.score,
        text_score=scores.text_score,
        map_score=scores.map_score,
        uncertainty=scores.uncertainty,
        interval=(scores.low, scores.high),
        anomaly_map=resize_map(scores.map, item.size),  # type: ignore[arg-type]
        uncertainty_map=None if scores.spread is None else resize_map(scores.spread, item.size),
        class_name=class_name,
        size=item.size,
        path=item.path,
        label=verdict.label,
        needs_review=verdict.needs_review,
        p_value=verdict.p_value,
        image=item.image,
        map_range=colours,
        map_threshold=rule.map_threshold,
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
