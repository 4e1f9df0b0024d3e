"""The commands that measure large pictures: joined to the others in benchmarks/cli.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bayes_pfl.cli.options import (
    EMBEDDED_CHECKPOINT,
    Checkpoint,
    Device,
    Json,
    Samples,
    names_in,
    say,
    write_json,
)
from benchmarks.texts import megabytes, numbers, percent
from benchmarks.texts import size as size_in

Size = Annotated[str, typer.Option(help="Width x height of the pictures.")]
_LEAST = 500  # pixels of a side: below, the default tile covers the picture


def large(
    categories: Annotated[
        str, typer.Option(help="Rendered surfaces, separated by commas, or none.")
    ] = "parquet,granite,concrete,cork",
    real: Annotated[
        list[Path] | None,
        typer.Option(
            help="Also real photographs of a surface: a folder with test/good, test/KIND and "
            "ground_truth/KIND; may be repeated."
        ),
    ] = None,
    size: Size = "4000x3000",
    lengths: Annotated[str, typer.Option(help="Longer sides of faults, in pixels.")] = (
        "12,24,48,96"
    ),
    references: Annotated[int, typer.Option(min=2, help="Sound pictures for the profile.")] = 8,
    sound: Annotated[int, typer.Option(min=1, help="Sound pictures to be scored.")] = 8,
    faults: Annotated[int, typer.Option(min=1, help="Faults of a length on each of these.")] = 2,
    tile: Annotated[int | None, typer.Option(min=32, help="As of predict; auto if left out.")] = (
        None
    ),
    samples: Samples = 0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    checkpoint: Checkpoint = EMBEDDED_CHECKPOINT,
    device: Device = None,
    json_out: Json = None,
) -> None:
    """How well small faults on large pictures are found, with tiles and without."""
    from benchmarks.large import WAYS, LargeSettings, benchmark_large

    def tell(row: dict[str, Any]) -> None:
        ways = "; ".join(
            f"{way} {percent(row[way]['auroc'])}, found {percent(row[way]['found'])}"
            for way in WAYS
        )
        say(f"{row['surface']}, {row['length']} px: {ways}")

    settings = LargeSettings(
        checkpoint,
        () if categories == "none" else names_in(categories),
        tuple(real or ()),
        size_in("--size", size, _LEAST),
        tuple(numbers("--lengths", lengths, least=4)),
        references,
        sound,
        faults,
        tile or "auto",
        samples,
        seed=seed,
        device=device,
    )
    say("image AUROC, and faults that a threshold finds and nothing on sound pictures, in percent")
    report = benchmark_large(settings, tell)
    for row in report["means"]:
        tell(row)
    if json_out:
        write_json(json_out, report)


def large_cost(
    size: Size = "4000x3000",
    references: Annotated[
        int, typer.Option(min=0, help="Pictures of the profile; 0 to time words alone.")
    ] = 3,
    samples: Annotated[str, typer.Option(help="Prompt samples to time, by commas.")] = "0,10",
    repeats: Annotated[int, typer.Option(min=0, help="Timed rounds; 0 for no times.")] = 3,
    megapixels: Annotated[
        int, typer.Option(min=0, help="Of a TIFF file whose memory is measured; 0 for none.")
    ] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Tiles at once.")] = 8,
    checkpoint: Checkpoint = EMBEDDED_CHECKPOINT,
    device: Device = None,
    json_out: Json = None,
) -> None:
    """Seconds of large pictures in tiles, and the memory that a very large one takes."""
    from benchmarks.large_cost import LargeCostSettings, benchmark_large_cost

    settings = LargeCostSettings(
        checkpoint,
        size_in("--size", size, _LEAST),
        references,
        tuple(numbers("--samples", samples, least=0)),
        repeats,
        batch_size,
        megapixels,
        device,
    )
    report = benchmark_large_cost(settings)
    for row in report["time"]:
        say(
            f"{row['samples']} samples, {'a profile' if row['profile'] else 'words alone'}: "
            f"{row['views']} views in {row['best_seconds']:.2f} s at best, "
            f"{row['median_seconds']:.2f} s in the median; {row['seconds_per_megapixel']:.3f} s a "
            f"megapixel, {row['tiles_per_second']:.1f} tiles/s, "
            f"{row['processor_seconds_per_tile']:.3f} s of processor time a tile"
        )
    if found := report["memory"]:
        say(
            f"TIFF file of {found['megapixels']:.0f} megapixels, {megabytes(found['file_mb'])}: "
            f"{megabytes(found['before_mb'])} before, peak {megabytes(found['peak_mb'])}, of no "
            f"file {megabytes(found['peak_anonymous_mb'])}"
        )
    if json_out:
        write_json(json_out, report)
