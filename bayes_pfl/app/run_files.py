"""What a person can take away from an inspection: predictions.csv and report.html."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np

from bayes_pfl.app.inspection import Inspected, InspectionRequest, Inspector
from bayes_pfl.detect.results import AnomalyResult
from bayes_pfl.fit.decision import worth_a_look
from bayes_pfl.predict.rows import Row
from bayes_pfl.predict.summary import Counts, Summary
from bayes_pfl.predict.tables import table_of_rows
from bayes_pfl.report.pictures import ReportPictures, picture_name
from bayes_pfl.report.runs import report_of_run
from bayes_pfl.support.files import write_atomically
from bayes_pfl.support.run_names import CSV_NAME, SUMMARY_NAME

_HERE = "bayes-pfl app"  # in place of the folders of a run: those of the app are temporary
_COLUMNS = {item.name for item in fields(Row)}


@dataclass
class RunFiles:
    """The files of an inspection, as ``bayes-pfl predict`` writes them.

    Attributes:
        folder: empty; what is written lies in it.
        images: how many are inspected.
    """

    folder: Path
    inspector: Inspector
    request: InspectionRequest
    images: int
    _rows: list[Row] = field(default_factory=list)
    _pictures: ReportPictures | None = None

    def add(self, item: Inspected) -> None:
        """Add a file that was inspected; its small pictures are written at once."""
        names = {row.path for row in self._rows}
        name = f"{len(self._rows) + 1}/{item.name}" if item.name in names else item.name
        row = Row(name, self.request.class_name, error=item.error)
        if (result := item.result) is not None:
            known = {key: value for key, value in result.to_dict().items() if key in _COLUMNS}
            review = None if result.needs_review is None else int(result.needs_review)
            row = Row(**{**known, "path": name, "needs_review": review})
            reason = self._write_pictures(name, result)
            row = replace(row, error=reason) if reason else row
        self._rows.append(row)

    def _write_pictures(self, name: str, result: AnomalyResult) -> str | None:
        image, spread = result.image, result.uncertainty_map
        if image is None or spread is None:
            return None
        if self._pictures is None:
            self._pictures = ReportPictures(self.folder, result.map_range, self.images)
            self._pictures.prepare()
        file, pixels = picture_name(name), np.asarray(image)
        area = None if result.map_threshold is None else result.mask()
        roi = result.roi.whole(image.size) if result.roi else None
        write = self._pictures.write
        reason = write(file, pixels, result.anomaly_map, spread, area=area, roi=roi)
        if worth_a_look(result.score, result.label):
            if near := result.nearest_normal:
                reason = reason or self._pictures.write_nearest(file, pixels, result.size, near)
            if result.regions:
                cut = image.crop
                reason = reason or self._pictures.write_crops(
                    file, cut, result.size, result.regions
                )
        return reason

    def finish(self, seconds: float) -> list[Path]:
        """Write the table and the page; nothing where no file was inspected.

        Args:
            seconds: that the inspection took.

        Returns:
            The two files.

        Raises:
            ConfigError, DataError: they cannot be written.
        """
        if not self._rows:
            return []
        settings, rule = self.inspector.resolved(self.request)
        model, profile = self.inspector.model(self.request.checkpoint), rule.profile
        summary = Summary.begun(
            _HERE, _HERE, len(self._rows), self.request.checkpoint, model, settings, rule
        )
        if summary.profile is not None and profile is not None and profile.folder:
            summary.profile["folder"] = os.path.basename(profile.folder)
        counts = Counts()
        with table_of_rows(self.folder / CSV_NAME) as write:
            for row in self._rows:
                write(row)
                counts.add(Counts.of(row))
        summary.finish(counts, seconds, model.device.type)
        write_atomically(self.folder / SUMMARY_NAME, summary.as_json(), sync=False)
        return [self.folder / CSV_NAME, report_of_run(self.folder)]
