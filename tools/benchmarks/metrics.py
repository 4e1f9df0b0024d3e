"""Time and memory of the pixel metrics, compared with scikit-learn on the same maps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from bayes_pfl.metrics import PixelMetrics
from benchmarks.memory import with_peak_memory

BATCH = 8


def benchmark_metrics(
    maps: int = 100,
    size: int = 518,
    seed: int = 0,
    compare: bool = True,
    scaling: Sequence[int] = (100, 1000),
) -> dict[str, Any]:
    """All pixel metrics of `maps` random maps of size x size, binned mode.

    Args:
        compare: also time scikit-learn's AUROC, AP and precision-recall curve on the same pixels.
        scaling: numbers of maps that are made one batch after the other, for time and memory per
            number.

    Returns:
        {"maps", "size", "seconds", "peak_mb" (above the inputs; None where unknown), "result",
        "sklearn_seconds", "sklearn_peak_mb", "ratio", "largest_difference" (these four with
        `compare`), "scaling": [{"maps", "seconds" (without making the maps), "peak_mb"}, ...]}
    """
    _streamed(seed, BATCH, size)  # warms up what is loaded at first use
    streamed = [_streamed(seed, count, size) for count in scaling]
    maps_and_masks = _held(np.random.default_rng(seed), maps, size)
    report = {"maps": maps, "size": size, **_ours(*maps_and_masks)}
    if compare:
        report |= _scikit_learn(*maps_and_masks, report)
    return report | {"scaling": streamed}


def random_maps(rng: np.random.Generator, count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` maps (B,H,W) float32 in [0, 1) and masks bool; one map in three is normal.

    The scores lean to 0 as a model's do, and rise inside the defects.
    """
    maps = rng.random((count, size, size), dtype=np.float32)
    maps *= maps
    masks = np.zeros((count, size, size), np.uint8)
    for index in np.flatnonzero(rng.random(count) < 2 / 3):
        for _ in range(rng.integers(1, 5)):
            middle = [int(v) for v in rng.integers(0, size, 2)]
            cv2.circle(masks[index], middle, int(rng.integers(1, max(2, size // 12))), 1, -1)
    masks = masks.view(np.bool_)
    maps[masks] = np.sqrt(np.sqrt(maps[masks])) * np.float32(0.999)
    return maps, masks


def _held(rng: np.random.Generator, count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    maps, masks = np.empty((count, size, size), np.float32), np.empty((count, size, size), np.bool_)
    for start in range(0, count, BATCH):
        stop = min(start + BATCH, count)
        maps[start:stop], masks[start:stop] = random_maps(rng, stop - start, size)
    return maps, masks


def _ours(maps: np.ndarray, masks: np.ndarray) -> dict[str, Any]:
    batches = ((maps[i : i + BATCH], masks[i : i + BATCH]) for i in range(0, len(maps), BATCH))
    (result, seconds), peak = with_peak_memory(lambda: _timed(batches))
    return {"seconds": seconds, "peak_mb": peak, "result": result}


def _timed(batches: Iterator[tuple[np.ndarray, np.ndarray]]) -> tuple[dict[str, Any], float]:
    """Metrics of all batches, and the seconds of update and compute, without making the batches."""
    metrics, seconds = PixelMetrics(), 0.0
    for maps, masks in batches:
        seconds += _seconds(lambda maps=maps, masks=masks: metrics.update(maps, masks))[1]
    result, last = _seconds(metrics.compute)
    return result, seconds + last


def _streamed(seed: int, count: int, size: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    batches = (random_maps(rng, min(BATCH, count - i), size) for i in range(0, count, BATCH))
    (_, seconds), peak = with_peak_memory(lambda: _timed(batches))
    return {"maps": count, "seconds": seconds, "peak_mb": peak}


def _scikit_learn(maps: np.ndarray, masks: np.ndarray, report: dict[str, Any]) -> dict[str, Any]:
    labels, scores = masks.reshape(-1), maps.reshape(-1)
    (theirs, seconds), peak = with_peak_memory(
        lambda: _seconds(
            lambda: {
                "auroc": float(roc_auc_score(labels, scores)),
                "ap": float(average_precision_score(labels, scores)),
                "f1_max": _f1_max(labels, scores),
            }
        )
    )
    ours = report["result"]
    return {
        "sklearn_seconds": seconds,
        "sklearn_peak_mb": peak,
        "ratio": seconds / report["seconds"],
        "largest_difference": max(abs(theirs[key] - ours[key]) for key in theirs),
    }


def _f1_max(labels: np.ndarray, scores: np.ndarray) -> float:
    precision, recall, _ = precision_recall_curve(labels, scores)
    return float(np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12)))


def _seconds(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start
