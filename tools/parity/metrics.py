"""The metrics compared with recorded figures: a folder with metrics.npz and metrics.json.

metrics.npz: maps (n,H,W) float32, masks (n,H,W), text_scores (n,), labels (n,). metrics.json:
sections `pixel_raw`, `pixel_smoothed_sigma<S>`, `image_text_only`,
`image_authors_fusion_alpha<A>_top<K>` (each figure by name; 0_5 stands for 0.5) and `fused_scores`,
the list of the fusion's scores.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from bayes_pfl.errors import DataError
from bayes_pfl.metrics import ImageMetrics, PixelMetrics
from bayes_pfl.metrics.curves import Levels, best_f1
from bayes_pfl.metrics.stores import Mode
from bayes_pfl.model.scoring import authors_scores, gaussian_smooth, top_mean

BOUNDS = {"binned": 1e-3, "exact": 1e-6}
AUPRO_BOUND = 2e-3  # the recorded one is a sweep over thresholds
SMOOTHING_BOUND = 1e-4
UNKNOWN = math.nan  # the bound of an unknown figure: nothing passes it
_NUMBER = r"(\d+(?:_\d+)?)"

RecordedFigures = dict[str, "float | None"]


@dataclass(frozen=True)
class Check:
    """A recorded figure and ours."""

    section: str
    figure: str
    mode: str
    expected: float
    got: float
    bound: float
    note: str = ""

    @property
    def difference(self) -> float:
        """Absolute; 0 where both are undefined, infinite where one is."""
        if math.isnan(self.expected) != math.isnan(self.got):
            return math.inf
        return 0.0 if math.isnan(self.got) else abs(self.got - self.expected)

    @property
    def passed(self) -> bool:
        return self.difference <= self.bound

    def __str__(self) -> str:
        name = ".".join(filter(None, (self.section, self.figure)))
        values = f"expected {self.expected:<12.9g} got {self.got:<12.9g}"
        difference = f"difference {self.difference:.2e} (bound {self.bound:g})"
        verdict = "ok  " if self.passed else "FAIL"
        return f"{verdict} {name:54} {self.mode:9} {values} {difference} {self.note}".rstrip()


def checks_report(checks: list[Check]) -> dict[str, Any]:
    """{"passed", "checks": [fields, difference, passed]} for JSON; NaN and infinity are None."""
    rows = []
    for check in checks:
        row = {**asdict(check), "difference": check.difference, "passed": check.passed}
        rows.append({key: _finite(value) for key, value in row.items()})
    return {"passed": bool(checks) and all(check.passed for check in checks), "checks": rows}


def verify_metrics(folder: str | Path) -> list[Check]:
    """Check every figure of `folder` in both modes.

    Raises:
        DataError: a file or an array that is missing or cannot be read.
    """
    arrays, recorded = _read(Path(folder))
    checks: list[Check] = []
    for section, figures in recorded.items():
        checks += _section(section, figures, arrays, recorded)
    return checks


def _read(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    path = folder / "metrics.json"
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))
        path = folder / "metrics.npz"
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("maps", "masks", "text_scores", "labels")}
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise DataError(
            f"{path}: cannot be used ({error}); give a folder with metrics.npz and metrics.json"
        ) from error
    sections = recorded.items() if isinstance(recorded, dict) else [("", recorded)]
    for name, figures in sections:
        if not isinstance(figures, list if name == "fused_scores" else dict):
            raise DataError(f"{folder / 'metrics.json'}: must be an object of sections of figures")
    return arrays, recorded


def _section(
    section: str, figures: Any, arrays: dict[str, np.ndarray], recorded: dict[str, Any]
) -> Iterator[Check]:
    maps, masks, labels = arrays["maps"], arrays["masks"] > 0, arrays["labels"] > 0
    if section == "pixel_raw":
        yield from _pixel(section, figures, maps, masks)
    elif smoothed := re.fullmatch(f"pixel_smoothed_sigma{_NUMBER}", section):
        sigma = _number(smoothed[1])
        reference = np.stack([gaussian_filter(one, sigma) for one in maps])
        ours = gaussian_smooth(torch.from_numpy(maps), sigma).numpy()
        scale = max(1.0, float(np.abs(maps).max(initial=0.0)))  # float32 rounds relative to that
        yield _arrays(section, "smoothing", ours, reference, SMOOTHING_BOUND * scale)
        # The figures are of SciPy's maps: rounding can swap two ranks, which is no metric's fault.
        yield from _pixel(section, figures, reference, masks)
    elif section == "image_text_only":
        yield from _image(section, figures, arrays["text_scores"], labels)
    elif section == "fused_scores":
        for fused in filter(None, (_fusion(name) for name in recorded)):
            yield _arrays(section, "exact", _fused(arrays, *fused), figures, BOUNDS["exact"])
    elif fused := _fusion(section):
        yield from _image(section, figures, _fused(arrays, *fused), labels)
    else:
        yield Check(section, "", "", math.nan, math.nan, UNKNOWN, "a section that is not known")


def _arrays(section: str, mode: str, ours: np.ndarray, recorded: Any, bound: float) -> Check:
    recorded = np.asarray(recorded)
    same = ours.shape == recorded.shape
    largest = float(np.max(np.abs(ours - recorded), initial=0.0)) if same else math.nan
    return Check(section, "largest difference", mode, 0.0, largest, bound)


def _fusion(section: str) -> tuple[float, int] | None:
    """Weight and number of pixels of the authors' fusion, if the section's name asks for one."""
    match = re.fullmatch(rf"image_authors_fusion_alpha{_NUMBER}_top(\d+)", section)
    return (_number(match[1]), int(match[2])) if match else None


def _fused(arrays: dict[str, np.ndarray], alpha: float, k: int) -> np.ndarray:
    means = top_mean(torch.from_numpy(arrays["maps"]), k=k).numpy()
    return authors_scores(arrays["text_scores"], means, alpha)


def _pixel(
    section: str, figures: RecordedFigures, maps: np.ndarray, masks: np.ndarray
) -> Iterator[Check]:
    for mode in get_args(Mode):
        metrics = PixelMetrics(mode)
        metrics.update(maps, masks)
        yield from _checks(section, figures, mode, metrics)


def _image(
    section: str, figures: RecordedFigures, scores: np.ndarray, labels: np.ndarray
) -> Iterator[Check]:
    for mode in get_args(Mode):
        metrics = ImageMetrics(mode)
        metrics.update(scores, labels)
        yield from _checks(section, figures, mode, metrics)


def _checks(
    section: str, figures: RecordedFigures, mode: Mode, metrics: PixelMetrics | ImageMetrics
) -> Iterator[Check]:
    result = metrics.compute()
    result["iou_at_f1_max"] = result.get("iou", math.nan)
    for figure, value in figures.items():
        expected = math.nan if value is None else float(value)
        check = Check(section, figure, mode, expected, result.get(figure, math.nan), BOUNDS[mode])
        if limit := re.fullmatch(f"aupro_fpr{_NUMBER}", figure):
            got = metrics.compute(_number(limit[1]))["aupro"]
            yield replace(check, got=got, bound=AUPRO_BOUND)
        elif re.fullmatch(r"aupro_\d+_steps", figure):
            note = "a coarse sweep, recorded to show its error: no bound"
            yield replace(check, got=result["aupro"], bound=math.inf, note=note)
        elif figure not in result:
            yield replace(check, bound=UNKNOWN, note="a figure that is not known")
        else:
            threshold = figures.get("f1_max_threshold")
            yield check if check.passed else _at_threshold(check, metrics, threshold)


def _at_threshold(
    check: Check, metrics: PixelMetrics | ImageMetrics, threshold: float | None
) -> Check:
    """A threshold other than the recorded one, and the IoU there, are as right at the same F1."""
    levels = metrics.levels()
    if threshold is None or levels.n_positive == 0:
        return check
    if abs(_f1_at(levels, threshold) - best_f1(levels).f1) > check.bound:
        return check
    note = f"ours is {check.got:.9g}, at another threshold of the same F1"
    if check.figure == "f1_max_threshold":
        return replace(check, got=threshold, note=note)
    if check.figure == "iou_at_f1_max":
        return replace(check, got=_iou_above(levels, threshold), note=note)
    return check


def _number(text: str) -> float:
    return float(text.replace("_", "."))


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _f1_at(levels: Levels, threshold: float) -> float:
    """F1 if the levels at or above `threshold` are called anomalous."""
    held = int(np.searchsorted(-levels.thresholds, -threshold, side="right"))
    tp, fp = levels.positives[:held].sum(), levels.negatives[:held].sum()
    return float(2 * tp / (tp + fp + levels.n_positive))


def _iou_above(levels: Levels, threshold: float) -> float:
    """IoU if the levels above `threshold` are called anomalous."""
    held = int(np.searchsorted(-levels.thresholds, -threshold, side="left"))
    tp, fp = levels.positives[:held].sum(), levels.negatives[:held].sum()
    return float(tp / (fp + levels.n_positive))
