"""``bayes-pfl resize``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from bayes_pfl.cli import options as opt


def resize(
    checkpoint: Annotated[
        str, Argument(help="Embedded name, checkpoint or run folder, or repository org/name.")
    ],
    image_size: Annotated[int, Option(min=1, help="New side of the input in pixels.")],
    out: Annotated[Path, Option(help="Folder of the new checkpoint.")],
    validation_data: Annotated[
        Path | None,
        Option(help="MVTec-style tree whose maps give the range of the overlays' colours."),
    ] = None,
    grid: opt.Grid = None,
    fit_temperatures: Annotated[
        bool, Option(help="Also fit both temperatures to the validation data.")
    ] = False,
    pretrained: opt.Pretrained = None,
    batch_size: opt.BatchSize = 8,
    workers: opt.Workers = 0,
    device: opt.Device = None,
    seed: opt.Seed = 0,
) -> None:
    """Write the same weights for another input size; compare the two with the scoreboard."""
    from bayes_pfl.data.sources import read_source
    from bayes_pfl.evaluate.scoring import EvaluationSettings
    from bayes_pfl.train.resizing import resize_checkpoint

    validation = read_source(validation_data) if validation_data else []
    settings = EvaluationSettings(batch_size=batch_size, workers=workers, seed=seed)
    with opt.bars() as progress:
        model = resize_checkpoint(
            checkpoint, image_size, out, validation, settings,
            grid=grid, fit_temperatures=fit_temperatures, device=device, pretrained=pretrained,
            progress=progress,
        )  # fmt: skip
    low, high = model.config.scoring.map_range
    if fit_temperatures:
        pixel, image = model.log_scale_pixel.exp().item(), model.log_scale_image.exp().item()
        opt.say(f"temperatures fitted: {pixel:.1f} of pixels, {image:.1f} of images")
    opt.say(f"{out}: {image_size} px, colours of overlays from {low:.3f} to {high:.3f}")
