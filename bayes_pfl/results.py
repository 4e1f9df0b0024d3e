"""What a prediction gives to its user, in the pixels of the user's own image."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from bayes_pfl.data.images import read_image
from bayes_pfl.errors import DataError


@dataclass(frozen=True, eq=False)
class AnomalyResult:
    """Scores and maps of one image of H×W pixels.

    Attributes:
        score: how anomalous the image is, in [0, 1]: the mean of the next two.
        text_score: mean abnormal probability of the whole image over the sampled prompt pairs.
        map_score: mean of the highest 0.75% of the map at the model's size, before smoothing.
        uncertainty: how far the prompt pairs disagree, in [0, 0.5]; the mean of the standard
            deviations over pairs of the text score and of those highest pixels. It bounds from
            above the standard deviation of the score over pairs.
        anomaly_map: float32 (H, W) in [0, 1], smoothed (if that was not turned off) at the model's
            size and then resized.
        uncertainty_map: float32 (H, W) in [0, 0.5], standard deviation over pairs, not smoothed;
            None if it was not asked for.
        class_name: the word the prompts named the object by.
        size: (width, height) in pixels, Pillow's order.
        path: of the file, as it was given; None for images from memory.
        label: 1 if the score reached the threshold, else 0; None without a threshold.
        image: the picture, mode RGB, for images from memory; files are read again when needed.
        map_range: map values at the two ends of the overlay's colours, as the checkpoint says.
    """

    score: float
    text_score: float
    map_score: float
    uncertainty: float
    anomaly_map: np.ndarray = field(repr=False)
    uncertainty_map: np.ndarray | None = field(repr=False)
    class_name: str
    size: tuple[int, int]
    path: str | None = None
    label: int | None = None
    image: Image.Image | None = field(default=None, repr=False)
    map_range: tuple[float, float] = field(default=(0.0, 1.0), repr=False)

    def overlay(
        self,
        *,
        threshold: float | None = None,
        mask: np.ndarray | None = None,
        title: str | None = None,
        limits: tuple[float, float] | None = None,
    ) -> Image.Image:
        """The image beside its map, with a colour bar.

        Args:
            threshold: of the map, not of the score; its outline is drawn.
            mask: bool (h, w), the true anomalous area, outlined too.
            title: None for the path.
            limits: map values at the two ends of the colours; None for the checkpoint's.

        Raises:
            ImageReadError: the file is gone since.
            DataError: neither a path nor an image is known.
        """
        from bayes_pfl.report.overlays import overlay

        return overlay(
            self._picture(),
            self.anomaly_map,
            threshold=threshold,
            mask=mask,
            title=(self.path or "") if title is None else title,
            note=score_note(self.score, self.uncertainty),
            limits=limits or self.map_range,
        )

    def _picture(self) -> Image.Image:
        if self.image is not None:
            return self.image
        if self.path is None:
            raise DataError("this result has neither path nor image; predict the image again")
        return read_image(self.path)


def score_note(score: float, uncertainty: float) -> str:
    """Score and uncertainty in a few characters.

    >>> score_note(0.8125, 0.031)
    'score 0.812 ± 0.031'
    """
    return f"score {score:.3f} ± {uncertainty:.3f}"


def resize_map(values: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
    """A map (S, S) in [0, 1] -> float32 (H, W) in [0, 1], bilinear, pixel centres aligned.

    Args:
        size: (width, height).
    """
    width, height = size
    whole = values.detach().float().cpu()[None, None]
    resized = F.interpolate(whole, (height, width), mode="bilinear", align_corners=False)
    return resized[0, 0].clamp_(0, 1).numpy()
