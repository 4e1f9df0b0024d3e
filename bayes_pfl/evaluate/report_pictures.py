"""The small pictures of an evaluation's report, drawn while its images pass through the model."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor

from bayes_pfl.data.labelled_batches import Batch
from bayes_pfl.model.network import BatchScores, BayesPFLNetwork
from bayes_pfl.model.scoring import gaussian_smooth
from bayes_pfl.report.pictures import ReportPictures, picture_name

MOST = 5000
"""Of larger evaluations the report has tables and figures, but no pictures."""

_LYING = (5, 6, 7, 8)  # EXIF orientations that exchange width and height


class EvaluationPictures:
    """Draws every image of the batches that it is shown; one batch is held at a time.

    Args:
        out: folder of the results.
        count: images of the run.
        key: of the settings: pictures of earlier runs with the same key stay.

    Raises:
        ConfigError: the folder cannot be written.
    """

    def __init__(self, model: BayesPFLNetwork, out: Path, count: int, key: str) -> None:
        self.backbone, scoring = model.backbone, model.config.scoring
        self.sigma = scoring.smoothing * self.backbone.image_size
        self.files = ReportPictures(out, scoring.map_range, count)
        self.files.prepare(key)

    def draw(self, dataset: str, batch: Batch, scores: BatchScores) -> None:
        """Write the pictures of a batch; one that cannot be written is missing on the page."""
        maps = gaussian_smooth(scores.map, self.sigma).float().cpu().numpy()
        spreads = scores.map_spread.float().cpu().numpy()
        pictures = self._pictures(batch.images)
        for index, sample in enumerate(batch.samples):
            size = shown_size(sample.path, self.files.side)
            picture = pictures[index]
            if size is not None:
                picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
            name = picture_name(str(sample.path), dataset)
            mask = batch.masks[index] if sample.mask else None
            self.files.write(name, picture, maps[index], spreads[index], mask)

    def _pictures(self, images: Tensor) -> np.ndarray:
        """Normalised (B, 3, S, S) -> uint8 (B, S, S, 3)."""
        mean = torch.tensor(self.backbone.mean).view(1, 3, 1, 1)
        std = torch.tensor(self.backbone.std).view(1, 3, 1, 1)
        values = (images.cpu() * std + mean).clamp_(0, 1) * 255
        return values.round_().byte().permute(0, 2, 3, 1).contiguous().numpy()


def shown_size(path: Path, side: int) -> tuple[int, int] | None:
    """(width, height) with the image's own proportions and the given longer side, by its header."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            if image.getexif().get(ExifTags.Base.Orientation) in _LYING:
                width, height = height, width
    except Exception:  # it was read a moment ago; without its proportions the picture is square
        return None
    scale = side / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))
