"""What comes before and after the model in anomalib: pictures at its side, thresholds at 0.5.

Symbols: B images, S the model's image side, H×W pixels of a picture.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from anomalib.data import Batch, InferenceBatch
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import Resize
from torchvision.tv_tensors import Mask, wrap

from bayes_pfl.data.transforms import resize_image, resize_mask

_ABOVE = 0.5 + 2**-24
"""The float32 after 0.5: anomalib flags what lies above a threshold, this package also what lies on
it."""

_LEAST = 1e-6  # of a divisor


class SquareResize(Resize):
    """Resizes pictures and masks to S×S as the rest of this package does, to the bit.

    It is a `Resize`: anomalib's data modules then resize before they make batches.

    Args:
        side: S.
    """

    def __init__(self, side: int) -> None:
        super().__init__((side, side))

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """A picture (3, H, W) in [0, 1] or a mask (H, W), or a batch of these."""
        height, width = inpt.shape[-2:]
        side = self.size[0]
        if height == width == side:
            return inpt
        if isinstance(inpt, Mask):
            masks = inpt.reshape(-1, height, width).cpu().numpy()
            found = torch.from_numpy(np.stack([resize_mask(one, (side, side)) for one in masks]))
        else:
            pictures = [resize_image(Image.fromarray(one), side) for one in as_bytes(inpt)]
            found = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255
        found = found.reshape(*inpt.shape[:-2], side, side)
        return wrap(found.to(inpt.device, inpt.dtype), like=inpt)


class SquarePreProcessor(PreProcessor):
    """Resizes pictures, and leaves it to the model to normalise them.

    Args:
        side: S.
    """

    def __init__(self, side: int) -> None:
        super().__init__(SquareResize(side))

    def checkpoint_config(self) -> dict[str, Any]:
        """Nothing: S comes from the model's checkpoint."""
        return {}

    def load_checkpoint_config(self, config: dict[str, Any]) -> None:
        """Nothing is read."""


class CentredPostProcessor(PostProcessor):
    """Moves thresholds to 0.5, and cuts nothing off.

    anomalib's own divides by the range of the scores around the threshold and cuts off what is
    then outside [0, 1]: scores become equal, and areas under curves change.

    Args:
        threshold, map_threshold: of scores and of maps; None for what anomalib finds on its
            validation images.
        options: of anomalib's `PostProcessor`.
    """

    def __init__(
        self, threshold: float | None = None, map_threshold: float | None = None, **options: Any
    ) -> None:
        super().__init__(**{"enable_normalization": False, **options})
        self._threshold, self._map_threshold = threshold, map_threshold

    @property
    def image_threshold(self) -> Tensor:
        """Of the score, float (); NaN where there is none."""
        given = self._threshold
        return super().image_threshold if given is None else torch.tensor(given)

    @property
    def pixel_threshold(self) -> Tensor:
        """Of the map, float (); NaN where there is none."""
        given = self._map_threshold
        return super().pixel_threshold if given is None else torch.tensor(given)

    def forward(self, predictions: InferenceBatch) -> InferenceBatch:
        """Scores and maps of the model, with labels and masks."""
        return super().forward(
            predictions._replace(
                pred_score=centred(predictions.pred_score, self.image_threshold),
                anomaly_map=centred(predictions.anomaly_map, self.pixel_threshold),
            )
        )

    def post_process_batch(self, batch: Batch) -> None:
        """The same for a batch of the Engine, in place."""
        batch.pred_score = centred(batch.pred_score, self.image_threshold)
        batch.anomaly_map = centred(batch.anomaly_map, self.pixel_threshold)
        super().post_process_batch(batch)


def centred(scores: Tensor, threshold: Tensor) -> Tensor:
    """Scores in [0, 1], any shape, in their order, so that the threshold lies at 0.5.

    Two straight lines, from 0 to the threshold and from there to 1. As they were where the
    threshold is NaN.
    """
    if threshold.isnan():
        return scores
    below = 0.5 * scores / threshold.clamp(min=_LEAST)
    above = 0.5 + 0.5 * (scores - threshold) / (1 - threshold).clamp(min=_LEAST)
    return torch.where(scores < threshold, below, above.clamp(min=_ABOVE))


def as_bytes(images: Tensor) -> list[np.ndarray]:
    """Pictures float (..., 3, H, W) in [0, 1] -> uint8 (H, W, 3) of each."""
    flat = images.reshape(-1, *images.shape[-3:])  # (B, 3, H, W)
    steps = (flat.clamp(0, 1) * 255).round().to(torch.uint8)
    return list(steps.permute(0, 2, 3, 1).contiguous().cpu().numpy())
