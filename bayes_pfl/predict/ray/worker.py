"""One worker of the pool: holds the model, takes parts of the listing, writes part files."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from itertools import islice
from pathlib import Path

import pyarrow as pa

from bayes_pfl.checkpoints.fingerprint import fingerprint
from bayes_pfl.checkpoints.load import load_checkpoint
from bayes_pfl.data.decoding import Decoded, decode, read_ahead
from bayes_pfl.data.pages import Picture
from bayes_pfl.detect.full_maps import resize_map
from bayes_pfl.detect.inputs import batched
from bayes_pfl.detect.pictures import score_pictures
from bayes_pfl.detect.regions import RegionRule, find_regions
from bayes_pfl.detect.scorer import ScoredImage, Scorer
from bayes_pfl.errors import BayesPFLError, CheckpointError, ConfigError, DataError
from bayes_pfl.fit.decision import Decision
from bayes_pfl.predict.output import encode_map
from bayes_pfl.predict.ray.parts import counts_of, table_of, write_part
from bayes_pfl.predict.ray.storage import Place
from bayes_pfl.predict.rows import Row, scored_row
from bayes_pfl.predict.settings import FolderSettings
from bayes_pfl.predict.summary import Counts
from bayes_pfl.support.error_text import error_reason
from bayes_pfl.support.files import mirrored
from bayes_pfl.support.run_names import MAPS

ATTEMPTS = ".attempts"
MOST_ATTEMPTS = 5
"""Times that workers may die over one part before the run ends."""

_FETCHED = 64  # files of a store that are fetched ahead at once
_FETCHERS = 8

Window = tuple[list[Picture], dict[Path, str]]
"""Pictures of a part, in order, and why some of their files are missing."""
Key = tuple[str, int | None]
"""Path and page of a picture."""


@dataclass(frozen=True)
class Job:
    """What every worker needs to know: small, for it travels to each.

    Attributes:
        checkpoint, pretrained, device: as of :func:`bayes_pfl.checkpoints.load.load_checkpoint`.
        fingerprint: SHA-256 that the weights must have where the worker runs.
        rule: makes labels of scores.
    """

    checkpoint: str
    pretrained: str | None
    device: str
    fingerprint: str
    source: Place
    out: Place
    settings: FolderSettings
    rule: Decision


class PartScorer:
    """Scores parts: Ray Data calls it with a table of images, and it returns their counts.

    A part file is written whole, under a name that the part has had from the beginning. So a worker
    may be lost at any moment, and the one that does its part again leaves the same file.
    """

    def __init__(self, job: Job) -> None:
        self.job = job

    @cached_property
    def scorer(self) -> Scorer:
        """The model with the settings and draws of the run; loaded at the first part.

        Raises:
            CheckpointError: other weights than where the run was started.
        """

        job = self.job
        model = load_checkpoint(job.checkpoint, device=job.device, pretrained=job.pretrained)
        if fingerprint(model) != job.fingerprint:
            raise CheckpointError(
                f"{job.checkpoint}: another checkpoint here than where the run was started; put "
                "the same one on every machine, or name one of the hub with its revision"
            )
        return Scorer(
            model,
            job.settings,
            maps=bool(job.settings.map_suffix or self._region_rule),
            spread=False,
            references=job.rule.references,
        )

    @property
    def _region_rule(self) -> RegionRule | None:
        return self.job.rule.region_rule(self.job.settings.min_area)

    def __call__(self, part: pa.Table) -> pa.Table:
        """Score a part, a table of part (its name, in all rows), path, class_name and stamp.

        Returns:
            One row: part, and its counts or an error, with its kind, that ends the run. Ray would
            hand on an exception as the text of a traceback.
        """

        name = part["part"][0].as_py()
        try:
            answer = {"counts": json.dumps(asdict(self._score(name, part)))}
        except BayesPFLError as error:
            answer = {"kind": type(error).__name__, "error": str(error)}
        columns = {key: [answer.get(key, "")] for key in ("counts", "kind", "error")}
        return pa.table({"part": [name], **columns})

    def _score(self, name: str, part: pa.Table) -> Counts:
        attempt = self._attempt(name, part["path"][0].as_py())
        # What has killed a worker before is decoded in a process of its own.
        workers = max(self.job.settings.workers, int(attempt > 1))
        notes = {"checkpoint_sha256": self.job.fingerprint}
        table = table_of(list(self._rows(part, workers)), part, notes)
        write_part(self.job.out, name, table)
        self.job.out.remove(_mark(name))
        return counts_of(table)

    def _attempt(self, name: str, first: str) -> int:
        """How often this part has been begun, now included."""
        out = self.job.out
        attempt = int(out.read(_mark(name)) or 0) + 1
        if attempt > MOST_ATTEMPTS:
            raise ConfigError(
                f"{out.url}: {MOST_ATTEMPTS} workers died over the part that begins with "
                f"{first!r}; give them more memory or a smaller --batch-size, then --resume"
            )
        out.write(_mark(name), str(attempt).encode())
        return attempt

    def _rows(self, part: pa.Table, workers: int) -> Iterator[Row]:
        pages = [page or None for page in part["page"].to_pylist()]
        keys = list(zip(part["path"].to_pylist(), pages, strict=True))
        named = zip(keys, part["class_name"].to_pylist(), strict=True)
        with closing(self._decoded(keys, workers)) as batches:
            for batch in batches:
                chosen = list(islice(named, len(batch)))
                found = score_pictures(self.scorer, batch, [name for _, name in chosen])
                for (key, name), item, scored in zip(chosen, batch, found, strict=True):
                    row = scored_row(*key, name, item, scored, self.job.rule)
                    yield self._with_map(row, scored, item) if scored and not row.error else row

    def _decoded(self, keys: list[Key], workers: int) -> Generator[list[Decoded], None, None]:
        model, settings = self.scorer.model, self.job.settings
        read = partial(
            decode,
            image_size=model.backbone.image_size,
            batch_size=settings.batch_size,
            workers=workers,
            tiles=settings.tiles(model),
            roi=settings.interest,
        )
        with closing(self._pictures(keys)) as windows:
            for pictures, faults in windows:
                with closing(read(pictures)) as batches:
                    for batch in batches:
                        reasons = [faults.get(item.path) for item in batch]
                        yield [
                            replace(item, error=f"could not be fetched: {why}") if why else item
                            for item, why in zip(batch, reasons, strict=True)
                        ]

    def _with_map(self, row: Row, scored: ScoredImage, item: Decoded) -> Row:
        """The row with the regions of its map, which is written where that is asked for."""
        suffix, rule = self.job.settings.map_suffix, self._region_rule
        if scored.map is None or item.size is None or not (suffix or rule):
            return row
        try:
            values = resize_map(scored.map, item.size, item.roi)
            if rule:
                row = row.with_regions(find_regions(values, rule))
            if suffix:
                data = encode_map(values, self.job.settings.maps)
                self.job.out.write(f"{MAPS}/{mirrored(row.file, suffix)}", data)
        except ConfigError:
            raise  # where no map can be written no rows could
        except Exception as error:  # a picture must not cost the scores of thousands of others
            return replace(row, error=f"map not written: {error_reason(error)}")
        return row

    # Files ---------------------------------------------------------------------------------------

    def _pictures(self, keys: list[Key]) -> Generator[Window, None, None]:
        """Pictures in files of this machine, and why some are missing."""
        source = self.job.source
        if source.folder is not None:
            if not source.folder.is_dir():
                raise DataError(
                    f"{source.url}: no such folder on this machine; put it where all machines see "
                    "it, then go on with --resume"
                )
            yield [self._picture(source.folder / path, page) for path, page in keys], {}
            return
        with (
            tempfile.TemporaryDirectory(prefix="bayes-pfl-") as folder,
            closing(read_ahead(self._fetched(keys, Path(folder)), depth=1)) as windows,
        ):
            for pictures, faults in windows:
                yield pictures, faults
                for picture in pictures:
                    picture.path.unlink(missing_ok=True)

    def _picture(self, file: Path, page: int | None) -> Picture:
        return Picture(file, page, self.job.settings.window)

    def _fetched(self, keys: list[Key], folder: Path) -> Iterator[Window]:
        count, good = 0, 0
        with ThreadPoolExecutor(_FETCHERS) as pool:
            for window in batched(keys, _FETCHED):
                # Named by their number: what a store calls a file may be no name here. The pages
                # of a file are neighbours, and it is fetched once for those of a window.
                paths = dict.fromkeys(path for path, _ in window)
                files = {path: folder / f"{count + at}" for at, path in enumerate(paths)}
                reasons = list(pool.map(self._fetch, files, files.values()))
                pairs = zip(files.values(), reasons, strict=True)
                faults = {file: why for file, why in pairs if why}
                count, good = count + len(files), good + len(files) - len(faults)
                if count > 1 and not good:
                    raise DataError(
                        f"{self.job.source.url}: none of {count} files could be fetched "
                        f"({reasons[0]}); check the store, then go on with --resume"
                    )
                yield [self._picture(files[path], page) for path, page in window], faults

    def _fetch(self, path: str, file: Path) -> str | None:
        """Fetch one file; returns why that failed, or None."""
        try:
            self.job.source.fs.get_file(f"{self.job.source.root}/{path}", str(file))
        except Exception as error:  # stores raise errors of their own
            return "no such file" if isinstance(error, FileNotFoundError) else error_reason(error)
        return None


def _mark(name: str) -> str:
    return f"{ATTEMPTS}/{os.path.basename(name)}"
