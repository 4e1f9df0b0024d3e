"""``bayes-pfl benchmark``: time and memory on this machine. One command for each measurement."""

from __future__ import annotations

from typing import Annotated

import typer

from bayes_pfl.cli_options import Json, names_in, say, write_json
from bayes_pfl.errors import ConfigError

app = typer.Typer(help="Measure time and memory on this machine.", no_args_is_help=True)


@app.callback()
def benchmark() -> None:
    """Keeps the commands below a name of their own, even while there is only one."""


@app.command()
def metrics(
    maps: Annotated[int, typer.Option(min=1, help="How many maps.")] = 100,
    size: Annotated[int, typer.Option(min=8, help="Their side in pixels.")] = 518,
    compare: Annotated[bool, typer.Option(help="Time scikit-learn on the same pixels.")] = True,
    scaling: Annotated[
        str, typer.Option(help="Numbers of maps for time and memory by number; '' for none.")
    ] = "100,1000",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    json_out: Json = None,
) -> None:
    """All pixel metrics of random maps with masks, beside scikit-learn's."""
    from bayes_pfl.benchmarks.metrics import benchmark_metrics

    try:
        numbers = [int(part) for part in names_in(scaling)]
    except ValueError as error:
        raise ConfigError(f"--scaling {scaling!r}: give numbers, as in 100,1000") from error
    if numbers and min(numbers) < 1:
        raise ConfigError(f"--scaling {scaling!r}: each must be at least 1")
    report = benchmark_metrics(maps, size, seed, compare, numbers)
    say(
        f"{maps} maps of {size}x{size}, every pixel metric: {report['seconds']:.2f} s, "
        f"{_megabytes(report['peak_mb'])} above the inputs"
    )
    if compare:
        say(
            f"scikit-learn, AUROC, AP and precision-recall curve alone: "
            f"{report['sklearn_seconds']:.2f} s, {_megabytes(report['sklearn_peak_mb'])}; "
            f"{report['ratio']:.1f} times ours; largest difference "
            f"{report['largest_difference']:.1e}"
        )
    for row in report["scaling"]:
        say(f"{row['maps']} maps: {row['seconds']:.2f} s, peak {_megabytes(row['peak_mb'])}")
    if json_out:
        write_json(json_out, report)


def _megabytes(value: float | None) -> str:
    return "memory unknown here" if value is None else f"{value:.0f} MB"
