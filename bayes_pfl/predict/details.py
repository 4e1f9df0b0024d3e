"""What a report shows of an image at full resolution: its strongest regions, and all of it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image

from bayes_pfl.data.decoding import Decoded
from bayes_pfl.detect.regions import Region
from bayes_pfl.errors import DataError
from bayes_pfl.predict.settings import Zoom
from bayes_pfl.report.crops import Cut
from bayes_pfl.report.pictures import ReportPictures
from bayes_pfl.report.zoom import ZoomFolder
from bayes_pfl.support.error_text import error_reason


@dataclass(frozen=True)
class DetailPictures:
    """Writes them; reads again what is larger than the preview, one picture at a time.

    Attributes:
        small, zoom: where the regions and whole images go.
        which: the images that are kept whole; see ``FolderSettings.zoom``.
    """

    small: ReportPictures
    zoom: ZoomFolder
    which: Zoom
    _reading: threading.Lock = field(default_factory=threading.Lock)

    def write(
        self, name: str, item: Decoded, regions: Sequence[Region], striking: bool
    ) -> str | None:
        """Write what is wanted of one image.

        Args:
            name: as :func:`bayes_pfl.report.pictures.picture_name` gives it.
            regions: the most anomalous first.
            striking: ``worth_a_look`` said so: its regions are shown.

        Returns:
            Why something was not written; None if all was.

        Raises:
            OSError: the disk is full.
        """
        size, preview = item.size, item.preview
        if size is None or preview is None:
            return None
        shown = regions if striking else ()
        whole = self.which == "all" or (striking and self.which == "anomalous")
        whole = whole and max(size) > self.small.side
        if not (shown or whole):
            return None
        if item.large:
            return self._write(name, item.large.part, size, shown, whole)
        if preview.shape[1::-1] == size:
            return self._write(name, Image.fromarray(preview).crop, size, shown, whole)
        with self._reading:
            try:
                picture = item.picture.read()
            except DataError as error:
                return f"pictures at full resolution not written: {error_reason(error)}"
            return self._write(name, picture.crop, size, shown, whole)

    def _write(
        self, name: str, cut: Cut, size: tuple[int, int], regions: Sequence[Region], whole: bool
    ) -> str | None:
        reason = self.small.write_crops(name, cut, size, regions) if regions else None
        if whole and reason is None:
            reason = self.zoom.write(name, cut, size)
        return reason
