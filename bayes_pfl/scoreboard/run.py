"""A scoreboard and its files: markdown for people, CSV for spreadsheets, JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bayes_pfl.checkpoints.load import load_checkpoint
from bayes_pfl.evaluate.datasets import EvaluationData
from bayes_pfl.evaluate.files import prepare_folder, write_json, write_results
from bayes_pfl.fit.profile import Profile
from bayes_pfl.report.tables import METRIC_NAMES, csv_text, markdown_table, percent
from bayes_pfl.scoreboard.board import Board, BoardSettings, Load, bare_model, score_sets
from bayes_pfl.scoreboard.tally import LEVEL_KEYS, Figures
from bayes_pfl.support.environment import environment
from bayes_pfl.support.progress import Progress

MEAN = "mean"
_COLUMNS = [(level, key) for level, keys in LEVEL_KEYS.items() for key in keys]
_DEFAULTS = BoardSettings()


def run_scoreboard(
    checkpoints: Sequence[str],
    data: Sequence[EvaluationData],
    out: Path,
    settings: BoardSettings = _DEFAULTS,
    progress: Progress | None = None,
    load: Load = load_checkpoint,
    backbones: Sequence[str] = (),
    load_bare: Load = bare_model,
    profile: Profile | None = None,
) -> tuple[list[tuple[str, str, str]], str]:
    """Score, and write scoreboard.md, scoreboard.csv and scoreboard.json, each whole, into ``out``.

    Arguments are those of :func:`score_sets`.

    Returns:
        (set, path, reason) of the images that could not be read, and the tables of the sets.

    Raises:
        BayesPFLError: a checkpoint that cannot be loaded, a folder that cannot be written.
    """
    prepare_folder(out)
    board = score_sets(checkpoints, data, settings, progress, load, backbones, load_bare, profile)
    confidence = settings.bootstrap.confidence
    sets = {
        one.name: {"images": len(one.samples), "first": str(one.samples[0].path)} for one in data
    }
    resolved = {"checkpoints": board.fingerprints, "sets": sets, **asdict(settings)}
    resolved |= {"profile": profile.summary_dict()} if profile else {}
    summary = summary_markdown(board, confidence)
    write_results(out / "scoreboard.md", summary + categories_markdown(board, confidence))
    write_results(out / "scoreboard.csv", to_csv(board, confidence))
    report = {"settings": resolved, "environment": environment(board.device)}
    write_json(out / "scoreboard.json", to_json(board, confidence) | report)
    return board.skipped, summary


def summary_markdown(board: Board, confidence: float) -> str:
    """A table for each set, the mean over its categories; of several sets, their mean; notes."""
    parts = []
    for name, categories in board.sets.items():
        images = sum(entry.normal + entry.anomalous for entry in categories.values())
        broken = sum(entry.skipped for entry in categories.values())
        title = f"{name}: {_count(len(categories), 'category', 'categories')}, "
        title += _count(images, "image", "images") + (f", {broken} unreadable" if broken else "")
        parts.append(_table(title, board.set_figures(name), confidence))
    if len(board.sets) > 1:
        parts.append(_table(f"mean of {len(board.sets)} sets", board.overall(), confidence))
    parts += [f"{note}\n" for note in board.notes]
    return "\n".join(parts)


def categories_markdown(board: Board, confidence: float) -> str:
    """A table for each category of the sets that have several."""
    parts = []
    for name, categories in board.sets.items():
        for category, entry in categories.items():
            if len(categories) > 1:
                title = f"{name} / {category}: {entry.normal} normal, {entry.anomalous} anomalous"
                title += f", {entry.skipped} unreadable" if entry.skipped else ""
                parts.append("\n" + _table(title, entry.figures, confidence))
    return "".join(parts)


def _table(title: str, figures: dict[str, Figures], confidence: float) -> str:
    head = ["method", *(f"{level} {METRIC_NAMES[key]}" for level, key in _COLUMNS)]
    rows = []
    for method, found in figures.items():
        figures_of_row = [found[level][key] for level, key in _COLUMNS]
        cells = [percent(one.value, interval=one.ends(confidence)) for one in figures_of_row]
        rows.append([method, *cells])
    return f"**{title}**\n\n{markdown_table(head, rows)}"


def to_csv(board: Board, confidence: float) -> str:
    """A line per set, category and method, values in [0, 1], empty where undefined.

    The category is "mean" for means over a set, and for those over all sets, without a name.
    """
    names = [f"{level}_{key}" for level, key in _COLUMNS]
    columns = [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
    rows: list[list[Any]] = [["set", "category", "method", *columns]]
    entries = [
        (name, category, entry.figures if entry else board.set_figures(name))
        for name, categories in board.sets.items()
        for category, entry in (*categories.items(), (MEAN, None))
    ]
    for name, category, found in [*entries, ("", MEAN, board.overall())]:
        for method in board.methods:
            cells = [found[method][level][key].as_dict(confidence) for level, key in _COLUMNS]
            values = [cell[end] for cell in cells for end in ("value", "low", "high")]
            rows.append([name, category, method, *values])
    return csv_text(rows)


def to_json(board: Board, confidence: float) -> dict[str, Any]:
    """Every figure with its interval or the reason why there is none."""

    def plain(figures: dict[str, Figures]) -> dict[str, Any]:
        return {
            method: {
                level: {key: figure.as_dict(confidence) for key, figure in found.items()}
                for level, found in figures[method].items()
            }
            for method in board.methods
        }

    sets: dict[str, Any] = {}
    for name, categories in board.sets.items():
        entries = {
            category: {
                "n_normal": entry.normal,
                "n_anomalous": entry.anomalous,
                "n_skipped": entry.skipped,
                "methods": plain(entry.figures),
            }
            for category, entry in categories.items()
        }
        mean = {"methods": plain(board.set_figures(name))}
        sets[name] = {"categories": entries, MEAN: mean}
    skipped = [{"set": s, "path": path, "reason": reason} for s, path, reason in board.skipped]
    overall = plain(board.overall())
    found = {"methods": board.methods, "sets": sets, MEAN: overall, "skipped": skipped}
    return found | ({"notes": board.notes} if board.notes else {})


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"
