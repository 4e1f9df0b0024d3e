"""``bayes-pfl calibrate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bayes_pfl.cli.options import (
    EMBEDDED_CHECKPOINT,
    BatchSize,
    Checkpoint,
    Device,
    Precision,
    Pretrained,
    Samples,
    Seed,
    Workers,
    bars,
    errors,
    load_model,
    say,
)

CalibrationFile = Annotated[
    Path | None,
    typer.Option(help="File of bayes-pfl calibrate: brings thresholds and p-values."),
]

_SHOWN = 20


def calibrate(
    normals: Annotated[Path, typer.Argument(help="Normal images, 20 at least; recursively.")],
    class_name: Annotated[str, typer.Option(help="What the images show, such as 'metal nut'.")],
    fpr: Annotated[
        float, typer.Option(help="Share of new normal images that may be called anomalous.")
    ] = 0.05,
    pixel_fpr: Annotated[
        float | None,
        typer.Option(help="Share of a normal image's pixels that may be outlined; default: --fpr."),
    ] = None,
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("calibration.json"),
    checkpoint: Checkpoint = EMBEDDED_CHECKPOINT,
    pretrained: Pretrained = None,
    samples: Samples = None,
    batch_size: BatchSize = 8,
    precision: Precision = Precision.float32,
    keep_outliers: Annotated[
        bool, typer.Option("--keep-outliers", help="Also with images that look abnormal.")
    ] = False,
    workers: Workers = 0,
    device: Device = None,
    seed: Seed = 0,
) -> None:
    """Thresholds from normal images alone, for predict and evaluate. No labels are needed.

    Exit code 1: written, but some files could not be read and were left out.
    """
    from bayes_pfl.fit.calibrate import CalibrationOptions, calibrate_folder

    options = CalibrationOptions(
        fpr=fpr,
        pixel_fpr=pixel_fpr,
        samples=samples,
        precision=precision.value,
        batch_size=batch_size,
        seed=seed,
        keep_outliers=keep_outliers,
        workers=workers,
    )
    model = load_model(checkpoint, device, pretrained)
    with bars() as progress:
        found, skipped = calibrate_folder(
            model, normals, class_name, options, checkpoint=checkpoint, progress=progress
        )
    found.save(out)
    say(
        f"{found.n} normal images: score threshold {found.threshold:.4f} (at most {found.fpr:g} of "
        f"normal images reach it), map threshold {found.pixel_threshold:.4f} (at most "
        f"{found.pixel_fpr:g} of their pixels); written to {out}"
    )
    for path, reason in skipped[:_SHOWN]:
        errors.print(f"skipped: {path}: {reason}", markup=False, highlight=False, soft_wrap=True)
    if skipped:
        say(f"{len(skipped)} files skipped")
        raise typer.Exit(1)
