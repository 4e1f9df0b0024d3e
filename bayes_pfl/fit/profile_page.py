"""The page of a profile: what is in it, for a person."""

from __future__ import annotations

from bayes_pfl.data.roi_files import FOLDER
from bayes_pfl.detect.references import References
from bayes_pfl.fit.calibration import Calibration
from bayes_pfl.fit.profile import Profile
from bayes_pfl.fit.threshold_cost import ThresholdCost

_LISTED = 200


def page_of(profile: Profile) -> str:
    """Markdown, one page."""
    settings, count = profile.settings, len(profile.pictures)
    lines = [
        f"# Profile: {_plain(profile.class_name)}",
        "",
        f"Made by `bayes-pfl fit` from {count} normal pictures, with the checkpoint "
        f"{_plain(profile.checkpoint.name or 'in memory')}. "
        "Use it with `bayes-pfl predict FOLDER --profile THIS_FOLDER --out RESULTS`.",
        "",
        *_source(profile),
        "",
        *_thresholds(profile),
        "",
        *_cost(profile),
        *_name(profile),
        f"Settings that a run must share: class name {_plain(settings.class_name)}, "
        f"{settings.samples} samples, {settings.precision}, {settings.image_size} px, seed "
        f"{settings.seed}, {'smoothed' if settings.smoothing else 'plain'} maps"
        f"{f', tiles of {settings.tile} px' if settings.tile else ''}.",
        *_roi(settings.roi),
        "",
        "False alarms? Look at them, and add those that are sound: "
        + (
            "fit again, with a folder of all the pictures."
            if settings.tile
            else "`bayes-pfl fit --update THIS_FOLDER MORE/`."
        ),
        "",
        "| picture | score | by words | distance to the others |",
        "|---|---:|---:|---:|",
    ]
    ordered = sorted(profile.pictures, key=lambda picture: -(picture.score or 0))
    for picture in ordered[:_LISTED]:
        cells = (picture.score, picture.words_score, picture.memory_score)
        figures = ("–" if value is None else f"{value:.3f}" for value in cells)
        lines.append(f"| {_plain(picture.name)} | {' | '.join(figures)} |")
    if count > _LISTED:
        lines.append(f"| and {count - _LISTED} more | | | |")
    return "\n".join(lines) + "\n"


def _roi(key: str | None) -> list[str]:
    if key is None:
        return []
    if key == FOLDER:
        return ["", "Each picture had a region of interest of its own: give `--roi FOLDER`."]
    return ["", f"Only the region of interest counts that `roi.{key}.png` shows."]


def _source(profile: Profile) -> list[str]:
    if profile.references is None:
        return ["It scores by words alone: no patches are kept."]
    memory = profile.references.memory
    every = profile.references.settings.grid[0] * profile.references.settings.grid[1]
    views = " and turned copies" if profile.options.rotations else ""
    return [
        f"It keeps {len(memory.vectors):,} patches of {len(memory.vectors) // memory.pictures} "
        f"for each picture, of {every}{views}: {memory.bytes / 1e6:.1f} MB; and the pictures as "
        "the model sees them, in `pictures/`.",
        *_tiles(profile.references.tiles, profile.settings.tile),
    ]


def _tiles(references: References | None, side: int | None) -> list[str]:
    if references is None:
        return []
    memory = references.memory
    return [
        f"Larger pictures are also scored in tiles of {side} pixels, which are compared with "
        f"{len(memory.vectors):,} patches of the normal pictures' tiles: {memory.bytes / 1e6:.1f} "
        "MB. Smaller copies of these pictures show where a patch comes from."
    ]


def _thresholds(profile: Profile) -> list[str]:
    found = profile.calibration
    if found is None:
        return [
            "No thresholds: they need a second normal picture. Scores still put the pictures "
            "in order."
        ]
    return [
        f"Threshold {found.threshold:.4f}: at most {found.fpr:g} of normal pictures reach it. "
        f"Pixel threshold {found.pixel_threshold:.4f}: at most {found.pixel_fpr:g} of their "
        "pixels." + _regions(found)
    ]


def _regions(found: Calibration) -> str:
    if found.region_threshold is None:
        return ""
    return (
        f" Regions above it are shown where their peak reaches {found.region_threshold:.4f}: at "
        f"most {found.region_rate:g} of normal pictures have one."
    )


def _cost(profile: Profile) -> list[str]:
    cost = ThresholdCost.of(profile)
    return [" ".join(cost.sentences(_plain)), ""] if cost else []


def _name(profile: Profile) -> list[str]:
    effect = profile.name_effect
    if effect is None:
        return []
    figures = f"{effect.largest:.3f} at most on {effect.images} of these pictures"
    verdict = " So the name changes nearly nothing for this model." if effect.slight else ""
    return [
        f'With the class name "{effect.name}" scores by words differ by {figures}; their standard '
        f"deviation from picture to picture is {effect.spread:.3f}.{verdict}",
        "",
    ]


def _plain(text: str) -> str:
    """Text in a cell of a table: nothing in a name may end it, or look like markup."""
    safe = "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)
    for mark in "\\`*_[]<>|":
        safe = safe.replace(mark, f"\\{mark}")
    return safe
