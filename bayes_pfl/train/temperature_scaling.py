"""Temperatures fitted to validation images after training (Guo et al. 2017, arXiv 1706.04599).

Not in the paper. Focal loss weighs defects and background alike and leaves most probabilities near
the middle. The temperatures that maximise the likelihood of each prompt pair's answers move plain
background to zero. Within a pair the order of pixels and of images stays; means over pairs change a
little.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from bayes_pfl.data.records import Sample
from bayes_pfl.data.samples import SampleDataset
from bayes_pfl.errors import DataError
from bayes_pfl.evaluate.scoring import EvaluationSettings
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.support.progress import Progress

_SCALES = torch.logspace(math.log10(2), math.log10(500), 140)  # 4% from one to the next


@torch.no_grad()
def scale_temperatures(
    model: BayesPFLNetwork,
    samples: list[Sample],
    settings: EvaluationSettings,
    progress: Progress,
) -> None:
    """Set the two temperatures of ``model`` to the most likely of 140 values from 2 to 500.

    The likelihood is computed for every prompt pair separately: for pixels at every token of every
    layer, compared with the defective share of the token's cell; for images with the text score,
    compared with the label. Anomalous images without a mask do not count for the pixels'
    temperature. Memory does not grow with the number of images.

    Raises:
        DataError: no normal image, or no anomalous one with a mask.
    """
    normal = sum(sample.label == 0 for sample in samples)
    masked = sum(sample.mask is not None for sample in samples)
    if not (normal and masked):
        raise DataError(
            f"temperatures are fitted to validation data with normal images ({normal} found) and "
            f"anomalous ones with masks ({masked} found); give a tree that has both"
        )
    costs = torch.zeros(2, len(_SCALES), dtype=torch.float64)
    draws = model.draw(seed=settings.seed)
    data = SampleDataset(samples, model.transform, need_masks=False)
    loader = DataLoader(
        data, settings.batch_size, num_workers=settings.workers, generator=torch.Generator()
    )
    progress.start("temperatures", len(samples))
    for batch in loader:
        names = [samples[i].class_name for i in batch["index"].tolist()]
        features = model.backbone.encode_image(batch["image"].to(model.device))
        text = model.prompt_embeddings(features.pooled, draws, names)
        shares = F.adaptive_avg_pool2d(batch["mask"][:, None], features.grid).flatten(1)
        known = batch["has_mask"]
        for logits in model.layer_logits(features, text):
            cosines = (logits / model.log_scale_pixel.exp()).float().cpu()[known]
            costs[0] += _costs(cosines, shares[known][:, None])
        states = model.image_logits(features, text, model.config.scoring.stage)
        cosines = ((states[:, 1] - states[:, 0]) / model.log_scale_image.exp()).float().cpu()
        costs[1] += _costs(cosines, batch["label"][:, None].float())
        progress.advance(len(names), {})
    pixel, image = _SCALES[costs.argmin(1)].tolist()
    model.log_scale_pixel.fill_(math.log(pixel))
    model.log_scale_image.fill_(math.log(image))


def _costs(cosines: Tensor, wanted: Tensor) -> Tensor:
    """Negative log-likelihood summed over ``cosines``, for each scale; ``wanted`` in [0, 1]."""

    def cost(scale: Tensor) -> Tensor:
        logits = cosines * scale
        return (F.softplus(logits) - wanted * logits).sum(dtype=torch.float64)

    return torch.stack([cost(scale) for scale in _SCALES])
