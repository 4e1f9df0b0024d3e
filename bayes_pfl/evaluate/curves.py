"""Curves of a category as one picture: ROC, precision-recall, PRO, and the scores themselves."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from bayes_pfl.evaluate.records import CategoryRecord, Protocol
from bayes_pfl.metrics.pro import DEFAULT_FPR_LIMIT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curves = Mapping[str, Mapping[str, np.ndarray]]
"""By level, as `PixelMetrics.curves` and `ImageMetrics.curves` return them."""

_NORMAL, _ANOMALOUS = "#0072b2", "#d55e00"
_LEVELS = (("image", "#0072b2", "-"), ("pixel", "#d55e00", "--"))
_DOTS_PER_INCH = 110


def category_curves(record: CategoryRecord, protocol: Protocol, title: str) -> bytes:
    """The curves of a category as a PNG file; AUPRO's range is shaded in the PRO panel."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{title} ({protocol})".replace("$", r"\$"))
    roc, precision, pro, histogram = figure.subplots(1, 4)
    curves = {"pixel": record.pixel_curves}
    if "image" in record.levels:
        curves["image"] = record.image_metrics(protocol).curves()
    _draw(roc, curves, "fpr", "tpr", "ROC", "false positive rate", "true positive rate")
    roc.plot([0, 1], [0, 1], color="0.8", linewidth=0.8, zorder=0)
    _draw(precision, curves, "recall", "precision", "Precision-recall", "recall", "precision")
    _draw(pro, curves, "fpr", "pro", "PRO", "false positive rate", "per-region overlap")
    pro.axvspan(0, DEFAULT_FPR_LIMIT, color="0.93", zorder=0)
    _histogram(histogram, record.image_scores(protocol), record.labels)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DOTS_PER_INCH)
    return buffer.getvalue()


def _draw(axes: Axes, curves: Curves, x: str, y: str, title: str, across: str, up: str) -> None:
    for level, colour, style in _LEVELS:
        values = curves.get(level, {})
        if len(values.get(x, ())) and y in values and np.isfinite(values[x]).all():
            # The curves of the metrics start at the first threshold; a drawn one starts at 0.
            first = float(values[y][0]) if y == "precision" else 0.0
            points = np.append(0.0, values[x]), np.append(first, values[y])
            if np.isfinite(points[1]).all():
                axes.plot(*points, style, color=colour, label=level)
    if axes.lines:
        axes.legend(loc="best" if y == "precision" else "lower right", framealpha=0.8)
    else:
        axes.text(0.5, 0.5, "undefined", ha="center", va="center", color="0.4")
    axes.set(title=title, xlabel=across, ylabel=up, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))


def _histogram(axes: Axes, scores: np.ndarray, labels: np.ndarray) -> None:
    axes.set(title="Image scores", xlabel="score", ylabel="images")
    if len(scores) == 0:
        axes.text(0.5, 0.5, "no images", ha="center", va="center", color="0.4")
        return
    low, high = float(scores.min()), float(scores.max())
    edges = np.linspace(low, high if high > low else low + 1e-6, 31)
    for label, name, colour in ((0, "normal", _NORMAL), (1, "anomalous", _ANOMALOUS)):
        chosen = scores[labels == label]
        if len(chosen):
            axes.hist(
                chosen, edges.tolist(), color=colour, alpha=0.6, label=f"{name} ({len(chosen)})"
            )
    axes.legend(framealpha=0.8)
