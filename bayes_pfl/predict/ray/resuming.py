"""What of a run has been done before: its parts against the images of today."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bayes_pfl.errors import ConfigError
from bayes_pfl.predict.former import remove_pictures
from bayes_pfl.predict.ledger import CHANGED, RENAMED, RESTART, refuse_images
from bayes_pfl.predict.ray.listing import STAMP
from bayes_pfl.predict.ray.parts import (
    PARTS,
    SUFFIX,
    counts_of,
    generation_of,
    read_part,
    write_part,
)
from bayes_pfl.predict.ray.storage import Place
from bayes_pfl.predict.summary import Counts
from bayes_pfl.support.differences import check_same

HEADER = "run.json"
FORMAT = 1
_KEY = ["path", "page"]
_THREADS = 16  # parts read at once: most of the time is spent waiting for a store


@dataclass
class Before:
    """What is there when a run begins.

    Attributes:
        waiting: rows of the listing that are to be scored.
        counts: of the rows that are kept.
        parts: names of the part files that are kept.
        generation: number for the names of new parts.
        dropped: images that were done and do not exist any more.
    """

    waiting: pa.Table
    counts: Counts = field(default_factory=Counts)
    parts: set[str] = field(default_factory=set)
    generation: int = 0
    dropped: int = 0


def begin(
    out: Place, header: dict[str, Any], listing: pa.Table, resume: bool, overwrite: bool
) -> Before:
    """Make ``out`` ready for a run that is resumed, or begins.

    Args:
        header: all that shapes the results; a run that is resumed must have the same.
        listing: path, page, class_name and stamp of every image.

    Raises:
        ConfigError: there is a run and neither option was given, another run than this one, or
            images that have changed since they were scored.
    """
    text, names = out.read(HEADER), out.names(PARTS, SUFFIX)
    if overwrite:
        if out.folder:
            remove_pictures(out.folder, _images_of(out, names))
        for name in names:
            out.remove(name)
        text, names = None, []
    if (text or names) and not resume:
        raise ConfigError(
            f"{out.url}: holds {len(names)} parts of an earlier run; go on with --resume, start "
            "again with --overwrite, or choose another --out"
        )
    if text is not None:
        check_same(out.path(HEADER), _parsed(out, text), header, RESTART)
    elif names:
        raise ConfigError(f"{out.url}: parts without {HEADER}; choose another --out")
    whole = {"format": FORMAT, **header}
    out.write(HEADER, (json.dumps(whole, indent=2) + "\n").encode("ascii"))
    return _compare(out, names, listing) if names else Before(listing)


def _images_of(out: Place, names: list[str]) -> Iterator[dict[str, Any]]:
    """Path and page of the rows of some parts; damaged ones are passed over."""
    for name in names:
        if (table := read_part(out, name, ["path", "page"])) is not None:
            yield from table.to_pylist()


def _parsed(out: Place, text: bytes) -> dict[str, Any]:
    """The header of a run, from its file."""
    fault = "of another version"
    try:
        header = json.loads(text)
        if isinstance(header, dict) and header.pop("format", None) == FORMAT:
            return header
    except ValueError:
        fault = "damaged"
    raise ConfigError(f"{out.path(HEADER)}: {fault}; {RESTART}")


def _compare(out: Place, names: list[str], listing: pa.Table) -> Before:
    """Keep every row whose image is the same as then; take out the others from their parts.

    Those are: failures (they are tried again), images that are gone, and rows that a worker of a
    stopped run has written although another one had been given its images.
    """
    columns = ["path", "page", "class_name", "error", *STAMP]
    before = Before(listing, generation=max(map(generation_of, names)) + 1)
    with ThreadPoolExecutor(_THREADS) as pool:
        tables = list(pool.map(lambda name: read_part(out, name, columns), names))
        broken = [name for name, table in zip(names, tables, strict=True) if table is None]
        list(pool.map(out.remove, broken))
        whole = {n: table for n, table in zip(names, tables, strict=True) if table is not None}
        if not whole:
            return before
        done = _numbered(pa.concat_tables(whole.values(), promote_options="permissive"))
        page = pc.fill_null(done["page"], 0)  # as in the listing: rows without do not join
        done = done.set_column(done.schema.get_field_index("page"), "page", page)
        kept, before.dropped = _kept_rows(out, done, listing)
        rest = _numbered(listing).join(kept.select(_KEY), _KEY, join_type="left anti")
        before.waiting = listing.take(pa.array(np.sort(rest["row"].to_numpy())))
        stays = np.zeros(done.num_rows, bool)
        stays[kept["row"].to_numpy()] = True
        masks = np.split(stays, np.cumsum([table.num_rows for table in whole.values()])[:-1])
        counted = pool.map(partial(_reduce, out), whole, masks)
        for name, counts in zip(whole, counted, strict=True):
            if counts is not None:
                before.parts.add(name)
                before.counts.add(counts)
    return before


def _numbered(table: pa.Table) -> pa.Table:
    """The table with the number of each row as a column."""
    return table.append_column("row", pa.array(np.arange(table.num_rows)))


def _kept_rows(out: Place, done: pa.Table, listing: pa.Table) -> tuple[pa.Table, int]:
    """Paths, pages and numbers of the rows that stay; how many images are gone.

    Raises:
        ConfigError: images have changed, or have another class name.
    """
    good = done.filter(pc.equal(done["error"], ""))
    first = good.group_by(_KEY).aggregate([("row", "min")])["row_min"]
    good = done.take(first)
    both = good.join(listing, _KEY, join_type="inner", right_suffix="_now")
    for column, what in (*((name, CHANGED) for name in STAMP), ("class_name", RENAMED)):
        then, now = both[column], both[f"{column}_now"]
        nothing = "" if pa.types.is_string(then.type) else -1
        differs = pc.not_equal(pc.fill_null(then, nothing), pc.fill_null(now, nothing))
        refuse_images(out.url, what, sorted(both.filter(differs)["path"].to_pylist()))
    return both.select([*_KEY, "row"]), good.num_rows - both.num_rows


def _reduce(out: Place, name: str, mask: np.ndarray) -> Counts | None:
    """Rewrite a part without the rows that do not stay; its counts, None if nothing is left."""
    table = read_part(out, name) if mask.any() else None
    if table is None:
        out.remove(name)
        return None
    if not mask.all():
        table = table.filter(pa.array(mask))
        write_part(out, name, table)
    return counts_of(table)
