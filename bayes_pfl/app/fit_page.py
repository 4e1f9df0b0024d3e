"""The app's second tab: a profile of a part from dropped sound pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from bayes_pfl.app.fitting import FITTED, FitRequest, Profiles, fit_dropped
from bayes_pfl.app.gate import visitor_of
from bayes_pfl.app.inspection import Inspector
from bayes_pfl.app.uploads import Uploads
from bayes_pfl.data.image_files import readable_suffixes
from bayes_pfl.errors import BayesPFLError, ConfigError
from bayes_pfl.fit.fit import Fitted
from bayes_pfl.fit.profile_files import save_profile
from bayes_pfl.support.parsing import short

FILES_HIGH = 240
"""Pixels of a list of files: 64 would push what comes below them out of sight."""

_EXPLAINED = """
Drop pictures of **sound** parts, 20 or more for a threshold, press *Fit*. New pictures are then
compared with them: choose the profile under *Inspect*, or download it for `bayes-pfl predict
--profile`. This is `bayes-pfl fit`, which takes more pictures and has more options.
"""


def fitted_in(uploads: Uploads, visitor: str) -> Path:
    """Where the profile is that a visitor has fitted, if there is one."""
    return uploads.own_folder(visitor) / "profile"


def limits(inspector: Inspector) -> str:
    """What is taken at once, in words."""
    known = inspector.settings
    return (
        f"\n\nAt once: {known.max_files} files of at most {known.max_bytes // 2**20} MiB and "
        f"{known.max_pixels / 1e6:.0f} megapixels each. More: on the command line."
    )


def number(text: str, name: str, example: str) -> float | None:
    """A number that was typed; None for nothing.

    Raises:
        ConfigError: something else.
    """
    try:
        value = float(text.replace(",", ".")) if text.strip() else None
    except ValueError:
        value = math.nan
    if value is not None and not math.isfinite(value):
        raise ConfigError(f"{name} {short(text)}: give a number, such as {example}, or nothing")
    return value


def fit_tab(
    inspector: Inspector,
    uploads: Uploads,
    profiles: Profiles,
    chosen: list[Any],
    how: dict[str, Any],
) -> None:
    """Build the tab.

    Args:
        chosen: profile, class name and samples of the other tab; set to what was fitted.
        how: options of the button's event.
    """
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            asked = _questions(inspector, profiles)
            go = gr.Button("Fit", variant="primary", elem_id="fit")
            gr.Markdown(_EXPLAINED + limits(inspector))
        with gr.Column(scale=3, min_width=280):
            status = gr.Textbox(
                label="Status", value="Nothing fitted yet.", lines=2, elem_id="fit-status"
            )
            archive = gr.File(label="Profile to keep", interactive=False, elem_id="fit-kept")

    # Gradio passes the request, because of its type.
    def fit(request: gr.Request, *values: Any) -> Iterator[tuple[Any, ...]]:
        visitor = visitor_of(request.headers.get("cookie", ""))
        yield from answer(inspector, uploads, profiles, visitor, *values)

    go.click(fit, asked, [status, archive, *chosen], **how)


def _questions(inspector: Inspector, profiles: Profiles) -> list[Any]:
    offered = list(inspector.settings.checkpoints)
    default = inspector.model(offered[0]).config.scoring.samples
    return [
        gr.File(
            label="Sound pictures",
            file_count="multiple",
            file_types=list(readable_suffixes()),
            type="filepath",
            height=FILES_HIGH,
            elem_id="sound",
        ),
        gr.Textbox(label="What they show", placeholder="metal nut", elem_id="part", max_length=200),
        gr.Textbox(
            label="Share of sound parts that may be NOK", value="0.05", elem_id="fpr", max_length=20
        ),
        gr.Dropdown(offered, value=offered[0], label="Checkpoint"),
        gr.Slider(0, 50, default, step=1, label="Samples: more is steadier, and slower"),
        gr.Textbox(
            label="Save it here under the name (optional)",
            value="",  # else null, where it is not shown
            visible=profiles.folder is not None,
            elem_id="save-as",
            max_length=64,
        ),
    ]


def answer(
    inspector: Inspector,
    uploads: Uploads,
    profiles: Profiles,
    visitor: str,
    paths: list[str] | None,
    class_name: str,
    fpr: str,
    checkpoint: str,
    samples: int,
    save_as: str,
) -> Iterator[tuple[Any, ...]]:
    """Status, file to keep, and what the other tab is set to: at once, and when the fit is done."""
    others = [gr.skip()] * 3
    if not paths:
        yield "No pictures: drop some first.", None, *others
        return
    yield f"Fitting {len(paths)} pictures …", None, *others
    try:
        for path in paths:
            uploads.check(path, visitor)  # the gate did so; Gradio may have changed them since
        name = save_as.strip()
        place = profiles.place_for(name) if name else None
        rate = number(fpr, "share", "0.05")
        request = FitRequest(checkpoint, class_name, int(samples), rate)
        own = uploads.own_folder(visitor)
        found = fit_dropped(inspector, paths, request, own)
        if place:
            save_profile(found.profile, place)
        archive = uploads.add_made(own / "profile.zip", visitor)
    except BayesPFLError as error:
        yield f"Not fitted: {error}", None, *others
        return
    names = profiles.names(fitted_in(uploads, visitor))
    chosen = gr.Dropdown(choices=names, value=name if place else FITTED)
    known = found.profile.settings
    said = _said(found, name if place else "")
    yield said, archive, chosen, known.class_name, known.samples


def _said(found: Fitted, name: str) -> str:
    profile, lines = found.profile, []
    count = len(profile.pictures)
    pictures = "one picture" if count == 1 else f"{count} pictures"
    lines.append(f"Done: a profile of {pictures}, chosen under Inspect.")
    if name:
        lines.append(f"Saved as {name}.")
    if known := profile.calibration:
        lines.append(f"Threshold {known.threshold:.3f}.")
    else:
        lines.append(f"No threshold: {profile.missing} more pictures are needed for one.")
    lines += [f"Left out: {path}: {why}." for path, why in found.skipped]
    lines += [f"Left out: {path}: a copy of another picture." for path in found.copies]
    return "\n".join(lines)
