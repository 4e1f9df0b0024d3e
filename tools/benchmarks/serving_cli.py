"""The command of tools/benchmark.py for the service."""

from __future__ import annotations

from typing import Annotated

import typer

from bayes_pfl.cli.options import (
    EMBEDDED_CHECKPOINT,
    Checkpoint,
    Json,
    Samples,
    say,
    write_json,
)
from benchmarks.texts import numbers


def serve(
    checkpoint: Checkpoint = EMBEDDED_CHECKPOINT,
    pictures: Annotated[int, typer.Option(min=1, help="Rendered; each round sends all.")] = 200,
    normal: Annotated[int, typer.Option(min=20, help="Pictures of the profile.")] = 24,
    clients: Annotated[str, typer.Option(help="Clients of each round.")] = "1,8,32",
    samples: Samples = None,
    seconds: Annotated[float, typer.Option(help="A round sends no more after these.")] = 60,
    export: Annotated[bool, typer.Option("--export", help="Serve an export.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Of the service.")] = 8,
    json_out: Json = None,
) -> None:
    """The service under load on this machine: rate, latency, answers compared with predict."""
    from benchmarks.serving import ServeBenchmark, benchmark_serve

    several = tuple(numbers("--clients", clients))
    report = benchmark_serve(
        ServeBenchmark(checkpoint, pictures, normal, several, samples, seconds, export, batch_size)
    )
    for row in report["rounds"]:
        say(
            f"{row['clients']} clients: {row['images_per_second']:.2f} images/s, half within "
            f"{row['p50_seconds']:.3f} s, 95% within {row['p95_seconds']:.3f} s, "
            f"{row['pictures_per_batch']:.1f} pictures a batch, "
            f"{1000 * row['processor_seconds_per_image']:.0f} ms of a processor each; "
            f"{row['answers']} answers {row['statuses']}, {len(row['wrong'])} wrong, "
            f"largest difference {row['largest_difference']:.1g}"
        )
    for kind, status in report["malformed"].items():
        say(f"{kind}: {status}")
    say("it goes on answering" if report["survived"] else "it does not answer any more")
    if json_out:
        write_json(json_out, report)
