"""The small pictures of an evaluation's report, drawn while its images are scored."""

from __future__ import annotations

from pathlib import Path

import cv2
from PIL import ExifTags, Image

from bayes_pfl.data.labelled_batches import LabelledBatch
from bayes_pfl.detect.overlays import fitted
from bayes_pfl.detect.scorer import smoothing_sigma
from bayes_pfl.evaluate.records import CategoryRecord
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.model.scoring import BatchScores, gaussian_smooth
from bayes_pfl.report.pictures import ReportPictures, picture_name
from bayes_pfl.support.files import write_picture

MOST_PICTURES = 5000
"""Images of an evaluation whose report has pictures; a larger one has tables and figures only."""

_TURNED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height


class EvaluationPictures:
    """Draws every image of the batches that it is given; keeps none in memory.

    Args:
        out: folder of the results.
        count: number of images of the run.
        key: of the settings: pictures that earlier runs drew with the same key are kept.

    Raises:
        ConfigError: the folder cannot be written.
    """

    def __init__(self, model: BayesPFLNetwork, out: Path, count: int, key: str) -> None:
        self.sigma = smoothing_sigma(model)
        self.files = ReportPictures(out, model.config.scoring.map_range, count)
        self.files.prepare(key)

    def draw(self, dataset: str, batch: LabelledBatch, scores: BatchScores) -> None:
        """Write the pictures of a batch; one that cannot be written is missing in the report."""
        maps = gaussian_smooth(scores.map, self.sigma).float().cpu().numpy()
        spreads = scores.map_spread.float().cpu().numpy()
        for index, sample in enumerate(batch.samples):
            size = shown_size(sample.path, self.files.side)
            picture = batch.pixels[index]
            if size is not None:
                picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
            name = picture_name(str(sample.path), dataset)
            mask = batch.masks[index] if sample.mask else None
            self.files.write(name, picture, maps[index], spreads[index], mask)

    def drawn(self, dataset: str, record: CategoryRecord) -> dict[str, bytes]:
        """The pictures of a category that could be written: their content by file name."""
        names = [picture_name(row.path, dataset) for row in record.rows]
        paths = [self.files.folder / name for name in names]
        return {path.name: path.read_bytes() for path in paths if path.is_file()}

    def add(self, pictures: dict[str, bytes]) -> None:
        """Write pictures that other processes have drawn.

        Raises:
            OSError: the folder cannot be written.
        """
        for name, content in pictures.items():
            write_picture(self.files.folder / name, content)


def shown_size(path: Path, side: int) -> tuple[int, int] | None:
    """Width and height with the image's own proportions and ``side`` as the longer of the two.

    None for an image whose header cannot be read again.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            if image.getexif().get(ExifTags.Base.Orientation) in _TURNED:
                width, height = height, width
    except Exception:  # it could be read a moment ago; the picture is then a square
        return None
    return fitted((width, height), side)
