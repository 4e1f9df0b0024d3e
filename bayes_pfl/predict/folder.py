"""Folders of images: scored batch by batch, journalled, then a table, maps, overlays, a page."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from bayes_pfl.data.decoding import Decoded, decode
from bayes_pfl.data.roi_files import below
from bayes_pfl.data.wording import ClassNames
from bayes_pfl.detect.pictures import score_pictures
from bayes_pfl.detect.scorer import ScoredImage, Scorer
from bayes_pfl.errors import ConfigError, DataError
from bayes_pfl.fit.calibration import Calibration
from bayes_pfl.fit.decision import Decision, nearest_normal, worth_a_look
from bayes_pfl.fit.profile import ProfileLike
from bayes_pfl.fit.profile_files import known_profile
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.predict.former import remove_pictures
from bayes_pfl.predict.inputs import InputImages, read_input
from bayes_pfl.predict.ledger import RESTART, Ledger, run_header
from bayes_pfl.predict.mutual import by_mutual_scoring
from bayes_pfl.predict.output import OutputFolder
from bayes_pfl.predict.places import Given, places_of
from bayes_pfl.predict.rows import Row, entry_of, row_of, scored_row
from bayes_pfl.predict.settings import FolderSettings
from bayes_pfl.predict.summary import Summary, read_summary
from bayes_pfl.predict.tables import writing_to
from bayes_pfl.report.runs import report_of_run
from bayes_pfl.support.files import write_atomically
from bayes_pfl.support.journal import Journal, is_end
from bayes_pfl.support.processes import usable_cores
from bayes_pfl.support.progress import NullProgress, Progress
from bayes_pfl.support.run_names import JOURNAL_NAME, SUMMARY_NAME

Drawn = tuple[int, Row, "Future[Row] | None"]

_DEFAULTS = FolderSettings()
_BATCHES_BEING_DRAWN = 2


def predict_folder(
    model: BayesPFLNetwork,
    folder: Given,
    out: str | os.PathLike[str],
    *,
    class_name: str | ClassNames | None = None,
    settings: FolderSettings = _DEFAULTS,
    calibration: Calibration | str | os.PathLike[str] | None = None,
    profile: ProfileLike | None = None,
    mutual: int | None = None,
    checkpoint: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    make_scorer: Callable[..., Scorer] = Scorer,
) -> Summary:
    """Score every image below a folder, in the order of their paths, in bounded memory.

    Writes ``out``/predictions.csv (one row per image, see :class:`Row`; it appears whole at the
    end), summary.json, and below maps/ and overlays/ one file per image, of its path and full name;
    regions.csv (one row per region) and the files of ``settings.formats`` where a threshold of the
    map is known; and report.html, with small pictures below report/. Rows are kept in
    predictions.journal.jsonl as they come, each after its pictures, so that a stopped run can be
    resumed anywhere.
    An image that cannot be read is a row with its error. What a run has written below ``folder`` is
    not taken for input.

    Args:
        folder: or a file, a pattern such as "photos/*.jpg", or several of these; paths in results
            are then relative to the folder that all have in common.
        class_name: one for all, perhaps with synonyms; or :class:`ClassNames` for each its own;
            None for the profile's, or "object".
        calibration: of the same model, class name and settings, or its file: brings both
            thresholds and p-values.
        profile: of the same model and settings, or its folder: the images are also compared with
            its normal pictures. It brings both thresholds and p-values where it has them.
        mutual: so many pictures of each class name, drawn by the seed, are what the others are
            also compared with; see :mod:`bayes_pfl.predict.mutual`. Scores then depend on the
            folder.
        checkpoint: name of the model, for the summary.
        resume: continue a stopped run: what is done is not scored again, failures are. The batch
            size, ``workers`` and ``compile`` may differ, all else may not. Without a stopped run
            this one begins.
        overwrite: start again although a run was stopped here.
        progress: hears of every image that is done.
        make_scorer: takes the arguments of :class:`Scorer`; another one scores by an export.

    Raises:
        DataError: no folder, no images in it, an unusable class name.
        ConfigError: a setting that cannot be used, a calibration that does not fit, an output
            folder that cannot be written or is full; a stopped run in ``out`` without ``resume``
            or ``overwrite``; ``resume`` of a run with other settings, or whose images have changed.
    """
    if resume and overwrite:
        raise ConfigError("resume and overwrite exclude each other: give one of them")
    profile, its_name = known_profile(profile)
    names = its_name if class_name is None else class_name
    settings, rule = settings.resolved(model, names, calibration, "png16", profile)
    places, out = places_of(folder), Path(out)
    root = str(places.root)
    inputs = read_input(model, places.root, places.files(out), names, settings.window)
    progress, said = progress or NullProgress(), None
    if mutual is not None:
        settings, rule, said = by_mutual_scoring(model, inputs, settings, rule, mutual, progress)
    summary = Summary.begun(root, str(out), len(inputs), checkpoint, model, settings, rule)
    summary.remarks, summary.mutual = inputs.remarks, said
    how = settings, rule, summary, progress, resume, overwrite, make_scorer
    return FolderRun(model, inputs, places.identity, *how)()


@dataclass
class FolderRun:
    """A run over a folder. Everything that can be refused without writing is, at once.

    Attributes:
        places: what was given, see :attr:`bayes_pfl.predict.places.Places.identity`.
        settings: every default filled in.
        summary: filled in as the run goes on.
        resume: resume a stopped run; begin where there is none.
        overwrite: begin although a run was stopped here.
        make_scorer: takes the arguments of :class:`Scorer`.
    """

    model: BayesPFLNetwork
    inputs: InputImages
    places: str
    settings: FolderSettings
    rule: Decision
    summary: Summary
    progress: Progress
    resume: bool
    overwrite: bool
    make_scorer: Callable[..., Scorer] = Scorer

    def __post_init__(self) -> None:
        settings, model, self.done = self.settings, self.model, 0
        self.folder, self.out = self.inputs.folder, Path(self.summary.out)
        regions = self.rule.region_rule(settings.min_area)
        self.scorer = self.make_scorer(
            model,
            settings,
            maps=bool(settings.overlays or settings.map_suffix or settings.report or regions),
            spread=settings.report or (settings.overlays and settings.overlay_uncertainty),
            references=self.rule.references,
        )
        colours = self.rule.map_range(model)
        self.output = OutputFolder(self.out, settings, colours, len(self.inputs), regions)
        mutual = self.summary.mutual
        self.header = run_header(model, self.places, settings, self.rule, mutual)

    def __call__(self) -> Summary:
        """Score the images that are not done, then write the files of all.

        Raises:
            KeyboardInterrupt: with how much is done as its message.
        """
        try:
            with Journal(self.out / JOURNAL_NAME, "prediction", RESTART) as journal:
                ledger = self._opened(journal)
                self.done = self.summary.resumed = int(ledger.good.sum())
                self.summary.dropped = len(ledger.gone)
                if self._nothing_to_do(ledger):
                    before = read_summary(self.out / SUMMARY_NAME)
                    here = replace(before, out=str(self.out), folder=str(self.folder))
                    return replace(here, resumed=len(self.inputs))
                started = time.perf_counter()
                self.progress.start("prediction", len(self.inputs))
                self.progress.advance(self.done, {})
                self._score(journal, ledger)
                self._write_files(journal, ledger, time.perf_counter() - started)
        except KeyboardInterrupt as stop:
            stop.args = (f"{self.done} of {len(self.inputs)} images are done",)
            raise
        return self.summary

    # What was done before ------------------------------------------------------------------------

    def _opened(self, journal: Journal) -> Ledger:
        """What the journal holds of a run to be resumed; else nothing, for a new run."""
        ledger = Ledger(self.inputs)
        if self.resume and journal.header is not None:
            journal.check_same(self.header)
            self.output.prepare(resume=True)
            ledger.read(journal, self.output.has_pictures)
            remove_pictures(self.out, ledger.gone)
            return ledger
        if not self.overwrite:
            self._refuse_unfinished(journal)
        self.output.prepare(resume=False)
        remove_pictures(self.out, journal.readable())
        journal.begin(self.header)
        return ledger

    def _refuse_unfinished(self, journal: Journal) -> None:
        entries = [is_end(entry) for block in journal.blocks() for _, entry in block]
        if entries and not entries[-1]:
            raise ConfigError(
                f"{self.out}: holds a run that was stopped after {len(entries)} images; add "
                "--resume to go on, --overwrite to start again, or choose another --out"
            )

    def _nothing_to_do(self, ledger: Ledger) -> bool:
        left = ledger.gone or ledger.retried or ledger.waiting
        return ledger.finished and not left and self.output.has_tables()

    # Scoring -------------------------------------------------------------------------------------

    def _score(self, journal: Journal, ledger: Ledger) -> None:
        """Score the images that are not done; one is done when its row and pictures are kept."""
        if ledger.retried or ledger.waiting:
            self.output.remove_tables()
        with closing(self._blocks(ledger)) as blocks:
            for block in blocks:
                indices, rows = map(list, zip(*block, strict=True))
                stamps = self.inputs.stamps[indices].tolist()
                ledger.places[indices] = journal.append(list(map(entry_of, rows, stamps)))
                for _ in block:
                    self.done += 1
                    self.progress.advance(1, {})

    def _blocks(self, ledger: Ledger) -> Generator[list[tuple[int, Row]], None, None]:
        """Batches in order; meanwhile the pictures of some are still being written.

        Images that failed before come first: the other batches are then those of a run that was
        never stopped.
        """
        waiting: deque[list[Drawn]] = deque()
        # Threads that draw spend most of their time in libraries that run in parallel.
        with ThreadPoolExecutor(max(2, min(8, usable_cores() // 2))) as pool:
            try:
                for chosen in (ledger.retried, ledger.waiting):
                    with closing(self._scored(chosen)) as batches:
                        for batch in batches:
                            waiting.append([self._drawn(pool, *image) for image in batch])
                            while len(waiting) > _BATCHES_BEING_DRAWN:
                                yield self._finished(waiting.popleft())
                while waiting:
                    yield self._finished(waiting.popleft())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _drawn(
        self, pool: ThreadPoolExecutor, index: int, item: Decoded, scored: ScoredImage | None
    ) -> Drawn:
        name = self.inputs.names[index]
        row = scored_row(*self.inputs.key(index), name, item, scored, self.rule)
        if scored is None or scored.map is None or item.size is None or row.error:
            return index, row, None
        near, striking = None, worth_a_look(scored.score, row.label)
        if self.settings.report and striking:
            near = nearest_normal(self.rule, name, scored.place, item.size, item.roi)
        write = self.output.write_pictures
        return index, row, pool.submit(write, item, row, scored, near, striking)

    def _finished(self, block: list[Drawn]) -> list[tuple[int, Row]]:
        """Rows whose pictures are written."""
        rows = []
        for index, row, work in block:
            with writing_to(self.out):  # where there is no room for one there is none for the next
                rows.append((index, work.result() if work else row))
        if any(row.error for _, row in rows) and not self.folder.is_dir():
            raise DataError(
                f"{self.folder}: has vanished during the run; bring it back, then go on "
                "with --resume"
            )
        return rows

    def _scored(
        self, chosen: list[int]
    ) -> Generator[list[tuple[int, Decoded, ScoredImage | None]], None, None]:
        batches = decode(
            [self.inputs.pictures[index] for index in chosen],
            self.model.backbone.image_size,
            preview_side=self.output.preview_side,
            batch_size=self.settings.batch_size,
            workers=self.settings.workers,
            tiles=self.settings.tiles(self.model),
            roi=below(self.settings.interest, self.folder),
        )
        indices = iter(chosen)
        with closing(batches):
            for batch in batches:
                places = [next(indices) for _ in batch]
                names = [self.inputs.names[at] for at in places]
                scored = score_pictures(self.scorer, batch, names)
                yield list(zip(places, batch, scored, strict=True))

    # Files ---------------------------------------------------------------------------------------

    def _write_files(self, journal: Journal, ledger: Ledger, seconds: float) -> None:
        """The tables, the summary and the page, from the journal: one row is held at a time."""
        places = ledger.places.tolist()
        counts = self.output.write_tables(lambda: map(row_of, journal.entries_at(places)))
        self.summary.finish(counts, seconds, self.model.device.type)
        with writing_to(self.out):
            write_atomically(self.out / SUMMARY_NAME, self.summary.as_json())
        if self.settings.report:
            report_of_run(self.out)
        journal.end()
