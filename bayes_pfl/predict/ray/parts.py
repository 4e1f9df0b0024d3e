"""Part files: rows as Parquet, and what they add up to."""

from __future__ import annotations

import heapq
import io
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bayes_pfl.detect.regions import Box
from bayes_pfl.predict.ray.listing import STAMP, arrow_text
from bayes_pfl.predict.ray.storage import Place
from bayes_pfl.predict.rows import COLUMNS, REGION_FIGURES, Row
from bayes_pfl.predict.summary import FAILURES_LISTED, HIGHEST_LISTED, Counts
from bayes_pfl.support.run_names import page_title

PARTS = "predictions"
SUFFIX = ".parquet"

_TYPES = {
    **dict.fromkeys(("path", "class_name", "error", "compared_with"), pa.string()),
    **dict.fromkeys(("label", "needs_review"), pa.int8()),
    **dict.fromkeys(("width", "height", "page", "regions", "tile"), pa.int32()),
    "p_value": pa.float64(),
}
"""Of the columns of :class:`Row`; others are float32, which is what the model computes in."""

REGIONS = "region_list"
_OF_REGION = {
    **dict.fromkeys((*Box._fields, "area", "peak_x", "peak_y"), pa.int32()),
    **dict.fromkeys(("peak", "mean"), pa.float32()),
    "p_value": pa.float64(),
}
_LIST = pa.list_(pa.struct([(name, _OF_REGION[name]) for name in (*Box._fields, *REGION_FIGURES)]))


def table_of(rows: Sequence[Row], stamps: pa.Table, notes: Mapping[str, str]) -> pa.Table:
    """Rows as a table: columns of :class:`Row`, size, mtime_ns and etag of the file, then a list of
    regions, null where no pixel threshold is known.

    Args:
        stamps: has these three for each row, in the same order.
        notes: kept in every part, such as the hash of the weights.
    """
    of_row = {name: _TYPES.get(name, pa.float32()) for name in COLUMNS}
    columns = {name: stamps[name] for name in STAMP}
    for name, kind in of_row.items():
        values = [getattr(row, name) for row in rows]
        # A reason may quote a file name that is not UTF-8.
        values = [arrow_text(value) if isinstance(value, str) else value for value in values]
        columns[name] = pa.array(values, kind)
    columns[REGIONS] = pa.array(map(_regions, rows), _LIST)
    schema = pa.schema({**of_row, **STAMP, REGIONS: _LIST}, dict(notes))
    return pa.table(columns, schema=schema)


def _regions(row: Row) -> list[dict[str, Any]] | None:
    if row.regions is None:
        return None
    return [
        one.box._asdict() | {name: getattr(one, name) for name in REGION_FIGURES}
        for one in row.listed
    ]


def part_name(generation: int, index: int) -> str:
    """Name of a part file; a run that is resumed writes parts of the next generation.

    >>> part_name(0, 12)
    'predictions/part-000-0000012.parquet'
    """
    return f"{PARTS}/part-{generation:03d}-{index:07d}{SUFFIX}"


def generation_of(name: str) -> int:
    """The generation in a part's name.

    >>> generation_of(part_name(7, 12))
    7
    """
    return int(name.rsplit("part-", 1)[1].split("-")[0])


def write_part(out: Place, name: str, table: pa.Table) -> None:
    """Write a part whole, in place of one of that name."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    out.write(name, buffer.getvalue())


def read_part(out: Place, name: str, columns: Sequence[str] | None = None) -> pa.Table | None:
    """A part, or some of its columns; None for one that is damaged or cut short."""
    try:
        with out.fs.open(out.path(name), "rb") as file:
            return pq.ParquetFile(file).read(list(columns) if columns else None)
    except (pa.ArrowException, OSError, KeyError):
        return None


def counts_of(table: pa.Table) -> Counts:
    """What the rows of a part add up to."""
    bad = table.filter(pc.not_equal(table["error"], ""))
    scored = table.filter(pc.is_valid(table["score"])).select(["path", "page", "score"])
    top = scored.take(pc.select_k_unstable(scored, HIGHEST_LISTED, [("score", "descending")]))
    failures = zip(_titles(bad), bad["error"].to_pylist(), strict=True)
    return Counts(
        table.num_rows,
        bad.num_rows,
        pc.sum(table["label"]).as_py() or 0,
        pc.sum(table["needs_review"]).as_py() or 0,
        list(zip(_titles(top), top["score"].to_pylist(), strict=True)),
        heapq.nsmallest(FAILURES_LISTED, failures),
        table.num_rows - table["tile"].null_count,
        sorted(pc.unique(table["tile"].drop_null()).to_pylist()),
        pc.sum(pc.greater(table["width"], table["height"])).as_py() or 0,
        pc.sum(pc.less(table["width"], table["height"])).as_py() or 0,
    )


def _titles(table: pa.Table) -> list[str]:
    return list(map(page_title, table["path"].to_pylist(), table["page"].to_pylist()))
