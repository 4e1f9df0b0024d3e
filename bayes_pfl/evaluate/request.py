"""What an evaluation is asked for, and what it comes to."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bayes_pfl.evaluate.categories import EvaluationSettings
from bayes_pfl.evaluate.datasets import EvaluationData
from bayes_pfl.evaluate.published import Published
from bayes_pfl.evaluate.records import Skipped
from bayes_pfl.fit.calibration import Calibration


@dataclass(frozen=True)
class EvaluationRequest:
    """What the user asked for; see ``bayes-pfl evaluate --help``.

    Attributes:
        checkpoints: one after the other; only one model is held at a time.
        skipped: datasets that could not be read, to be listed with the images that cannot.
        seeds: of the draws; figures are means over them, with their standard deviation.
        cache: folder of the scores done, so that a stopped run goes on; None for none.
        resume: refuse to go on where checkpoints, settings or images have changed.
        curves, sheets: whether to draw them.
        calibration: its threshold is tried on the category of its class name.
        report: whether to write report.html, with pictures of up to 5,000 images.
    """

    checkpoints: tuple[str, ...]
    data: tuple[EvaluationData, ...]
    out: Path
    protocols: tuple[str, ...] = ("deploy",)
    settings: EvaluationSettings = EvaluationSettings(skip_unreadable=True)
    seeds: tuple[int, ...] = (0,)
    published: Published | None = None
    curves: bool = False
    sheets: bool = False
    cache: Path | None = None
    report: bool = False
    skipped: tuple[Skipped, ...] = ()
    calibration: Calibration | None = None
    resume: bool = False


@dataclass
class Outcome:
    """What an evaluation found.

    Attributes:
        reports: metrics.json by protocol and checkpoint (its short name).
        tables: table.md by protocol: the paper's tables, then every category.
        summaries: the first part alone, by protocol.
        by_category: the second part alone, by protocol and checkpoint.
    """

    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    tables: dict[str, str] = field(default_factory=dict)
    summaries: dict[str, str] = field(default_factory=dict)
    by_category: dict[str, dict[str, str]] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
