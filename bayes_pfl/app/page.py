"""The app's page, in Gradio: its inputs, its outputs, and what connects them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import save_pil_to_cache

from bayes_pfl.app.fit_page import FILES_HIGH, fit_tab, fitted_in, limits, number
from bayes_pfl.app.fitting import Profiles
from bayes_pfl.app.gate import visitor_of
from bayes_pfl.app.inspection import Inspected, InspectionRequest, Inspector
from bayes_pfl.app.run_files import RunFiles
from bayes_pfl.app.uploads import Uploads
from bayes_pfl.data.image_files import readable_suffixes
from bayes_pfl.detect.results import AnomalyResult
from bayes_pfl.errors import BayesPFLError
from bayes_pfl.fit.profile_files import load_profile

FOOTER: list[Any] = []
STYLE = """
#overlays .thumbnail-item { aspect-ratio: 2.9; }
#overlays .thumbnail-item img { object-fit: contain; }
#overlays .caption-label { white-space: pre-wrap; }
#table table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
#table table, #table tr, #table th, #table td { border: 0; }
#table th, #table td { text-align: left; padding: .3rem .5rem; vertical-align: top; }
#table tbody tr { border-top: 1px solid var(--border-color-primary); }
#table th[scope=row] { font-weight: 400; overflow-wrap: anywhere; }
#table .NOK { color: #b34700; font-weight: 600; }
#table .OK { color: #0072b2; font-weight: 600; }
#go, #fit { min-height: 3rem; }
#kept .stem, #fit-kept .stem { overflow: visible; text-overflow: clip; }
footer { display: none !important; }
@media (max-width: 760px) {
  .gradio-container { padding: .5rem !important; }
  #overlays .caption-label { display: none; }
  #table thead { display: none; }
  #table tr, #table th[scope=row] { display: block; }
  #table th[scope=row] { font-weight: 600; }
  #table td { display: grid; grid-template-columns: 8rem 1fr; padding: .1rem .5rem; }
  #table td:empty { display: none; }
  #table td::before { content: attr(data-name); color: var(--body-text-color); }
  #table td::before { font-weight: 400; opacity: .75; }
}
"""
_COLUMNS = ("verdict", "score", "95% interval", "uncertainty", "p-value", "problem")
_FONTS = (["system-ui", "sans-serif"], ["ui-monospace", "monospace"])
_HOUR = 3600
_WAITING = 8  # requests in the queue; more are refused
_EXPLAINED = """
Drop photographs, say in a word or two what they show, press *Inspect*. The **score** is how
abnormal an image looks, from 0 to 1; the **interval** holds 95% of the scores that the sampled
prompts give one by one. With a threshold, an image is *NOK* at or above it, *OK* below it; with the
threshold of a profile, it is marked for *review* just below it. What is dropped here stays on the
computer that `bayes-pfl app` runs on.
"""


def theme() -> gr.themes.Base:
    """Gradio's theme with fonts of the computer, so that none are downloaded."""
    return gr.themes.Default(primary_hue="blue", font=_FONTS[0], font_mono=_FONTS[1])


def build_page(inspector: Inspector, uploads: Uploads) -> gr.Blocks:
    """The page that shows what an inspector finds, and fits profiles."""
    known = inspector.settings
    profiles = Profiles(known.profile, known.profiles)
    with gr.Blocks(
        title="bayes-pfl", analytics_enabled=False, delete_cache=(_HOUR, _HOUR), fill_width=True
    ) as page:
        gr.Markdown("# Is anything wrong with it?")
        with gr.Tab("Inspect"), gr.Row():
            with gr.Column(scale=1, min_width=280):
                asked = _questions(inspector, profiles)
                go = gr.Button("Inspect", variant="primary", elem_id="go")
                gr.Markdown(_EXPLAINED + limits(inspector))
            with gr.Column(scale=3, min_width=280):
                shown = _answers()
        _, name, _, _, samples, profile = asked

        # Gradio passes the request, because of its type.
        def answer(request: gr.Request, *values: Any) -> Iterator[tuple[str, Any, Any, Any]]:
            visitor = visitor_of(request.headers.get("cookie", ""))
            yield from _answer(inspector, uploads, visitor, *values)

        def offer(request: gr.Request, chosen: str) -> Any:
            own = fitted_in(uploads, visitor_of(request.headers.get("cookie", "")))
            return gr.Dropdown(choices=profiles.names(own), value=chosen)

        def choose(request: gr.Request, chosen: str) -> tuple[Any, Any]:
            own = fitted_in(uploads, visitor_of(request.headers.get("cookie", "")))
            return _settings_of(profiles.path_of(chosen, own))

        alone: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "model"}
        hidden: dict[str, Any] = {"api_visibility": "private"}
        go.click(answer, asked, shown, **alone, **hidden)
        with gr.Tab("Fit a profile"):
            fit_tab(inspector, uploads, profiles, [profile, name, samples], alone | hidden)
        page.load(offer, profile, profile, **hidden)
        profile.input(choose, profile, [name, samples], **hidden)
    return page.queue(max_size=_WAITING)


def _settings_of(folder: Path | None) -> tuple[Any, Any]:
    """What a run with a profile must share with it: class name and samples."""
    if folder is None:
        return gr.skip(), gr.skip()
    try:
        known = load_profile(folder)
    except BayesPFLError as error:
        raise gr.Error(str(error)) from error
    return known.class_name, known.settings.samples


def _questions(inspector: Inspector, profiles: Profiles) -> list[Any]:
    offered, given = list(inspector.settings.checkpoints), inspector.settings.profile
    known = load_profile(given) if given else None
    samples = (
        known.settings.samples if known else inspector.model(offered[0]).config.scoring.samples
    )
    brought = known is not None or inspector.settings.calibration is not None
    note = "the profile's or calibration's, if left empty" if brought else "optional"
    return [
        gr.File(
            label="Images",
            file_count="multiple",
            file_types=list(readable_suffixes()),
            type="filepath",
            height=FILES_HIGH,
            elem_id="files",
        ),
        gr.Textbox(
            label="What they show",
            value=known.class_name if known else "",
            placeholder="metal nut",
            elem_id="name",
            max_length=200,
        ),
        # A Textbox, because an empty Number arrives as 0.
        gr.Textbox(label=f"Threshold: {note}", placeholder="0.5", elem_id="threshold"),
        gr.Dropdown(offered, value=offered[0], label="Checkpoint", elem_id="checkpoint"),
        gr.Slider(0, 50, samples, step=1, label="Samples: more is steadier, and slower"),
        gr.Dropdown(
            profiles.names(Path()), value=profiles.default, label="Profile", elem_id="profile"
        ),
    ]


def _answers() -> list[Any]:
    return [
        gr.Textbox(label="Status", value="Nothing inspected yet.", lines=1, elem_id="status"),
        gr.HTML(elem_id="table"),
        gr.Gallery(
            label="Image, map, uncertainty",
            columns=1,
            height="auto",
            elem_id="overlays",
            buttons=["download", "fullscreen"],
        ),
        gr.File(label="Table and page to keep", interactive=False, elem_id="kept"),
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
    profile: str,
) -> Iterator[tuple[str, str, Any, list[str]]]:
    """Status, table and overlays, again after every image; at the end the files to keep."""
    if not paths:
        yield "No images: drop some first.", "", [], []
        return
    pictures: list[tuple[str, str]] = []
    items: list[Inspected] = []
    status, files, started = "", None, time.monotonic()
    try:
        for path in paths:
            uploads.check(path, visitor)  # the gate did so; Gradio may have changed them since
        known = Profiles(inspector.settings.profile, inspector.settings.profiles)
        folder = known.path_of(profile, fitted_in(uploads, visitor))
        request = InspectionRequest(
            checkpoint,
            class_name,
            int(samples),
            number(threshold, "threshold", "0.5"),
            profile=folder,
        )
        files = RunFiles(_new_folder(uploads, visitor), inspector, request, len(paths))
        for item in inspector.inspect(paths, request):
            if item.result is not None:
                for picture, caption in _pictures(item, item.result):
                    # Written once: Gradio would write an image again with every answer, possibly
                    # while a browser is reading it.
                    file = save_pil_to_cache(picture, str(uploads.folder), format="webp")
                    uploads.add(file, visitor)
                    pictures.append((file, caption))
            items.append(item)
            files.add(item)
            yield f"{len(items)} of {len(paths)} inspected", _table(items), pictures, []
        failed = sum(bool(item.error) for item in items)
        status = f"Done: {len(items) - failed} scored, {failed} could not be read."
    except BayesPFLError as error:
        status = f"Stopped after {len(items)} of {len(paths)}: {error}"
    kept: list[str] = []
    try:
        made = files.finish(time.monotonic() - started) if files else []
        kept = [uploads.add_made(path, visitor) for path in made]
    except BayesPFLError as error:
        status += f" No files to keep: {error}"
    yield status, _table(items), pictures, kept


def _new_folder(uploads: Uploads, visitor: str) -> Path:
    """An empty folder for the files of an inspection, in place of the last one."""
    own = uploads.own_folder(visitor)
    for before in own.glob("inspection *"):
        shutil.rmtree(before, ignore_errors=True)
    folder = own / f"inspection {datetime.now():%Y-%m-%d %H.%M.%S}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _table(items: Sequence[Inspected]) -> str:
    """HTML; on a narrow screen each row becomes a block, by the style of the page."""
    if not items:
        return ""
    heads = "".join(f"<th>{name}</th>" for name in ("image", *_COLUMNS))
    return (
        f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(map(_row, items))}</tbody></table>"
    )


def _row(item: Inspected) -> str:
    cells, result = [""] * 5, item.result
    if result is not None:
        interval = "{:.3f} to {:.3f}".format(*result.interval)
        p_value = "" if result.p_value is None else f"{result.p_value:.3f}"
        figures = [f"{result.score:.3f}", interval, f"{result.uncertainty:.3f}", p_value]
        cells = [_verdict(result), *figures]
    kind = cells[0].partition(",")[0]
    named = zip(_COLUMNS, [*cells, item.error], strict=True)
    rest = "".join(
        f'<td data-name="{name}" class="{kind if name == "verdict" else ""}">{escape(text)}</td>'
        for name, text in named
    )
    return f'<tr><th scope="row">{escape(item.name)}</th>{rest}</tr>'


def _verdict(result: AnomalyResult) -> str:
    if result.label is None:
        return ""
    return ("NOK" if result.label else "OK") + (", review" if result.needs_review else "")


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
