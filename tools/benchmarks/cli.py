"""Time and memory on this machine: a command for each measurement, joined in tools/benchmark.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from bayes_pfl.cli.options import (
    EMBEDDED_CHECKPOINT,
    Checkpoint,
    Compile,
    Device,
    ImageSize,
    Json,
    Precision,
    Pretrained,
    Samples,
    Workers,
    names_in,
    say,
    write_json,
)
from bayes_pfl.errors import ConfigError
from benchmarks.large_cli import large, large_cost
from benchmarks.serving_cli import serve
from benchmarks.texts import megabytes, numbers, of_bytes

if TYPE_CHECKING:
    from benchmarks.subjects import BenchmarkedModel

app = typer.Typer(help="Measure time and memory on this machine.", no_args_is_help=True)


OtherBackbone = Annotated[
    str | None,
    typer.Option(help="Backbone to measure, as in train; its head gets random weights."),
]
OwnCheckpoint = Annotated[str, typer.Option(help="Model to measure if no --backbone is given.")]
RandomWeights = Annotated[
    bool,
    typer.Option("--random-weights", help="Leave the backbone's weights random."),
]
Repeats = Annotated[int, typer.Option(min=1, help="Timed rounds, after one for warm-up.")]


@app.command()
def inference(
    backbone: OtherBackbone = None,
    checkpoint: OwnCheckpoint = EMBEDDED_CHECKPOINT,
    pretrained: Pretrained = None,
    random_weights: RandomWeights = False,
    image_size: ImageSize = None,
    samples: Samples = None,
    precision: Precision = "float32",
    batch_size: Annotated[int, typer.Option(min=1, help="Images at once.")] = 1,
    compile: Compile = False,
    device: Device = None,
    repeats: Repeats = 5,
    accuracy_images: Annotated[
        int, typer.Option(min=0, help="Rendered images to compare a precision on; 0 for none.")
    ] = 8,
    files: Annotated[
        int, typer.Option(min=0, help="Also predict a folder of so many rendered files.")
    ] = 0,
    workers: Workers = 0,
    json_out: Json = None,
) -> None:
    """Seconds per image of predict, compared with the bare image tower in the same run."""
    from benchmarks.inference import InferenceSettings, benchmark_inference

    subject = _chosen_model(backbone, checkpoint, pretrained, random_weights, image_size, device)
    settings = InferenceSettings(
        samples, precision, batch_size, compile, repeats, accuracy_images, files, workers
    )
    report = benchmark_inference(subject, settings)
    say(
        f"an image: tower {report['backbone_seconds']:.4f} s, predict "
        f"{report['predict_seconds']:.4f} s: overhead {report['overhead']:.3f}; "
        f"{report['images_per_second']:.2f} images/s; peak {of_bytes(report['peak_memory_bytes'])}"
    )
    _say_reduced(report)
    if "end_to_end" in report:
        done = report["end_to_end"]
        say(f"{done['files']} files to predictions.csv: {done['images_per_second']:.2f} images/s")
    if json_out:
        write_json(json_out, report)


@app.command()
def training(
    backbone: OtherBackbone = None,
    checkpoint: OwnCheckpoint = EMBEDDED_CHECKPOINT,
    pretrained: Pretrained = None,
    random_weights: RandomWeights = False,
    image_size: ImageSize = None,
    precision: Precision = "float32",
    batch_size: Annotated[int, typer.Option(min=1, help="Images at once.")] = 8,
    text_checkpointing: Annotated[
        bool, typer.Option(help="Recompute text activations in the backward pass: less memory.")
    ] = False,
    device: Device = None,
    repeats: Repeats = 3,
    json_out: Json = None,
) -> None:
    """Seconds of a training step, with the image tower and from cached features."""
    from benchmarks.training import TrainingSettings, benchmark_training

    subject = _chosen_model(backbone, checkpoint, pretrained, random_weights, image_size, device)
    settings = TrainingSettings(batch_size, precision, text_checkpointing, repeats)
    report = benchmark_training(subject, settings)
    say(
        f"batch of {batch_size}: image tower {report['backbone_seconds']:.3f} s, step "
        f"{report['step_seconds']:.3f} s, peak {of_bytes(report['peak_memory_bytes'])}"
    )
    say(
        f"from cached features {report['cached_step_seconds']:.3f} s, "
        f"{report['cached_ratio']:.1%} of it, peak {of_bytes(report['cached_peak_memory_bytes'])}"
    )
    if json_out:
        write_json(json_out, report)


def _say_reduced(report: dict[str, Any]) -> None:
    if "backbone_float32_seconds" not in report:
        return
    say(
        f"float32 image tower {report['backbone_float32_seconds']:.4f} s: predict takes "
        f"{report['ratio_to_float32_backbone']:.3f} of it"
    )
    if price := report.get("accuracy"):
        say(
            f"against float32 on {price['images']} rendered images: map changes by at most "
            f"{price['largest_map_change']:.4f}, score by {price['largest_score_change']:.4f}, "
            f"pixel AUROC by {price['pixel_auroc_change']:+.5f} "
            f"(from {price['float32_pixel_auroc']:.4f})"
        )


def _chosen_model(
    backbone: str | None,
    checkpoint: str,
    pretrained: str | None,
    random_weights: bool,
    image_size: int | None,
    device: str | None,
) -> BenchmarkedModel:
    from bayes_pfl.config import BackboneConfig
    from benchmarks.subjects import BenchmarkedModel

    if backbone is None:
        if image_size or random_weights:
            raise ConfigError("--image-size and --random-weights belong to a --backbone: name one")
        return BenchmarkedModel(checkpoint=checkpoint, device=device)
    config = BackboneConfig(backbone, pretrained, image_size, random_weights=random_weights)
    return BenchmarkedModel(backbone=config, device=device)


@app.command()
def metrics(
    maps: Annotated[int, typer.Option(min=1, help="How many maps.")] = 100,
    size: Annotated[int, typer.Option(min=8, help="Their side in pixels.")] = 518,
    compare: Annotated[bool, typer.Option(help="Time scikit-learn on the same pixels.")] = True,
    scaling: Annotated[
        str, typer.Option(help="Numbers of maps for time and memory by number, or none.")
    ] = "100,1000",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    json_out: Json = None,
) -> None:
    """Time and memory of all pixel metrics on random maps, compared with scikit-learn."""
    from benchmarks.metrics import benchmark_metrics

    several = numbers("--scaling", scaling)
    report = benchmark_metrics(maps, size, seed, compare, several)
    say(
        f"{maps} maps of {size}x{size}, every pixel metric: {report['seconds']:.2f} s, "
        f"{megabytes(report['peak_mb'])} above the inputs"
    )
    if compare:
        say(
            f"scikit-learn, AUROC, AP and precision-recall curve alone: "
            f"{report['sklearn_seconds']:.2f} s, {megabytes(report['sklearn_peak_mb'])}; "
            f"{report['ratio']:.1f} times ours; largest difference "
            f"{report['largest_difference']:.1e}"
        )
    for row in report["scaling"]:
        say(f"{row['maps']} maps: {row['seconds']:.2f} s, peak {megabytes(row['peak_mb'])}")
    if json_out:
        write_json(json_out, report)


@app.command()
def profiles(
    checkpoint: Checkpoint = EMBEDDED_CHECKPOINT,
    pictures: Annotated[int, typer.Option(min=1, help="Normal pictures to fit.")] = 100,
    mutual: Annotated[
        str, typer.Option(help="Sizes of folders compared with themselves, or none.")
    ] = "1000,4000",
    samples: Samples = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at once.")] = 8,
    device: Device = None,
    repeats: Repeats = 5,
    json_out: Json = None,
) -> None:
    """Seconds of fit, predict with a profile compared with predict alone, and predict --mutual."""
    from benchmarks.profiles import ProfileSettings, benchmark_profiles

    sizes = tuple(numbers("--mutual", mutual))
    report = benchmark_profiles(
        ProfileSettings(checkpoint, pictures, sizes, samples, batch_size, repeats, device)
    )
    say(f"fit of {pictures} pictures: {report['fit_seconds']:.1f} s")
    say(
        f"an image: predict {report['plain_seconds']:.4f} s, with the profile "
        f"{report['profile_seconds']:.4f} s: {report['ratio']:.3f} times as long, "
        f"{report['processor_ratio']:.3f} times the processor time"
    )
    for row in report["mutual"]:
        say(
            f"{row['pictures']} pictures compared with each other: "
            f"{row['seconds_per_picture']:.4f} s each "
            f"({row['processor_seconds_per_picture']:.4f} of a processor), "
            f"peak {megabytes(row['peak_mb'])}"
        )
    if json_out:
        write_json(json_out, report)


@app.command()
def export(
    checkpoint: Checkpoint = EMBEDDED_CHECKPOINT,
    samples: Samples = None,
    files: Annotated[int, typer.Option(min=1, help="Files of each timed run.")] = 32,
    normal: Annotated[int, typer.Option(min=0, help="Normal pictures of a profile.")] = 0,
    compared: Annotated[int, typer.Option(min=1, help="Pictures that are compared.")] = 12,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at once.")] = 8,
    repeats: Repeats = 3,
    precisions: Annotated[
        str, typer.Option(help="Of the exports, separated by commas: float32, float16, int8.")
    ] = "float32",
    json_out: Json = None,
) -> None:
    """An export against PyTorch: largest differences, and images/s from files to a table."""
    from benchmarks.exports import ExportSettings, benchmark_export

    report = benchmark_export(
        ExportSettings(
            checkpoint,
            samples,
            files,
            normal,
            compared,
            batch_size,
            repeats,
            tuple(precisions.split(",")),
        )
    )
    for precision, made in report["exports"].items():
        say(f"{precision}: exported in {made['seconds']:.0f} s, {of_bytes(made['model_bytes'])}")
        if price := made["price"]:
            say(
                f"{precision}: image AUROC {price['image_before']:.1f} -> {price['image']:.1f}, "
                f"pixel AUROC {price['pixel_before']:.1f} -> {price['pixel']:.1f}"
            )
    for name, rate in report["images_per_second"].items():
        busy = report["processor_seconds_per_image"]
        say(
            f"{name}: {rate:.2f} images/s, {1000 * busy[name]:.0f} ms of a processor each, "
            f"{busy['pytorch'] / busy[name]:.2f} times PyTorch's pace"
        )
    for name, apart in report["differences"].items():
        say(
            f"{name} on {apart['pictures']} pictures: scores differ by {apart['score']:.1g}, maps "
            f"by {apart['map']:.1g}"
        )
    if json_out:
        write_json(json_out, report)


@app.command()
def soak(
    images: Annotated[int, typer.Option(min=10, help="Images to predict.")] = 100_000,
    evaluated: Annotated[int, typer.Option(min=10, help="Images to evaluate.")] = 20_000,
    minutes: Annotated[float, typer.Option(min=0.01, help="Longest time of each part.")] = 5.0,
    report: Annotated[bool, typer.Option("--report", help="Also write report.html.")] = False,
    parts: Annotated[
        str, typer.Option(help="Which of stream, folder, evaluate, separated by commas.")
    ] = "stream,folder,evaluate",
    json_out: Json = None,
) -> None:
    """Memory of long runs: very many small images through a tiny model with random weights."""
    from benchmarks.soak import SoakSettings
    from benchmarks.soak import soak as run_soak

    def tell(name: str, found: dict[str, Any]) -> None:
        say(
            f"{name}: {found['images']} of {found['of']} images, "
            f"{found['images_per_second']:.0f} images/s; peak "
            f"{megabytes(found['peak_mb_after_a_tenth'])} after a tenth, "
            f"{megabytes(found['peak_mb'])} at the end"
        )

    settings = SoakSettings(images, evaluated, minutes, report, names_in(parts))
    found = run_soak(settings, tell)
    if json_out:
        write_json(json_out, found)


app.command()(large)
app.command()(large_cost)
app.command()(serve)
