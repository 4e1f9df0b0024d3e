"""Rows of a prediction: made from scores, kept in the journal, read from there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any

from bayes_pfl.data.decoding import Decoded
from bayes_pfl.detect.scorer import ScoredImage
from bayes_pfl.fit.decision import Decision
from bayes_pfl.predict.files import Row

_FIELDS = {item.name: item.default for item in fields(Row)}


def scored_row(
    path: str, class_name: str, item: Decoded, scored: ScoredImage | None, rule: Decision
) -> Row:
    """The row of an image that was read and scored, or could not be.

    Args:
        path: within the folder, with forward slashes.
        scored: None if it could not be read.
        rule: makes labels of scores.
    """
    row = Row(path, class_name, error=item.error)
    if item.size is not None:
        row = replace(row, width=item.size[0], height=item.size[1])
    if scored is None:
        return row
    if not scored.finite:
        return replace(row, error="score is not finite: use precision bfloat16 or float32")
    verdict = rule.verdict(scored.score, scored.low, scored.high)
    return replace(
        row,
        score=scored.score,
        label=verdict.label,
        uncertainty=scored.uncertainty,
        text_score=scored.text_score,
        map_score=scored.map_score,
        score_low=scored.low,
        score_high=scored.high,
        needs_review=None if verdict.needs_review is None else int(verdict.needs_review),
        p_value=verdict.p_value,
    )


def entry_of(row: Row, stamp: tuple[int, int]) -> dict[str, Any]:
    """A row as the journal keeps it, in full precision, with its file's size and time of change."""
    known = {name: value for name, value in asdict(row).items() if value != _FIELDS[name]}
    return {**known, "size": stamp[0], "mtime_ns": stamp[1]}


def row_of(entry: Mapping[str, Any]) -> Row:
    """The row that an entry of the journal was made of."""
    return Row(**{name: value for name, value in entry.items() if name in _FIELDS})
