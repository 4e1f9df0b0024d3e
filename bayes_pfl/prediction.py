"""Folders of images: scores in a table, maps and overlays beside it. Engine of tools/predict.py."""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

from bayes_pfl.calibration import Calibration
from bayes_pfl.class_names import ClassNames, check_class_name
from bayes_pfl.data.decoding import Decoded, decode
from bayes_pfl.data.images import IMAGE_SUFFIXES, find_images
from bayes_pfl.decision import Decision, decision
from bayes_pfl.errors import DataError
from bayes_pfl.files import write_atomically
from bayes_pfl.inference import predict, predict_stream
from bayes_pfl.model import BayesPFL
from bayes_pfl.prediction_files import (
    CSV_NAME,
    MAPS,
    OVERLAYS,
    SUMMARY_NAME,
    MapFormat,
    Pictures,
    Row,
    RowFile,
    not_writable,
)
from bayes_pfl.prediction_summary import FolderSettings, Summary
from bayes_pfl.progress import Progress, Silence
from bayes_pfl.report.overlays import MAX_SIDE
from bayes_pfl.report.pictures import FOLDER as REPORT
from bayes_pfl.report.pictures import ReportPictures, picture_name
from bayes_pfl.report.runs import report_of_run
from bayes_pfl.run_files import environment
from bayes_pfl.scorer import ScoredImage, Scorer

__all__ = ["FolderSettings", "Summary", "predict", "predict_folder", "predict_stream"]


def predict_folder(
    model: BayesPFL,
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    class_name: str | ClassNames,
    samples: int | None = None,
    precision: str = "float32",
    batch_size: int = 8,
    seed: int = 0,
    smoothing: bool = True,
    threshold: float | None = None,
    map_threshold: float | None = None,
    calibration: Calibration | str | os.PathLike[str] | None = None,
    maps: MapFormat = "png16",
    overlays: bool = True,
    overlay_uncertainty: bool = False,
    report: bool = True,
    workers: int = 0,
    compile: bool = False,
    checkpoint: str | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Score every image below a folder, in the order of their paths, in bounded memory.

    Writes ``out``/predictions.csv (one row per image, see :class:`Row`; it appears whole at the
    end), summary.json, and below maps/ and overlays/ one file per image, of its path and full name;
    and report.html, with small pictures below report/.
    An image that cannot be read is a row with its error. What a run has written below ``folder`` is
    not taken for input.

    Args:
        class_name: one for all, perhaps with synonyms; or :class:`ClassNames` for each its own.
        samples, precision, batch_size, seed, smoothing, compile: as in :func:`predict`.
        threshold: scores of at least this get the label 1, others 0.
        map_threshold: outlined on the overlays.
        calibration: of the same model, class name and settings, or its file: brings both
            thresholds and p-values.
        maps: at each image's own size; ``png16``: 0..65535 for 0..1; ``npy``: float32; or ``none``.
        overlay_uncertainty: overlays get a third panel, of the uncertainty.
        report: whether to write report.html.
        workers: processes that decode and resize.
        checkpoint: name of the model, for the summary.
        progress: told of every image that is done.

    Raises:
        DataError: no folder, no images in it, an unusable class name.
        ConfigError: a setting that cannot be used, a calibration that does not fit, an output
            folder that cannot be written.
    """
    rule = decision(
        model,
        class_name,
        threshold=threshold,
        map_threshold=map_threshold,
        calibration=calibration,
        samples=samples,
        precision=precision,
        smoothing=smoothing,
        seed=seed,
    )
    settings = FolderSettings(
        class_name=str(class_name),
        samples=model.config.scoring.samples if samples is None else samples,
        precision=precision,
        batch_size=batch_size,
        seed=seed,
        smoothing=smoothing,
        threshold=rule.threshold,
        map_threshold=rule.map_threshold,
        maps=maps,
        overlays=overlays,
        report=report,
        workers=workers,
        compile=compile,
        overlay_uncertainty=overlay_uncertainty,
    )
    run = _Run(model, Path(folder), Path(out), settings, class_name, rule, progress)
    run.summary.checkpoint = checkpoint
    return run()


class _Run:
    """One folder on its way through the model. Everything that can be refused is, at once."""

    def __init__(
        self,
        model: BayesPFL,
        folder: Path,
        out: Path,
        settings: FolderSettings,
        class_name: str | ClassNames,
        rule: Decision,
        progress: Progress | None,
    ) -> None:
        self.model, self.folder, self.out = model, folder, out
        self.settings, self.rule, self.progress = settings, rule, progress or Silence()
        doubt = settings.overlays and settings.overlay_uncertainty
        self.pictures = Pictures(
            out,
            settings.maps,
            settings.overlays,
            settings.map_threshold,
            model.config.scoring.map_range,
            doubt,
        )
        self.draws_pictures = settings.overlays or settings.maps != "none" or settings.report
        if isinstance(class_name, str):
            check_class_name(model, class_name)
        self.scorer = Scorer(
            model,
            samples=settings.samples,
            precision=settings.precision,
            seed=settings.seed,
            smoothing=settings.smoothing,
            maps=self.draws_pictures,
            spread=settings.report or doubt,
            compile=settings.compile,
        )
        self.paths = input_images(folder, out)
        self.names = self._names(class_name)
        self.small = ReportPictures(out, model.config.scoring.map_range, len(self.paths))
        self.summary = Summary(
            str(folder),
            str(out),
            len(self.paths),
            anomalous=None if settings.threshold is None else 0,
            review=None if settings.threshold is None else 0,
            settings=asdict(settings),
            model=asdict(model.config),
            calibration=rule.calibration.in_short() if rule.calibration else None,
        )

    def _names(self, class_name: str | ClassNames) -> dict[Path, str]:
        """The class name of each image."""
        if isinstance(class_name, str):
            return dict.fromkeys(self.paths, class_name)
        names = class_name.resolve(self.folder, self.paths)
        for name in dict.fromkeys(names):
            check_class_name(self.model, name)
        return dict(zip(self.paths, names, strict=True))

    def __call__(self) -> Summary:
        started = time.perf_counter()
        if self.settings.report:
            self.small.prepare()
        with RowFile(self.out / CSV_NAME) as file, closing(self._rows()) as rows:
            self.progress.start("prediction", len(self.paths))
            for row in rows:
                file.write(row)
                self.summary.add(row)
                self.progress.advance(1, {})
        self._write_summary(time.perf_counter() - started)
        if self.settings.report:
            report_of_run(self.out)
        return self.summary

    def _rows(self) -> Generator[Row, None, None]:
        """Rows in order; the pictures of some images are still being written meanwhile."""
        waiting: deque[tuple[Row, Future[str] | None]] = deque()
        with ThreadPoolExecutor(_threads()) as pool, closing(self._scored()) as images:
            for item, row, scored in images:
                work = self._draw(pool, item, row, scored)
                waiting.append((row, work))
                while len(waiting) > 2 * self.settings.batch_size:
                    yield _finished(*waiting.popleft())
            while waiting:
                yield _finished(*waiting.popleft())

    def _draw(
        self, pool: ThreadPoolExecutor, item: Decoded, row: Row, scored: ScoredImage | None
    ) -> Future[str] | None:
        if scored is None or scored.map is None or item.size is None or row.error:
            return None
        return pool.submit(self._write_pictures, item, row, scored)

    def _write_pictures(self, item: Decoded, row: Row, scored: ScoredImage) -> str:
        preview = item.preview if self.settings.overlays else None
        parts = (scored.map, item.size, preview, scored.spread)
        error = self.pictures.write(row, *parts)  # type: ignore[arg-type]
        if not self.settings.report or item.preview is None:
            return error
        if scored.map is None or scored.spread is None:
            return error
        panels = item.preview, scored.map.numpy(), scored.spread.numpy()
        small = self.small.write(picture_name(row.path), *panels)
        return error or small

    def _scored(self) -> Generator[tuple[Decoded, Row, ScoredImage | None], None, None]:
        batches = decode(
            self.paths,
            self.model.backbone.image_size,
            preview_side=self._preview_side(),
            batch_size=self.settings.batch_size,
            workers=self.settings.workers,
        )
        with closing(batches):
            for batch in batches:
                good = [item for item in batch if item.pixels is not None]
                pixels = [item.pixels for item in good if item.pixels is not None]
                names = [self.names[item.path] for item in good]
                results = iter(self.scorer(pixels, names) if pixels else [])
                for item in batch:
                    scored = next(results) if item.pixels is not None else None
                    yield item, self._row(item, scored), scored

    def _preview_side(self) -> int:
        if self.settings.overlays:
            return MAX_SIDE
        return self.small.side if self.settings.report else 0

    def _row(self, item: Decoded, scored: ScoredImage | None) -> Row:
        path = item.path.relative_to(self.folder).as_posix()
        row = Row(path, self.names[item.path], error=item.error)
        if item.size is not None:
            row = replace(row, width=item.size[0], height=item.size[1])
        if scored is None:
            return row
        if not scored.finite:
            return replace(row, error="score is not finite: use precision bfloat16 or float32")
        verdict = self.rule.verdict(scored.score, scored.low, scored.high)
        return replace(
            row,
            score=scored.score,
            label=verdict.label,
            uncertainty=scored.uncertainty,
            text_score=scored.text_score,
            map_score=scored.map_score,
            score_low=scored.low,
            score_high=scored.high,
            needs_review=None if verdict.needs_review is None else int(verdict.needs_review),
            p_value=verdict.p_value,
        )

    def _write_summary(self, seconds: float) -> None:
        self.summary.seconds = round(seconds, 3)
        self.summary.images_per_second = round(len(self.paths) / seconds, 3)
        self.summary.environment = environment(self.model.device.type)
        # ASCII, so that undecodable bytes of a path survive as escapes.
        text = json.dumps(asdict(self.summary), indent=2) + "\n"
        try:
            write_atomically(self.out / SUMMARY_NAME, text)
        except OSError as error:
            raise not_writable(self.out, error) from error


def input_images(folder: Path, out: Path) -> list[Path]:
    """The images below ``folder``, but for those that a run has written there.

    maps/, overlays/ and report/ of ``out``, and those beside a table and summary of an earlier run,
    are left out.

    Raises:
        DataError: there are none, or no such folder.
    """
    paths = find_images(folder)
    below = {parent for path in paths for parent in path.relative_to(folder).parents}
    written = {place for place in below if _is_output(folder / place, out)}
    if written:
        paths = [p for p in paths if written.isdisjoint(p.relative_to(folder).parents)]
    if not paths:
        raise DataError(
            f"{folder}: no images; files that end in {' '.join(IMAGE_SUFFIXES)} are looked for, "
            "in the folder and those below it"
        )
    return paths


def _is_output(place: Path, out: Path) -> bool:
    home = place.parent
    return place.name in (MAPS, OVERLAYS, REPORT) and (
        os.path.realpath(home) == os.path.realpath(out)
        or all((home / name).is_file() for name in (CSV_NAME, SUMMARY_NAME))
    )


def _finished(row: Row, work: Future[str] | None) -> Row:
    error = work.result() if work else ""
    return replace(row, error=error) if error else row


def _threads() -> int:
    """Threads that draw: most of their time is spent in libraries that run side by side."""
    return max(2, min(8, (os.cpu_count() or 2) // 2))
