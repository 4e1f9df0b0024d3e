"""Curves of one category as one picture: ROC, precision-recall, PRO, and the scores themselves."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curves = Mapping[str, np.ndarray]
"""As `PixelMetrics.curves` and `ImageMetrics.curves` return them; empty where there are none."""

_NORMAL, _ANOMALOUS = "#0072b2", "#d55e00"
_LEVELS = (("image", "#0072b2", "-"), ("pixel", "#d55e00", "--"))
_DOTS_PER_INCH = 110


def curves_png(
    title: str,
    image: Curves,
    pixel: Curves,
    scores: np.ndarray,
    labels: np.ndarray,
    fpr_limit: float = 0.3,
) -> bytes:
    """Draw the curves of a category.

    Args:
        image, pixel: curves of the two levels.
        scores, labels: of the images, (n,) each, for the histogram.
        fpr_limit: false positive rate up to which AUPRO integrates; shaded in the PRO panel.

    Returns:
        A PNG file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title.replace("$", r"\$"))
    roc, precision, pro, histogram = figure.subplots(1, 4)
    curves = {"image": image, "pixel": pixel}
    _draw(roc, curves, "fpr", "tpr", "ROC", "false positive rate", "true positive rate")
    roc.plot([0, 1], [0, 1], color="0.8", linewidth=0.8, zorder=0)
    _draw(precision, curves, "recall", "precision", "Precision-recall", "recall", "precision")
    _draw(pro, {"pixel": pixel}, "fpr", "pro", "PRO", "false positive rate", "per-region overlap")
    pro.axvspan(0, fpr_limit, color="0.93", zorder=0)
    _histogram(histogram, scores, labels)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DOTS_PER_INCH)
    return buffer.getvalue()


def _draw(
    axes: Axes, curves: Mapping[str, Curves], x: str, y: str, title: str, across: str, up: str
) -> None:
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
