"""One page for a run: gallery, histogram, table, what was skipped, how it was made.

The page loads nothing over a network. It contains its only script and style, and a content security
policy allows these two, by their hashes, and nothing else. Names of files reach it as data.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from bayes_pfl.detect.overlays import COLOUR_MAP, UNCERTAINTY_COLOUR_MAP, bar_mark, spread_limits
from bayes_pfl.errors import DataError
from bayes_pfl.report.pictures import FEW, PANELS, colours
from bayes_pfl.report.zoom import SINGLE, TILE
from bayes_pfl.support.files import raising_not_written, write_atomically

NAME = "report.html"

_SCRIPTS = ("state.js", "histogram.js", "lists.js", "card.js", "zoom.js", "start.js")
_BAR_STOPS = 9
_BAR, _BAR_HIGH = 120, 10  # of a colour bar, in its own units
_VERDICTS, _SIDES = ("OK", "NOK"), ("below", "above")


@dataclass(frozen=True)
class ReportEntry:
    """One image on the page; None or empty where a value is not known.

    Attributes:
        name: its path, as a person knows it.
        group: class name, or dataset and category.
        low, high: credible interval of the score.
        truth: 0 normal, 1 anomalous.
        review: whether the score is just below the run's threshold.
        size: such as "640×480".
        error: why it has no score, or which file is missing.
        picture: path of the file with its panels, relative to the page.
        link: path of its large overlay, relative to the page, percent-encoded.
        near: path of the file that shows its most anomalous place and the most similar one of the
            references.
        crops: path of the file that shows its strongest regions at full resolution.
        zoom: path of the folder of its copy at full resolution, see :mod:`bayes_pfl.report.zoom`;
            never part of the page.
    """

    name: str
    group: str = ""
    score: float | None = None
    low: float | None = None
    high: float | None = None
    uncertainty: float | None = None
    p_value: float | None = None
    truth: int | None = None
    review: bool | None = None
    size: str = ""
    error: str = ""
    picture: str = ""
    link: str = ""
    near: str = ""
    crops: str = ""
    zoom: str = ""


@dataclass(frozen=True)
class Report:
    """What a page shows.

    Attributes:
        threshold: where the movable threshold starts.
        threshold_note: where that threshold comes from.
        decided: whether it makes verdicts, OK and NOK; one that only cuts off the highest scores
            does not: the page then says below and above.
        limits: map values at the two ends of the colours.
        table_file: the run's own table, in the same folder.
        skipped: name and reason of each image that has no entry.
        facts: headings, each with names and values: the run's configuration.
        notes: remarks for the head of the page.
        head: names and values for the head of the page: what was run, when, and with which model.
        map_threshold: value of the map from which pixels are outlined in the pictures.
        figures: rows of a table of results, its headings first.
    """

    title: str
    kind: str
    entries: Sequence[ReportEntry]
    threshold: float | None
    threshold_note: str
    limits: tuple[float, float]
    table_file: str
    skipped: Sequence[tuple[str, str]] = ()
    facts: Sequence[tuple[str, Sequence[tuple[str, str]]]] = ()
    notes: Sequence[str] = ()
    figures: Sequence[Sequence[str]] = ()
    head: Sequence[tuple[str, str]] = ()
    map_threshold: float | None = None
    decided: bool = True


def write_report(out: Path, report: Report) -> Path:
    """Write ``out``/report.html, whole or not at all; the same report gives the same bytes.

    The pictures of up to 200 images become part of the page; with more, the page links to them.

    Raises:
        DataError: it cannot be written.
    """
    path = out / NAME
    with raising_not_written(path, "make room, run again", DataError):
        return write_atomically(path, render(out, report).encode("utf-8", "replace"))


def render(out: Path, report: Report) -> str:
    """The page; ``out`` is where the pictures are looked up."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    script = "(() => {\n'use strict';\n" + "\n".join(map(_part, _SCRIPTS)) + "\n})();\n"
    style = _part("page.css")
    return environment.from_string(_part("page.html")).render(
        report=report,
        script=script,
        style=style,
        policy=_policy(script, style),
        data=data_island(_data(out, report)),
        colour_bars=_colour_bars(report.limits, report.map_threshold),
        failed=sum(bool(entry.error) for entry in report.entries) + len(report.skipped),
    )


def data_island(content: Any) -> str:
    """JSON that is safe inside a script element: ASCII without <, > and &."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _data(out: Path, report: Report) -> dict[str, Any]:
    """Entries by column, which takes a third of the room of an object for each."""
    entries = report.entries
    columns: dict[str, list[Any]] = {}
    for field in fields(ReportEntry):
        values = [_short(getattr(entry, field.name)) for entry in entries]
        if any(value not in (None, "") for value in values):
            columns[field.name] = values
    for name in ("picture", "near", "crops"):
        if name in columns or name == "picture":
            paths = [getattr(entry, name) for entry in entries]
            columns[name] = [_picture(out, path, len(entries) <= FEW) for path in paths]
    return {
        "kind": report.kind,
        "count": len(entries),
        "threshold": _short(report.threshold),
        "panels": list(PANELS),
        "words": _VERDICTS if report.decided else _SIDES,
        "zoom": {"single": SINGLE, "tile": TILE},
        "columns": columns,
    }


def _short(value: Any) -> Any:
    """Floats to six digits, scores and threshold alike: a score at the threshold stays there."""
    return round(value, 6) if isinstance(value, float) else value


def _picture(out: Path, name: str, embedded: bool) -> str:
    path = out / name
    if not name or not path.is_file():
        return ""
    if not embedded:
        return name
    return "data:image/webp;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def _policy(script: str, style: str) -> str:
    """What the page may load; some browsers do not apply ``'self'`` to a page from a disk."""
    rules = (
        "default-src 'none'",
        f"script-src '{_hash(script)}'",
        f"style-src '{_hash(style)}'",
        "img-src 'self' data: file:",
        "base-uri 'none'",
        "form-action 'none'",
    )
    return "; ".join(rules)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode()


def _colour_bars(limits: tuple[float, float], map_threshold: float | None) -> list[dict[str, Any]]:
    """For the map and the uncertainty: name, stops as hex colours, values at both ends; and for
    the map the mark of its threshold."""
    spread = spread_limits(limits)
    bars = (("map", COLOUR_MAP, limits), ("uncertainty", UNCERTAINTY_COLOUR_MAP, spread))
    return [
        {
            "panel": panel,
            "stops": _stops(name),
            "low": f"{low:.2f}",
            "high": f"{high:.2f}",
            "mark": _mark(map_threshold, limits) if panel == "map" else None,
        }
        for panel, name, (low, high) in bars
    ]


def _mark(threshold: float | None, limits: tuple[float, float]) -> dict[str, str] | None:
    """A pointer below the bar, or an arrow at the end that the threshold lies beyond; its value."""
    if threshold is None:
        return None
    place, beyond = bar_mark(threshold, limits)
    x, middle = place * _BAR, _BAR_HIGH / 2
    text = f"outlined from {threshold:.3f}"
    if beyond:
        text += f", {'above' if beyond > 0 else 'below'} these colours"
        path = f"M{x + 9 * beyond:.1f} {middle:g}l{-7 * beyond} -5v10z"
    else:
        path = f"M{x:.1f} {_BAR_HIGH}l-5 7h10z"
    return {"path": path, "text": text}


def _stops(name: str) -> list[tuple[str, str]]:
    table = colours(name)
    places = [round(k * 255 / (_BAR_STOPS - 1)) for k in range(_BAR_STOPS)]
    return [(f"{place / 2.55:.1f}%", "#" + bytes(table[place]).hex()) for place in places]


def _part(name: str) -> str:
    return (files("bayes_pfl.report") / "page" / name).read_text(encoding="utf-8")
