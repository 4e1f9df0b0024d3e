"""Writes a checkpoint that takes images of another size than it was trained with.

Objects appear smaller to a network at test time than in training, where crops and scaling enlarge
them; a larger input corrects that (Touvron et al. 2019, arXiv 1906.06423), and small defects cover
more patches. The weights do not change. The colour range of the maps depends on the size and is
measured again; the two temperatures can be fitted again too.
"""

from __future__ import annotations

from pathlib import Path

from bayes_pfl.checkpoints.format import save_checkpoint
from bayes_pfl.checkpoints.load import load_checkpoint
from bayes_pfl.data.records import Sample
from bayes_pfl.evaluate.scoring import EvaluationSettings, evaluate, map_range
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.support.progress import Progress
from bayes_pfl.train.temperature_scaling import scale_temperatures


def resize_checkpoint(
    checkpoint: str | Path,
    image_size: int,
    out: Path,
    validation: list[Sample],
    settings: EvaluationSettings,
    *,
    grid: int | None,
    fit_temperatures: bool,
    device: str | None,
    pretrained: str | None,
    progress: Progress,
) -> BayesPFLNetwork:
    """Write ``checkpoint`` to ``out`` with another input size; returns its model.

    Args:
        image_size: new side S of the input, in pixels.
        validation: images whose maps give the new colour range, as at the end of training; an
            empty list keeps the old range.
        settings: how the validation images are scored.
        grid: new number of tokens along a side, for towers in stages; None keeps the checkpoint's,
            or derives it from the size.
        fit_temperatures: fit both temperatures to ``validation``, see
            :mod:`bayes_pfl.train.temperature_scaling`.

    Raises:
        CheckpointError: the checkpoint is not found, or ``out`` cannot be written.
        BackboneError: the image tower cannot take this size.
        DataError: the temperatures cannot be fitted to these images.
    """
    model: BayesPFLNetwork = load_checkpoint(
        checkpoint, device=device, pretrained=pretrained, image_size=image_size, grid=grid
    )
    if fit_temperatures:
        scale_temperatures(model, validation, settings, progress)
    if validation:
        progress.start("validation", len(validation))
        records = evaluate(model, validation, settings, lambda n: progress.advance(n, {}))
        model.update_scoring(map_range=map_range(records))
    save_checkpoint(model, out)
    return model
