"""The app's page, in Gradio: its inputs, its outputs, and what connects them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import gradio as gr
from gradio.processing_utils import save_pil_to_cache

from bayes_pfl.app.gate import visitor_of
from bayes_pfl.app.inspection import Inspected, InspectionRequest, Inspector
from bayes_pfl.app.uploads import Uploads
from bayes_pfl.data.image_files import readable_suffixes
from bayes_pfl.detect.results import AnomalyResult
from bayes_pfl.errors import BayesPFLError, ConfigError
from bayes_pfl.support.parsing import short

FOOTER: list[Any] = []
STYLE = """
#overlays .thumbnail-item { aspect-ratio: 2.9; }
#overlays .thumbnail-item img { object-fit: contain; }
#overlays .caption-label { white-space: pre-wrap; }
#table * { font-family: system-ui, sans-serif !important; }
#go { min-height: 3rem; }
footer { display: none !important; }
"""
# Widths in percent; the rest is for the problem.
_COLUMNS = {"image": 24, "verdict": 13, "score": 8, "95% interval": 15, "uncertainty": 12}
_P_VALUE = {"p-value": 9}
_FONTS = (["system-ui", "sans-serif"], ["ui-monospace", "monospace"])
_HOUR = 3600
_WAITING = 8  # requests in the queue; more are refused
_EXPLAINED = """
Drop photographs, say in a word or two what they show, press *Inspect*. The **score** is how
abnormal an image looks, from 0 to 1; the **interval** holds 95% of the scores that the sampled
prompts give one by one. With a threshold, an image is *flagged* at or above it; with the threshold
of a profile, it is marked for *review* just below it. What is dropped here stays on this computer.
"""


def theme() -> gr.themes.Base:
    """Gradio's theme with fonts of the computer, so that none are downloaded."""
    return gr.themes.Default(primary_hue="blue", font=_FONTS[0], font_mono=_FONTS[1])


def build_page(inspector: Inspector, uploads: Uploads) -> gr.Blocks:
    """The page that shows what an inspector finds."""
    offered = list(inspector.settings.checkpoints)
    with gr.Blocks(
        title="bayes-pfl", analytics_enabled=False, delete_cache=(_HOUR, _HOUR), fill_width=True
    ) as page:
        gr.Markdown("# Is anything wrong with it?")
        with gr.Row():
            with gr.Column(scale=1, min_width=320):
                asked = _questions(inspector, offered)
                go = gr.Button("Inspect", variant="primary", elem_id="go")
                gr.Markdown(_EXPLAINED + _limits(inspector))
            with gr.Column(scale=3):
                shown = _answers(_calibrated(inspector))

        # Gradio passes the request, because of its type.
        def answer(request: gr.Request, *values: Any) -> Iterator[tuple[str, Any, Any]]:
            visitor = visitor_of(request.headers.get("cookie", ""))
            yield from _answer(inspector, uploads, visitor, *values)

        go.click(answer, asked, shown, concurrency_limit=1, api_visibility="private")
    return page.queue(max_size=_WAITING)


def _questions(inspector: Inspector, offered: list[str]) -> list[Any]:
    default = inspector.model(offered[0]).config.scoring.samples
    note = "the profile's or calibration's, if left empty" if _calibrated(inspector) else "optional"
    return [
        gr.File(
            label="Images",
            file_count="multiple",
            file_types=list(readable_suffixes()),
            type="filepath",
            elem_id="files",
        ),
        gr.Textbox(label="What they show", placeholder="metal nut", elem_id="name", max_length=200),
        # A Textbox, because an empty Number arrives as 0.
        gr.Textbox(label=f"Threshold: {note}", placeholder="0.5", elem_id="threshold"),
        gr.Dropdown(offered, value=offered[0], label="Checkpoint", elem_id="checkpoint"),
        gr.Slider(0, 50, default, step=1, label="Samples: more is steadier, and slower"),
    ]


def _calibrated(inspector: Inspector) -> bool:
    """Whether there may be p-values."""
    return inspector.settings.calibration is not None or inspector.settings.profile is not None


def _limits(inspector: Inspector) -> str:
    known = inspector.settings
    return (
        f"\n\nAt once: {known.max_files} files of at most {known.max_bytes // 2**20} MiB and "
        f"{known.max_pixels / 1e6:.0f} megapixels each. More: `bayes-pfl predict`."
    )


def _answers(calibrated: bool) -> list[Any]:
    columns = _COLUMNS | (_P_VALUE if calibrated else {})
    columns["problem"] = 100 - sum(columns.values())
    return [
        gr.Textbox(label="Status", value="Nothing inspected yet.", lines=1, elem_id="status"),
        gr.Dataframe(
            headers=list(columns),
            datatype=["str"] * len(columns),
            column_widths=[f"{width}%" for width in columns.values()],
            interactive=False,
            wrap=True,
            elem_id="table",
        ),
        gr.Gallery(
            label="Image, map, uncertainty",
            columns=1,
            height="auto",
            elem_id="overlays",
            buttons=["download", "fullscreen"],
        ),
    ]


def _answer(
    inspector: Inspector,
    uploads: Uploads,
    visitor: str,
    paths: list[str] | None,
    class_name: str,
    threshold: str,
    checkpoint: str,
    samples: int,
) -> Iterator[tuple[str, Any, Any]]:
    """Status, table and overlays, again after every image."""
    if not paths:
        yield "No images: drop some first.", [], []
        return
    pictures: list[tuple[str, str]] = []
    rows: list[list[str]] = []
    done = 0
    try:
        for path in paths:
            uploads.check(path, visitor)  # the gate did so; Gradio may have changed them since
        request = InspectionRequest(checkpoint, class_name, int(samples), _number(threshold))
        for done, item in enumerate(inspector.inspect(paths, request), start=1):
            if item.result is not None:
                for picture, caption in _pictures(item, item.result):
                    # Written once: Gradio would write an image again with every answer, possibly
                    # while a browser is reading it.
                    file = save_pil_to_cache(picture, str(uploads.folder), format="webp")
                    uploads.add(file, visitor)
                    pictures.append((file, caption))
            rows.append(_row(item, _calibrated(inspector)))
            yield f"{done} of {len(paths)} inspected", rows, pictures
    except BayesPFLError as error:
        yield f"Stopped after {done} of {len(paths)}: {error}", rows, pictures
        return
    failed = sum(bool(item[-1]) for item in rows)
    yield f"Done: {done - failed} scored, {failed} could not be read.", rows, pictures


def _number(text: str) -> float | None:
    try:
        value = float(text.replace(",", ".")) if text.strip() else None
    except ValueError:
        value = math.nan
    if value is not None and not math.isfinite(value):
        raise ConfigError(f"threshold {short(text)}: give a number, such as 0.5, or nothing")
    return value


def _row(item: Inspected, calibrated: bool) -> list[str]:
    cells, result = [""] * (4 + calibrated), item.result
    if result is not None:
        interval = "{:.3f} to {:.3f}".format(*result.interval)
        cells = [_verdict(result), f"{result.score:.3f}", interval, f"{result.uncertainty:.3f}"]
        if calibrated:
            cells.append("" if result.p_value is None else f"{result.p_value:.3f}")
    return [item.name, *cells, item.error]


def _verdict(result: AnomalyResult) -> str:
    if result.label is None:
        return ""
    return ("flagged" if result.label else "below") + (", review" if result.needs_review else "")


def _pictures(item: Inspected, result: AnomalyResult) -> Iterator[tuple[Any, str]]:
    """What the gallery shows of an image, each with its caption."""
    yield item.overlay, _caption(item.name, result)
    if item.near is not None and (found := result.nearest_normal) is not None:
        # In short lines: the caption lies over the right end of the tile, next to the picture.
        yield (
            item.near,
            f"most anomalous place,\nmost similar normal one:\n{found.distance:.3f} apart",
        )


def _caption(name: str, result: AnomalyResult) -> str:
    verdict = _verdict(result)
    figures = "{:.3f} ({:.3f} to {:.3f})".format(result.score, *result.interval)
    return f"{name}: {figures}" + (f", {verdict}" if verdict else "")
