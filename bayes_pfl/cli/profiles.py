"""``bayes-pfl fit``, and the option that names a profile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from bayes_pfl.cli import class_names
from bayes_pfl.cli import options as opt
from bayes_pfl.errors import ConfigError

if TYPE_CHECKING:
    from bayes_pfl.fit.profile import Profile

ProfileFolder = Annotated[
    Path | None,
    Option(help="Folder of bayes-pfl fit, with normal pictures to compare with and thresholds."),
]
ItsCheckpoint = Annotated[
    str | None,
    Option(
        help="Embedded name, checkpoint or run folder, or hub repository org/name[@rev].  "
        f"[default: the profile's, or {opt.EMBEDDED_CHECKPOINT}]"
    ),
]


def opened(folder: Path | None, checkpoint: str | None) -> tuple[Profile | None, str]:
    """The profile of ``--profile``, and the checkpoint: the one given, or the profile's."""
    from bayes_pfl.fit.profile_files import load_profile

    known = load_profile(folder) if folder is not None else None
    own = known.checkpoint.name if known else None
    return known, checkpoint or own or opt.EMBEDDED_CHECKPOINT


def fit(
    normals: Annotated[
        Path, Argument(help="Folder of normal images, at least one; subfolders are read.")
    ],
    out: Annotated[Path, Option(help="Folder of the profile.")] = Path("profile"),
    class_name: class_names.ClassName = None,
    update: Annotated[
        Path | None,
        Option(help="Add the images to this profile; the result is that of one fit of all."),
    ] = None,
    fpr: Annotated[
        float | None,
        Option(help="Share of new normal images that may be labelled anomalous.  [default: 0.05]"),
    ] = None,
    pixel_fpr: Annotated[
        float | None,
        Option(help="Share of a normal image's pixels that may be anomalous; default: --fpr."),
    ] = None,
    rotations: Annotated[
        bool, Option("--rotations", help="For parts that lie at any angle.")
    ] = False,
    aligned: Annotated[
        bool, Option("--aligned", help="For parts that always lie the same way.")
    ] = False,
    words_only: Annotated[
        bool,
        Option("--words-only", help="Score by words alone, with thresholds; 20 images at least."),
    ] = False,
    keep_outliers: Annotated[
        bool, Option("--keep-outliers", help="Keep images that differ much from the others.")
    ] = False,
    checkpoint: ItsCheckpoint = None,
    pretrained: opt.Pretrained = None,
    samples: opt.Samples = None,
    batch_size: opt.BatchSize = 8,
    precision: opt.Precision = "float32",
    workers: opt.Workers = 0,
    window: opt.Window = None,
    tile: opt.Tile = None,
    overlap: opt.Overlap = None,
    roi: opt.Roi = None,
    device: opt.Device = None,
    seed: opt.Seed = 0,
) -> None:
    """A profile of a part from normal images alone: what predict compares with, and thresholds.

    Exit code 1: written, but some files could not be read and were left out.
    """
    from bayes_pfl.fit.fit import FitOptions, fit_folder
    from bayes_pfl.fit.profile_files import PAGE, save_profile

    before, checkpoint = opened(update, checkpoint)
    model = opt.load_model(checkpoint, device, pretrained)
    if before is None:
        options = FitOptions(
            fpr=0.05 if fpr is None else fpr,
            pixel_fpr=pixel_fpr,
            samples=samples,
            precision=precision,
            batch_size=batch_size,
            seed=seed,
            keep_outliers=keep_outliers,
            workers=workers,
            window=opt.window_of(window),
            **opt.tiles_of(tile, overlap),
            roi=roi,
            rotations=rotations,
            aligned=aligned,
            words_only=words_only,
        )
        name = class_name or "object"
        class_names.warn_of_names(model, class_name)
    else:
        if (
            rotations
            or aligned
            or words_only
            or class_name
            or samples is not None
            or seed
            or window
            or tile
            or overlap
            or roi
        ):
            raise ConfigError(
                "--update keeps the class name and the settings of the profile: leave them out"
            )
        out, name = update or out, before.class_name
        scoring = replace(before.scoring(), batch_size=batch_size, workers=workers)
        options = FitOptions(
            **vars(scoring),
            fpr=before.fpr if fpr is None else fpr,
            pixel_fpr=before.pixel_fpr if pixel_fpr is None and fpr is None else pixel_fpr,
            keep_outliers=keep_outliers,
            rotations=before.options.rotations,
            aligned=before.options.aligned,
        )
    with opt.bars() as progress:
        found = fit_folder(
            model, normals, name, options, before=before, checkpoint=checkpoint, progress=progress
        )
    save_profile(found.profile, out)
    for line in found.remarks:
        opt.say(line)
    if tile == "auto" and found.profile.settings.tile is None:
        opt.say("tile auto: no picture is larger than a tile; each is scored as a whole")
    _say(found.profile, out)
    for copy in found.copies:
        opt.warn(f"note: {copy} is a copy of another picture: left out", style="yellow")
    reasons = [f"{path}: {why}" for path, why in found.skipped]
    opt.finish(reasons, "files skipped", f"open {out / PAGE}")


def _say(profile: Profile, out: Path) -> None:
    from bayes_pfl.fit.threshold_cost import ThresholdCost

    count, known = len(profile.pictures), profile.calibration
    if profile.references:
        memory = profile.references.memory
        opt.say(
            f"{count} normal pictures; {len(memory.vectors):,} patches kept, "
            f"{memory.bytes / 1e6:.1f} MB"
        )
        if tiles := profile.references.tiles:
            opt.say(
                f"in tiles of {profile.settings.tile} px: {len(tiles.memory.vectors):,} patches, "
                f"{tiles.memory.bytes / 1e6:.1f} MB"
            )
    if known:
        opt.say(
            f"threshold {known.threshold:.4f} (at most {known.fpr:g} of normal images reach it), "
            f"pixel_threshold {known.pixel_threshold:.4f} (at most {known.pixel_fpr:g} of their "
            "pixels)"
        )
    else:
        opt.say(
            "no thresholds: they need a second normal picture; scores still put the pictures "
            "in order"
        )
    if cost := ThresholdCost.of(profile):
        for line in cost.sentences():
            opt.say(line)
    if (effect := profile.name_effect) and effect.slight:
        opt.say(
            "class name: changes nearly nothing for this model on these pictures; with "
            f"{effect.name!r} scores by words differ by {effect.largest:.3f} at most, their "
            f"standard deviation is {effect.spread:.3f}"
        )
    opt.say(f"written to {out}; next: bayes-pfl predict FOLDER --profile {out} --out RESULTS")
