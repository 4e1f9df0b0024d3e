"""What a prediction gives to its user, in the pixels of the user's own image."""

from __future__ import annotations

import html
import io
import os
from base64 import b64encode
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from bayes_pfl.data.images import read_image
from bayes_pfl.data.pages import Picture, large_page
from bayes_pfl.data.roi import PictureRoi
from bayes_pfl.detect.overlays import MAX_SIDE, fitted, overlay, plain_text
from bayes_pfl.detect.regions import Box, PValues, Region, RegionRule, find_regions
from bayes_pfl.errors import ConfigError, DataError
from bayes_pfl.support.files import raising_not_written, write_atomically

_PICTURES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
_SHOWN_SIDE = 512  # of a panel in a notebook


@dataclass(frozen=True)
class NearestNormal:
    """The most anomalous patch of an image, and the most similar patch of the references.

    Attributes:
        name: of the reference picture.
        distance: one minus the cosine of the two patches, in [0, 2]; in tiles half their squared
            Mahalanobis distance by the channel, from 0.
        box: around the patch, in pixels of the image.
        reference_box: around the other, in pixels of the reference as the model sees it.
        picture: the reference as the model sees it, mode RGB.
    """

    name: str
    distance: float
    box: Box
    reference_box: Box
    picture: Image.Image = field(repr=False, compare=False)


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
        interval: central 95% of the scores that the prompt pairs give one by one; the score is the
            mean of these.
        anomaly_map: float32 (H, W) in [0, 1], smoothed (if that was not turned off) at the model's
            size and then resized.
        uncertainty_map: float32 (H, W) in [0, 0.5], standard deviation over pairs, not smoothed;
            None if it was not asked for.
        class_name: the word the prompts named the object by.
        size: (width, height) in pixels, Pillow's order.
        path: of the file, as it was given; None for images from memory.
        label: 1 if the score reached the threshold, else 0; None without a threshold.
        needs_review: whether the score is below the threshold, but as high as few normal pictures
            score, so that a person should look; None without a calibration.
        p_value: share of normal images that score at least as high; None without a calibration.
        words_score: the score by words alone, in [0, 1]; None without references, where it is the
            score.
        memory_score: mean distance of the farthest 1% of the patches to the references, in [0, 2];
            of a large picture that of its most deviating tile, in another unit (see
            :class:`NearestNormal`); None without references.
        nearest_normal: what the references show that is most like the most anomalous patch; None
            without references.
        image: the picture, mode RGB, for images from memory; files are read again when needed.
        map_range: map values at the two ends of the overlay's colours, as the checkpoint says.
        map_threshold: of the map, from the calibration; None without one.
        region_threshold: regions at or above ``map_threshold`` whose peak is lower are left out,
            because normal pictures have such, too; None for all.
        window: (centre, width) with which a DICOM file was read; None for its own.
        min_area: regions of fewer pixels are left out of :attr:`regions`.
        peak_p_values: from peaks of regions to p-values; None where no normal pictures are known.
        roi: the region of interest, outside of which the maps are 0; None without one.
    """

    score: float
    text_score: float
    map_score: float
    uncertainty: float
    interval: tuple[float, float]
    anomaly_map: np.ndarray = field(repr=False)
    uncertainty_map: np.ndarray | None = field(repr=False)
    class_name: str
    size: tuple[int, int]
    path: str | None = None
    label: int | None = None
    needs_review: bool | None = None
    p_value: float | None = None
    image: Image.Image | None = field(default=None, repr=False)
    map_range: tuple[float, float] = field(default=(0.0, 1.0), repr=False)
    map_threshold: float | None = field(default=None, repr=False)
    region_threshold: float | None = field(default=None, repr=False)
    words_score: float | None = None
    memory_score: float | None = None
    nearest_normal: NearestNormal | None = field(default=None, repr=False)
    window: tuple[float, float] | None = field(default=None, repr=False)
    min_area: int = field(default=1, repr=False)
    peak_p_values: PValues | None = field(default=None, repr=False)
    roi: PictureRoi | None = field(default=None, repr=False)

    @cached_property
    def regions(self) -> tuple[Region, ...] | None:
        """The connected regions at or above ``map_threshold`` with a peak of ``region_threshold``
        at least, the most anomalous first.

        Found when first asked for; None where no pixel threshold is known. With another
        threshold: :meth:`boxes`.
        """
        if self.map_threshold is None:
            return None
        return find_regions(self.anomaly_map, self._rule(None, self.min_area)).regions

    def to_dict(self) -> dict[str, Any]:
        """The figures, by the names of the columns of predictions.csv: nothing but text, numbers
        and None, as JSON takes them."""
        regions = self.regions
        return {
            "path": self.path,
            "class_name": self.class_name,
            "width": self.size[0],
            "height": self.size[1],
            "score": self.score,
            "label": self.label,
            "p_value": self.p_value,
            "needs_review": self.needs_review,
            "score_low": self.interval[0],
            "score_high": self.interval[1],
            "uncertainty": self.uncertainty,
            "text_score": self.text_score,
            "map_score": self.map_score,
            "words_score": self.words_score,
            "memory_score": self.memory_score,
            "regions": None if regions is None else len(regions),
        }

    def mask(self, threshold: float | None = None) -> np.ndarray:
        """The pixels of :attr:`regions`, or of all regions of ``min_area`` pixels at least.

        Args:
            threshold: of the map, for all regions at or above it; None for the profile's.

        Returns:
            bool (H, W).

        Raises:
            ConfigError: no threshold is known, or it is no number.
        """
        found = find_regions(self.anomaly_map, self._rule(threshold, self.min_area))
        return found.mask().astype(bool)

    def plot(self, axes: Any = None, **options: Any) -> Any:
        """Draw the overlay with matplotlib.

        Args:
            axes: to draw on; None for those of a new figure.
            options: of :meth:`overlay`.

        Returns:
            The axes.
        """
        from matplotlib import pyplot

        picture = self.overlay(**options)
        if axes is None:
            shape = picture.width / 160, picture.height / 160
            axes = pyplot.figure(figsize=shape, layout="constrained").add_subplot()
        axes.imshow(np.asarray(picture))
        axes.set_axis_off()
        return axes

    def overlay(
        self,
        *,
        threshold: float | None = None,
        mask: np.ndarray | None = None,
        title: str | None = None,
        limits: tuple[float, float] | None = None,
        uncertainty: bool = False,
        max_side: int | None = None,
    ) -> Image.Image:
        """The image and its map side by side, with a colour bar.

        Args:
            threshold: of the map, not of the score; all regions at or above it are outlined. None
                for :attr:`regions`, if the run had a calibration.
            mask: bool (h, w), the true anomalous area, outlined too.
            title: None for the path.
            limits: map values at the two ends of the colours; None for the checkpoint's.
            uncertainty: a further panel shows the uncertainty map.
            max_side: of the image's panel, in pixels; None for 1024.

        Raises:
            ImageReadError: the file does not exist any more.
            ConfigError: a threshold that is no number.
            DataError: neither a path nor an image is known, or no uncertainty map.
        """
        if uncertainty and self.uncertainty_map is None:
            raise DataError("this result has no uncertainty map; predict with uncertainty=True")
        limit = self.map_threshold if threshold is None else threshold
        area = None
        if limit is not None:
            area = self.mask(threshold)
        side = max_side or MAX_SIDE
        return overlay(
            self._picture(),
            self.anomaly_map,
            threshold=limit,
            area=area,
            mask=mask,
            title=(self.path or "") if title is None else title,
            note=score_note(self.score, self.interval),
            limits=limits or self.map_range,
            uncertainty=self.uncertainty_map if uncertainty else None,
            roi=self.roi.whole(fitted(self.size, side)) if self.roi else None,
            max_side=side,
        )

    def contours(self, threshold: float | None = None) -> list[np.ndarray]:
        """Outlines of the regions at or above a threshold of the map, largest first.

        Outer outlines alone: holes have none. Pixels that touch at a corner are one region.

        Args:
            threshold: None for the calibration's, and the regions that it keeps.

        Returns:
            int32 (n, 2) each: x and y of the region's border pixels, in pixels of the image.

        Raises:
            ConfigError: no threshold is known, or it is no number.
        """
        area = find_regions(self.anomaly_map, self._rule(threshold, 1)).mask()
        found, _ = cv2.findContours(area, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        lines = [line[:, 0].astype(np.int32) for line in found]
        return sorted(lines, key=lambda line: -cv2.contourArea(line))

    def boxes(self, threshold: float | None = None, min_area: int = 1) -> list[Box]:
        """Rectangles (left, top, right, bottom) around these regions, the most anomalous first.

        Args:
            threshold: of the map; None for the calibration's, and the regions that it keeps.
            min_area: regions of fewer pixels are left out.

        Raises:
            ConfigError: no threshold is known, it is no number, or ``min_area`` is below 1.
        """
        found = find_regions(self.anomaly_map, self._rule(threshold, min_area))
        return [region.box for region in found.regions]

    def save(self, target: str | os.PathLike[str]) -> list[Path]:
        """Write the overlay (a name that ends in .png or .jpg), the map (.npy), or both.

        Any other name is a folder, made if it is missing; both go there, as NAME.overlay.png and
        NAME.map.npy with the whole name of the image's file.

        Returns:
            The files written, each whole or not at all.

        Raises:
            ConfigError: they cannot be written; a folder, for an image without a name.
        """
        place = Path(target)
        with raising_not_written(place, "choose another place", ConfigError):
            if not place.is_dir() and place.suffix.lower() in (*_PICTURES, ".npy"):
                files = [place]
            elif self.path is not None:
                name = Path(self.path).name
                files = [place / f"{name}.{kind}" for kind in ("overlay.png", "map.npy")]
            else:
                raise ConfigError(
                    f"{place}: an image from memory has no name for its files; give a file's name, "
                    f"such as {place / 'part.png'}"
                )
            files[0].parent.mkdir(parents=True, exist_ok=True)
            for file in files:
                write_atomically(file, self._encoded(file.suffix.lower()))
        return files

    def _encoded(self, kind: str, max_side: int | None = None) -> bytes:
        """The map or the overlay as the bytes of a file, by how its name ends."""
        buffer = io.BytesIO()
        if kind == ".npy":
            np.save(buffer, self.anomaly_map)
        else:
            self.overlay(max_side=max_side).save(buffer, _PICTURES[kind])
        return buffer.getvalue()

    def _repr_png_(self) -> bytes | None:
        """The overlay, for notebooks; None if the image's file is gone."""
        try:
            return self._encoded(".png", _SHOWN_SIDE)
        except DataError:
            return None

    def _repr_html_(self) -> str:
        """Overlay and figures, for notebooks; names are shown, never executed."""
        rows = [("score", score_note(self.score, self.interval)), ("class", self.class_name)]
        if self.label is not None:
            verdict = "anomalous" if self.label else "normal"
            rows.append(("label", verdict + (", needs review" if self.needs_review else "")))
        if self.p_value is not None:
            rows.append(("p-value", f"{self.p_value:.3g}"))
        cells = "".join(
            f"<tr><th>{key}</th><td>{html.escape(plain_text(value))}</td></tr>"
            for key, value in rows
        )
        name, png = html.escape(plain_text(self.path or "image")), self._repr_png_()
        picture = f"<p>{name}</p>"
        if png is not None:
            source = f"data:image/png;base64,{b64encode(png).decode('ascii')}"
            picture = f'<img alt="{name} next to its anomaly map" src="{source}">'
        return f"<div>{picture}<table>{cells}</table></div>"

    def _rule(self, threshold: float | None, min_area: int) -> RegionRule:
        if threshold is not None:
            return RegionRule(threshold, min_area, self.peak_p_values)
        if self.map_threshold is None:
            raise ConfigError("no pixel threshold is known: give one, or predict with a profile")
        return RegionRule(self.map_threshold, min_area, self.peak_p_values, self.region_threshold)

    def _picture(self) -> Image.Image:
        if self.image is not None:
            return self.image
        if self.path is None:
            raise DataError("this result has neither path nor image; predict the image again")
        if large := large_page(Picture(Path(self.path))):
            return large.overview().picture
        return read_image(self.path, window=self.window)


def score_note(score: float, interval: tuple[float, float]) -> str:
    """Score and its interval in a few characters.

    >>> score_note(0.8125, (0.77, 0.85))
    'score 0.812 (0.770 to 0.850)'
    """
    return f"score {score:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"


def cell_box(cell: int, grid: tuple[int, int], size: tuple[int, int], around: int = 1) -> Box:
    """The rectangle of a cell and its neighbours in a picture.

    Args:
        cell: counted row by row in a grid (h, w).
        size: (width, height) of the picture.
        around: cells on each side.
    """
    row, column = divmod(cell, grid[1])
    width, height = size[0] / grid[1], size[1] / grid[0]
    return Box(
        max(0, round((column - around) * width)),
        max(0, round((row - around) * height)),
        min(size[0], round((column + around + 1) * width)),
        min(size[1], round((row + around + 1) * height)),
    )
