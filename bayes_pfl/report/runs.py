"""The report of a finished run, read from the files that the run has written."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from bayes_pfl.errors import DataError
from bayes_pfl.metrics import ImageMetrics
from bayes_pfl.report.facts import facts, head, several
from bayes_pfl.report.html import Report, ReportEntry, write_report
from bayes_pfl.report.pictures import (
    FOLDER,
    crops_name,
    nearest_name,
    picture_limits,
    picture_name,
)
from bayes_pfl.report.tables import METRIC_NAMES, percent
from bayes_pfl.report.zoom import last_file, zoom_path
from bayes_pfl.support.files import mirrored
from bayes_pfl.support.run_names import CSV_NAME, OVERLAYS, SUMMARY_NAME, page_file, page_title

IMAGES_NAME, METRICS_NAME = "images.csv", "metrics.json"
_DAMAGED = (KeyError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError)
_FLAGGED_SHARE = 0.05
_LISTS = ("highest", "failures")
_COLUMNS = [("image", key) for key in ("auroc", "ap", "f1_max")]
_COLUMNS += [("pixel", key) for key in ("auroc", "aupro", "ap")]


def report_of_run(out: str | os.PathLike[str]) -> Path:
    """Write report.html into the folder of a finished prediction or evaluation.

    Raises:
        DataError: there is no such run, or the page cannot be written.
    """
    return write_report(Path(out), read_run(Path(out)))


def read_run(folder: Path) -> Report:
    """The report of a run's folder.

    Raises:
        DataError: the folder holds no finished run, or a damaged one.
    """
    try:
        if (folder / SUMMARY_NAME).is_file() and (folder / CSV_NAME).is_file():
            return _prediction(folder)
        if (folder / METRICS_NAME).is_file() and (folder / IMAGES_NAME).is_file():
            return _evaluation(folder)
    except (*_DAMAGED, csv.Error) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise DataError(f"{folder}: its tables cannot be read ({reason}); run it again") from error
    raise DataError(
        f"{folder}: no finished run; give the --out folder of predict ({CSV_NAME}, "
        f"{SUMMARY_NAME}) or of evaluate ({IMAGES_NAME}, {METRICS_NAME})"
    )


def _prediction(folder: Path) -> Report:
    summary = _json(folder / SUMMARY_NAME)
    settings = summary.get("settings") or {}
    entries = [_predicted(folder, row) for row in _rows(folder / CSV_NAME)]
    threshold, note, decided = _threshold(entries, settings.get("threshold"))
    if calibration := summary.get("calibration"):
        note = f"{_calibration_note(calibration['fpr'])}, from {calibration['n']} normal images"
    about = {k: v for k, v in summary.items() if not isinstance(v, dict) and k not in _LISTS}
    profile, mutual = summary.get("profile"), summary.get("mutual")
    names = several(sorted({entry.group for entry in entries} - {""})) or "images"
    notes = []
    if profile:
        notes.append(f"Compared with the {profile['pictures']} normal pictures of a profile.")
    if mutual:
        notes.append(
            f"The pictures of the folder were compared with each other: with {mutual['drawn']} of "
            f"{mutual['pictures']}, drawn by seed {mutual['seed']}. Scores depend on the folder."
        )
    return Report(
        title=names,
        kind="prediction",
        entries=entries,
        threshold=threshold,
        threshold_note=note,
        limits=picture_limits(folder),
        table_file=CSV_NAME,
        facts=facts(about, summary),
        notes=notes,
        head=head(folder, summary),
        map_threshold=_finite(settings.get("map_threshold"), "map_threshold"),
        decided=decided,
    )


def _predicted(folder: Path, row: Mapping[str, str]) -> ReportEntry:
    page = int(row.get("page") or 0) or None
    width, height = int(row.get("width") or 0), int(row.get("height") or 0)
    size = (width, height) if width > 0 and height > 0 else None
    file = page_file(row["path"], page)
    overlay = f"{OVERLAYS}/{mirrored(file, '.png')}"
    return ReportEntry(
        name=page_title(row["path"], page),
        group=row.get("class_name", ""),
        score=_number(row.get("score")),
        low=_number(row.get("score_low")),
        high=_number(row.get("score_high")),
        uncertainty=_number(row.get("uncertainty")),
        p_value=_number(row.get("p_value")),
        review=_flag(row.get("needs_review")),
        size=f"{size[0]}×{size[1]}" if size else "",
        error=row.get("error", ""),
        picture=_picture(file) if row.get("score") else "",
        near=_written(folder, nearest_name(_picture(file))),
        crops=_written(folder, crops_name(_picture(file))),
        zoom=_zoom(folder, zoom_path(picture_name(file)), size),
        link=quote(os.fsencode(overlay)) if os.path.isfile(folder / overlay) else "",
    )


def _evaluation(folder: Path) -> Report:
    metrics = _json(folder / METRICS_NAME)
    rows = [row for row in _rows(folder / IMAGES_NAME) if row["seed"] == str(metrics["seeds"][0])]
    paths = [row["path"] for row in rows] + [item["path"] for item in metrics["skipped"]]
    root = _common_folder(paths)
    entries = [_evaluated(row, root) for row in rows]
    calibrated = _calibrated_rates(metrics["datasets"])
    threshold, note, decided = _threshold(entries, calibrated.get("threshold"))
    if calibrated:
        note = _calibration_note(calibrated["calibrated_fpr"])
    about = {k: v for k, v in metrics.items() if not isinstance(v, dict | list)}
    names, config = sorted(metrics["datasets"]), _config(folder)
    skipped = [(_below(s["path"], root) or s["dataset"], s["reason"]) for s in metrics["skipped"]]
    return Report(
        title=several(names),
        kind="evaluation",
        entries=entries,
        threshold=threshold,
        threshold_note=note,
        limits=picture_limits(folder),
        table_file=IMAGES_NAME,
        skipped=skipped,
        facts=facts(about | {"root": root}, config),
        notes=_notes(folder) + metrics.get("notes", []),
        figures=_categories_table(metrics["datasets"]),
        head=head(folder, {**config, **metrics}),
        decided=decided,
    )


def _calibrated_rates(datasets: Mapping[str, Any]) -> dict[str, Any]:
    """A calibrated threshold with its rates in one category; empty if none was evaluated."""
    categories = [entry for result in datasets.values() for entry in result["categories"].values()]
    return next((entry["at_threshold"] for entry in categories if "at_threshold" in entry), {})


def _calibration_note(fpr: float) -> str:
    return f"the calibrated threshold, for a false positive rate of {fpr:g}"


def _notes(folder: Path) -> list[str]:
    notes = ["Scores follow the deploy protocol: each depends on its own image alone."]
    if not (folder / FOLDER).is_dir():
        notes.append("No pictures: they are drawn for evaluations of up to 5,000 images only.")
    return notes


def _evaluated(row: Mapping[str, str], root: str) -> ReportEntry:
    return ReportEntry(
        name=_below(row["path"], root),
        group=f"{row['dataset']} / {row['category']}",
        score=_number(row["score_deploy"]),
        uncertainty=_number(row["uncertainty"]),
        truth=int(row["label"]),
        picture=_picture(row["path"], row["dataset"]),
    )


def _picture(file: str, dataset: str = "") -> str:
    return f"{FOLDER}/pictures/{picture_name(file, dataset)}"


def _written(folder: Path, name: str) -> str:
    """The name of a file that a run writes for some images, if it is there."""
    return name if os.path.isfile(folder / name) else ""


def _zoom(folder: Path, path: str, size: tuple[int, int] | None) -> str:
    """The folder of a copy at full resolution, if it is there and whole."""
    return path if size and os.path.isfile(folder / path / last_file(size)) else ""


def _categories_table(datasets: Mapping[str, Any]) -> list[list[str]]:
    """Percentages by category; a dash where a figure is undefined."""
    names = [f"{level} {METRIC_NAMES[key]}" for level, key in _COLUMNS]
    rows = [["category", "normal", "anomalous", *names]]
    for dataset, result in datasets.items():
        for category, entry in result["categories"].items():
            counts = [str(entry["n_normal"]), str(entry["n_anomalous"])]
            values = [percent(entry[level].get(key)) for level, key in _COLUMNS]
            rows.append([f"{dataset} / {category}", *counts, *values])
    return rows


def _finite(value: float | None, name: str) -> float | None:
    if value is not None and not math.isfinite(value):
        raise ValueError(f"{name} = {value}")
    return None if value is None else float(value)


def _threshold(
    entries: Sequence[ReportEntry], given: float | None
) -> tuple[float | None, str, bool]:
    """Where the threshold on the page starts, where that value comes from, and whether scores at or
    above it are a verdict."""
    scored = [entry for entry in entries if entry.score is not None]
    if given is not None:
        return _finite(given, "threshold"), "the run's own threshold", True
    if not scored:
        return None, "no image has a score", False
    scores = np.array([entry.score for entry in scored], np.float64)
    labels = np.array([-1 if entry.truth is None else entry.truth for entry in scored])
    if {0, 1} <= set(labels.tolist()):
        metrics = ImageMetrics()
        metrics.update(scores, labels)
        best = float(metrics.compute()["f1_max_threshold"])
        return best, "the best F1 over all images on this page", True
    # Halfway between two scores: at one of them, the last digit would decide.
    high = float(np.quantile(scores, 1 - _FLAGGED_SHARE, method="midpoint"))
    note = (
        "the highest 5% of the scores are at or above it, because no threshold was given; "
        "bayes-pfl fit finds one from normal images"
    )
    return high, note, False


def _config(folder: Path) -> dict[str, Any]:
    """config.json and environment.json; with several checkpoints they lie one folder above."""
    for place in (folder, folder.parent):
        if (place / "config.json").is_file():
            config = _json(place / "config.json")
            if (place / "environment.json").is_file():
                config["environment"] = _json(place / "environment.json")
            return config
    return {}


def _json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        yield from csv.DictReader(file)


def _number(text: str | None) -> float | None:
    value = float(text) if text else math.nan
    return value if math.isfinite(value) else None


def _flag(text: str | None) -> bool | None:
    return None if not text else text.strip().lower() in ("1", "1.0", "true", "yes")


def _common_folder(paths: Sequence[str]) -> str:
    try:
        return os.path.commonpath({os.path.dirname(path) for path in paths if path})
    except ValueError:  # none, absolute and relative ones, or several drives
        return ""


def _below(path: str, root: str) -> str:
    return os.path.relpath(path, root).replace(os.sep, "/") if root and path else path
