"""``bayes-pfl predict``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Argument, Exit, Option

from bayes_pfl.cli import calibrate, class_names, profiles
from bayes_pfl.cli import options as opt
from bayes_pfl.errors import ConfigError

if TYPE_CHECKING:
    from bayes_pfl.data.wording import ClassNames
    from bayes_pfl.detect.scorer import Scorer
    from bayes_pfl.fit.profile import Profile
    from bayes_pfl.model.network import BayesPFLNetwork
    from bayes_pfl.predict.settings import FolderSettings
    from bayes_pfl.predict.summary import Summary

MapFormat = Literal["png16", "npy", "none"]
Zoom = Literal["anomalous", "all", "none"]
EngineName = Annotated[
    Literal["local", "ray"],
    Option(help="local: this process. ray: a pool of workers, here or on a cluster."),
]
Actors = Annotated[
    int | None, Option(min=1, help="ray: workers of the pool; default: as many as fit.")
]
CpusPerActor = Annotated[float, Option(min=0, help="ray: cores of each worker.")]
GpusPerActor = Annotated[float, Option(min=0, help="ray: GPUs of each worker, fractions too.")]
Runtime = Annotated[
    Literal["pytorch", "onnxruntime", "openvino"],
    Option(help="PyTorch, or the graph of bayes-pfl export, which is faster on CPUs."),
]
ExportFolder = Annotated[
    Path | None,
    Option(
        help="Folder of the export for --runtime, made if it is missing.  [default: a temporary "
        "folder]"
    ),
]
PartImages = Annotated[
    int | None, Option(min=1, help="ray: images in a part file; default: 1,000 at most.")
]


def predict(
    images: Annotated[
        list[str],
        Argument(
            help="A folder, read recursively; or files, folders and patterns such as '*.jpg'. With "
            "ray one folder or a URL such as s3://...."
        ),
    ],
    out: Annotated[str, Option(help="Folder for the results; with ray also a URL.")],
    class_name: class_names.ClassName = None,
    class_name_from: class_names.ClassNameFrom = None,
    checkpoint: profiles.ItsCheckpoint = None,
    pretrained: opt.Pretrained = None,
    samples: opt.Samples = None,
    batch_size: opt.BatchSize = 8,
    precision: opt.Precision = "float32",
    threshold: Annotated[
        float | None, Option(help="Score from which an image is labelled anomalous.")
    ] = None,
    profile: profiles.ProfileFolder = None,
    mutual: Annotated[
        bool, Option("--mutual", help="Compare the pictures of the folder with each other.")
    ] = False,
    mutual_pictures: Annotated[
        int | None, Option(help="Number of pictures that --mutual compares with.  [default: 32]")
    ] = None,
    calibration: calibrate.CalibrationFile = None,
    maps: Annotated[
        MapFormat | None,
        Option(
            help="Files of the maps: 16-bit PNG, .npy, or none.  [default: png16; with ray none]"
        ),
    ] = None,
    map_threshold: Annotated[
        float | None,
        Option(help="Pixel threshold: map value from which a pixel belongs to a region."),
    ] = None,
    min_area: Annotated[int, Option(min=1, help="Leave out regions with fewer pixels.")] = 1,
    format: Annotated[
        list[str] | None,
        Option(help="Write the regions for other tools: coco, labelme, masks; repeatable."),
    ] = None,
    overlays: Annotated[bool, Option(help="Write pictures with the heat map.")] = True,
    overlay_uncertainty: Annotated[
        bool, Option("--overlay-uncertainty", help="Add a panel that shows where samples disagree.")
    ] = False,
    report: opt.Report = True,
    zoom: Annotated[
        Zoom,
        Option(help="Images that the report also gets at full resolution, to zoom into."),
    ] = "anomalous",
    workers: opt.Workers = 0,
    window: opt.Window = None,
    tile: opt.Tile = None,
    overlap: opt.Overlap = None,
    roi: opt.Roi = None,
    compile: opt.Compile = False,
    device: opt.Device = None,
    seed: opt.Seed = 0,
    resume: Annotated[
        bool, Option("--resume", help="Resume the run in --out, or start one if there is none.")
    ] = False,
    overwrite: Annotated[
        bool, Option("--overwrite", help="Start again, and discard the stopped run in --out.")
    ] = False,
    engine: EngineName = "local",
    actors: Actors = None,
    cpus_per_actor: CpusPerActor = 1,
    gpus_per_actor: GpusPerActor = 0,
    part_images: PartImages = None,
    runtime: Runtime = "pytorch",
    export_folder: ExportFolder = None,
) -> None:
    """Score a folder of images: predictions.csv, summary.json, maps and overlays.

    Exit code 1: images failed. 130, 143: stopped by Ctrl-C, by SIGTERM; resume with --resume.
    """
    from bayes_pfl.predict.settings import FolderSettings
    from bayes_pfl.report.html import NAME as REPORT_NAME

    names = class_names.names_of(class_name, class_name_from)
    known, checkpoint = profiles.opened(profile, checkpoint)
    drawn = _drawn(mutual, mutual_pictures)
    calibrate.warn_of_old_name(calibration)
    settings = FolderSettings(
        samples=samples,
        precision=precision,
        seed=seed,
        batch_size=batch_size,
        workers=workers,
        window=opt.window_of(window),
        **opt.tiles_of(tile, overlap),
        roi=roi,
        compile=compile,
        threshold=threshold,
        map_threshold=map_threshold,
        maps=maps,
        min_area=min_area,
        formats=tuple(dict.fromkeys(format or ())),
        overlays=overlays,
        overlay_uncertainty=overlay_uncertainty,
        report=report,
        zoom=zoom,
    )
    common: dict[str, Any] = {
        "class_name": names,
        "settings": settings,
        "calibration": calibration,
        "profile": known,
        "resume": resume,
        "overwrite": overwrite,
    }
    if runtime == "pytorch" and export_folder is not None:
        raise ConfigError("--export-folder without --runtime: give both, or neither")
    if engine == "ray":
        from bayes_pfl.predict.ray import predict_ray
        from bayes_pfl.predict.ray.pool import Pool

        if drawn:
            raise ConfigError(
                "--mutual: ray does not compare pictures with each other; leave it out"
            )
        if overlay_uncertainty:
            raise ConfigError("--overlay-uncertainty: ray draws no overlays; leave it out")
        if len(images) > 1:
            raise ConfigError(f"{len(images)} places: ray takes one folder or URL")
        if runtime != "pytorch":
            raise ConfigError(f"--runtime {runtime}: ray computes with PyTorch; leave it out")
        pool = Pool(actors, cpus_per_actor, gpus_per_actor)
        with opt.bars() as progress:
            summary = predict_ray(
                checkpoint,
                images[0],
                out,
                device=device,
                pretrained=pretrained,
                pool=pool,
                part_images=part_images,
                progress=progress,
                **common,
            )
    else:
        from bayes_pfl.predict.folder import predict_folder

        _refuse_without_ray((actors, gpus_per_actor, part_images), (*images, out))
        if runtime != "pytorch" and device not in (None, "cpu"):
            raise ConfigError(
                f"--device {device}: --runtime {runtime} computes on the CPU; leave it out"
            )
        device = device if runtime == "pytorch" else "cpu"
        model = opt.load_model(checkpoint, device, pretrained)
        if known is None:
            class_names.warn_of_names(model, names)
        scorers = _scorers(runtime, model, export_folder, names, known, settings, checkpoint, drawn)
        with scorers as make_scorer, opt.bars() as progress:
            summary = predict_folder(
                model,
                images if len(images) > 1 else images[0],
                out,
                mutual=drawn,
                checkpoint=checkpoint,
                progress=progress,
                make_scorer=make_scorer,
                **common,
            )
    _say_resumed(summary)
    for line in summary.remarks:
        opt.say(line)
    if summary.settings["tile"] is not None and summary.succeeded:
        opt.say(_tiled(summary))
    if summary.anomalous is not None:
        review = "" if summary.review is None else f", {summary.review} need review"
        opt.say(f"{summary.anomalous} labelled anomalous{review}")
    opt.say(f"{summary.succeeded} images scored, {summary.failed} failed; written to {out}")
    if summary.settings["report"]:
        opt.say(f"open {Path(out, REPORT_NAME)}")
    if summary.failed:
        raise Exit(1)


def _tiled(summary: Summary) -> str:
    if not summary.tiled:
        return "no image was scored in tiles: none is larger than one"
    sides = " and ".join(map(str, summary.tile_sides))
    return f"{summary.tiled} of {summary.images} images were scored in tiles of {sides} px"


def _scorers(
    runtime: str,
    model: BayesPFLNetwork,
    folder: Path | None,
    names: str | ClassNames | None,
    profile: Profile | None,
    settings: FolderSettings,
    checkpoint: str,
    drawn: int | None,
) -> AbstractContextManager[Callable[..., Scorer]]:
    """Within, what makes the scorer of the run."""
    from bayes_pfl.detect.scorer import Scorer

    if runtime == "pytorch":
        return nullcontext(Scorer)
    from bayes_pfl.export.folder import Format
    from bayes_pfl.export.runtime import exported_scorers

    if drawn:
        raise ConfigError(f"--runtime {runtime} with --mutual: leave one of them out")
    if not (names is None or isinstance(names, str)):
        raise ConfigError(
            f"--runtime {runtime} with --class-name-from: an export has one class name; leave one "
            "of them out"
        )
    if settings.compile:
        raise ConfigError(f"--runtime {runtime} with --compile: leave one of them out")
    format: Format = "openvino" if runtime == "openvino" else "onnx"
    return exported_scorers(model, folder, names, profile, settings, checkpoint, format)


def _drawn(mutual: bool, pictures: int | None) -> int | None:
    """How many pictures are drawn for mutual scoring; None without it."""
    from bayes_pfl.fit.references import DRAWN_MUTUAL

    if not mutual and pictures is not None:
        raise ConfigError("--mutual-pictures without --mutual: give both, or neither")
    return (DRAWN_MUTUAL if pictures is None else pictures) if mutual else None


def _say_resumed(summary: Summary) -> None:
    if summary.resumed == summary.images:
        opt.say(f"nothing to do: all {summary.images} images were done before")
    elif summary.resumed:
        opt.say(f"{summary.resumed} images were done before")
    if summary.dropped:
        opt.say(f"{summary.dropped} images done before are gone: their rows are left out")


def _refuse_without_ray(pool_options: tuple[float | None, ...], places: tuple[str, ...]) -> None:
    """Raise ConfigError for options and URLs that only the engine ray knows."""
    if any(pool_options):
        raise ConfigError("--actors, --gpus-per-actor and --part-images need --engine ray")
    for place in places:
        if "://" in place:
            raise ConfigError(f"{place}: a URL needs --engine ray")
