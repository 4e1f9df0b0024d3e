"""A checkpoint that looks at its images at another size than it was trained with.

Things seem smaller to a network at test time than in training, where crops and scalings enlarge
them; a larger input mends that (Touvron et al. 2019, arXiv 1906.06423), and small faults cover more
cells. The weights stay what they are. What depends on the size is the range of the maps' colours,
and, where it is asked for, both temperatures.
"""

from __future__ import annotations

from pathlib import Path

from bayes_pfl.checkpoints.load import load_checkpoint, save_checkpoint
from bayes_pfl.data.records import Sample
from bayes_pfl.evaluate.categories import EvaluationSettings, evaluate, map_range
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.support.progress import Progress, NullProgress
from bayes_pfl.train.temperature_scaling import scale_temperatures


def resize_checkpoint(
    checkpoint: str | Path,
    image_size: int,
    out: Path,
    validation: list[Sample],
    settings: EvaluationSettings = EvaluationSettings(),  # noqa: B008  (frozen)
    *,
    grid: int | None = None,
    fit_temperatures: bool = False,
    device: str | None = None,
    pretrained: str | None = None,
    progress: Progress | None = None,
) -> BayesPFLNetwork:
    """Write ``checkpoint`` to ``out`` with another side of the input.

    Args:
        image_size: S, in pixels.
        validation: images whose maps give the new range of colours, as at the end of training;
            none keeps the old one.
        settings: of their scoring.
        grid: tokens along a side from now on, for towers in stages; None for the checkpoint's, or
            what follows from the size.
        fit_temperatures: to ``validation``, see :mod:`bayes_pfl.train.temperature_scaling`.

    Raises:
        CheckpointError: not found, or ``out`` cannot be written.
        BackboneError: the image tower cannot take this size.
        DataError: temperatures cannot be fitted to these images.
    """
    progress = progress or NullProgress()
    model = load_checkpoint(
        checkpoint, device=device, pretrained=pretrained, image_size=image_size, grid=grid
    )
    if fit_temperatures:
        progress.start("temperatures", len(validation))
        scale_temperatures(
            model, validation, seed=settings.seed, batch_size=settings.batch_size,
            workers=settings.workers, advance=lambda n: progress.advance(n, {}),
        )  # fmt: skip
    if validation:
        progress.start("validation", len(validation))
        records = evaluate(model, validation, settings, lambda n: progress.advance(n, {}))
        model.update_scoring(map_range=map_range(records))
    save_checkpoint(model, out)
    return model
