"""Checks of what is given to metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bayes_pfl.errors import DataError

ArrayLike = Any  # numpy array, torch tensor on any device, or nested sequence of numbers


def to_numpy(values: ArrayLike) -> np.ndarray:
    """Array, tensor (any device, any float dtype) or sequence -> numpy array, not copied if one."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        # numpy has no bfloat16 and no float8; float32 holds each of their values.
        values = values.float() if values.is_floating_point() and values.itemsize < 4 else values
        values = values.numpy()
    return np.asarray(values)


def check_images(
    maps: ArrayLike, masks: ArrayLike, names: Sequence[str] | str | None, seen: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Maps and masks (B,H,W) or (H,W) -> (maps (B,H,W) float, masks (B,H,W) bool).

    Raises:
        DataError: shapes that differ, NaN or infinite scores, mask values other than 0 and 1.
    """
    maps, masks = _scores(to_numpy(maps), "anomaly maps"), to_numpy(masks)
    if maps.shape != masks.shape or maps.ndim not in (2, 3):
        raise DataError(
            f"maps of shape {maps.shape} with masks of shape {masks.shape}: "
            "both must be (B, H, W) or (H, W), of one size"
        )
    if maps.ndim == 2:
        maps, masks = maps[None], masks[None]
    names = _names(names, len(maps), seen)
    masks = _binary(masks, names, "mask")
    _refuse_non_finite(maps, names, "anomaly map")
    return maps, masks


def check_scores(
    scores: ArrayLike, labels: ArrayLike, names: Sequence[str] | str | None, seen: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Scores and labels, both (n,) or both single numbers -> (scores (n,) float, labels (n,) bool).

    Raises:
        DataError: shapes that differ, NaN or infinite scores, labels other than 0 and 1.
    """
    scores, labels = _scores(to_numpy(scores), "image scores"), to_numpy(labels)
    if scores.shape != labels.shape or scores.ndim > 1:
        raise DataError(
            f"scores of shape {scores.shape} with labels of shape {labels.shape}: both must be (n,)"
        )
    scores, labels = scores.reshape(-1), labels.reshape(-1)
    names = _names(names, len(scores), seen)
    labels = _binary(labels, names, "label")
    _refuse_non_finite(scores, names, "score")
    return scores, labels


def _scores(scores: np.ndarray, what: str) -> np.ndarray:
    if scores.size == 0:
        return scores.astype(np.float32)
    if scores.dtype.kind not in "fiu":
        raise DataError(f"{what} of type {scores.dtype}: real numbers are needed")
    if scores.dtype.kind == "f":
        return scores.astype(np.float32) if scores.itemsize < 4 else scores
    return scores.astype(np.float32 if scores.itemsize < 4 else np.float64)


def _names(names: Sequence[str] | str | None, count: int, seen: int) -> list[str]:
    if names is None:
        return [f"image {seen + i} (counted from 0)" for i in range(count)]
    names = [names] if isinstance(names, str) else [str(name) for name in names]
    if len(names) != count:
        raise DataError(f"{len(names)} names for {count} images: give one for each")
    return names


def _binary(values: np.ndarray, names: list[str], what: str) -> np.ndarray:
    if values.dtype == np.bool_:
        return values
    if values.size and values.dtype.kind not in "fiu":
        raise DataError(
            f"{what}s of type {values.dtype}: booleans, or the numbers 0 and 1, are needed"
        )
    result = np.empty(values.shape, np.bool_)
    for i, name in enumerate(names):
        result[i] = values[i] == 1
        if np.count_nonzero(values[i]) != np.count_nonzero(result[i]):
            wrong = values[i][(values[i] != 0) & ~result[i]].flat[0]
            raise DataError(f"{name}: {what} value {wrong}; allowed are 0 and 1 (pass {what} > 0)")
    return result


def _refuse_non_finite(scores: np.ndarray, names: list[str], what: str) -> None:
    for values, name in zip(scores, names, strict=True):
        finite = np.isfinite(values)
        if not finite.all():
            nan = int(np.isnan(values).sum())
            infinite = int(np.size(values) - finite.sum()) - nan
            raise DataError(
                f"{name}: {what} with {nan} NaN and {infinite} infinite of {values.size} values; "
                "metrics need finite scores, so leave this image out or mend what made it"
            )
