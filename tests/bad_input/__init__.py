"""Kinds of bad input: what it is, what the user sees, and how it is brought about."""

from __future__ import annotations

from collections.abc import Sequence

from tests.bad_input.case import Case


def sections() -> dict[str, Sequence[Case]]:
    """All cases, under the headings of docs/robustness.md."""
    from tests.bad_input import (
        data,
        exports,
        images,
        instruments,
        models,
        places,
        profiles,
        roi,
        serving,
        settings,
        tiles,
    )

    return {
        "Image files": images.CASES,
        "Pages and DICOM files": instruments.CASES,
        "Names and folders": places.FILES,
        "Class names": places.NAMES,
        "Settings": settings.CASES,
        "Masks and trees": data.MASKS,
        "meta.json": data.META,
        "Dataset cards": data.CARDS,
        "Configs": models.CONFIGS,
        "Checkpoints and weights": models.CHECKPOINTS,
        "Normal pictures and profiles": profiles.CASES,
        "Regions of interest": roi.CASES,
        "Large pictures and tiles": tiles.CASES,
        "Exports": exports.CASES,
        "The service": serving.CASES,
    }


def table(cases: Sequence[Case]) -> str:
    """The cases as a table in markdown."""
    head = "| bad input | what you see |\n|---|---|\n"
    return head + "\n".join(f"| {_cell(case.kind)} | {_cell(case.shows)} |" for case in cases)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
