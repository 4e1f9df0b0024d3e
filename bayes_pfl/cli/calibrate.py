"""``bayes-pfl calibrate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from bayes_pfl.cli import options as opt

CalibrationFile = Annotated[
    Path | None,
    Option(help="File of bayes-pfl calibrate, with thresholds and p-values."),
]


def warn_of_old_name(calibration: Path | None) -> None:
    """Say what replaces ``--calibration``, if it was given."""
    if calibration is not None:
        opt.warn(
            "note: --profile FOLDER of bayes-pfl fit replaces --calibration, which goes "
            "with the next version",
            style="yellow",
        )


def calibrate(
    normals: Annotated[
        Path, Argument(help="Folder of normal images, 20 at least; subfolders are read.")
    ],
    class_name: Annotated[str, Option(help="What the images show, such as 'metal nut'.")],
    fpr: Annotated[
        float, Option(help="Share of new normal images that may be labelled anomalous.")
    ] = 0.05,
    pixel_fpr: Annotated[
        float | None,
        Option(help="Share of a normal image's pixels that may be anomalous; default: --fpr."),
    ] = None,
    out: Annotated[Path, Option(help="The file that is written.")] = Path("calibration.json"),
    checkpoint: opt.Checkpoint = opt.EMBEDDED_CHECKPOINT,
    pretrained: opt.Pretrained = None,
    samples: opt.Samples = None,
    batch_size: opt.BatchSize = 8,
    precision: opt.Precision = "float32",
    keep_outliers: Annotated[
        bool, Option("--keep-outliers", help="Keep images that look abnormal.")
    ] = False,
    workers: opt.Workers = 0,
    device: opt.Device = None,
    seed: opt.Seed = 0,
) -> None:
    """The old name of ``fit --words-only``: thresholds from normal images for scores by words.

    Exit code 1: written, but some files could not be read and were left out.
    """
    from bayes_pfl.fit.calibrate import CalibrationOptions, calibrate_folder

    opt.warn(
        "note: bayes-pfl fit --words-only replaces calibrate, which goes with the next version",
        style="yellow",
    )
    options = CalibrationOptions(
        fpr=fpr,
        pixel_fpr=pixel_fpr,
        samples=samples,
        precision=precision,
        batch_size=batch_size,
        seed=seed,
        keep_outliers=keep_outliers,
        workers=workers,
    )
    model = opt.load_model(checkpoint, device, pretrained)
    with opt.bars() as progress:
        found, skipped = calibrate_folder(
            model, normals, class_name, options, checkpoint=checkpoint, progress=progress
        )
    found.save(out)
    opt.say(
        f"{found.n} normal images: threshold {found.threshold:.4f} (at most {found.fpr:g} of "
        f"normal images reach it), pixel_threshold {found.pixel_threshold:.4f} (at most "
        f"{found.pixel_fpr:g} of their pixels)"
    )
    reasons = [f"{path}: {reason}" for path, reason in skipped]
    opt.finish(reasons, "files skipped", f"written to {out}")
