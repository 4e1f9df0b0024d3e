"""``bayes-pfl serve``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from bayes_pfl.cli import class_names, profiles
from bayes_pfl.cli import options as opt
from bayes_pfl.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from bayes_pfl.serve.detectors import ServedDetector


def serve(
    detector: Annotated[
        str,
        Argument(
            help="Folder of bayes-pfl fit, or of bayes-pfl export; or embedded name, checkpoint or "
            "run folder, or hub repository org/name[@rev]."
        ),
    ],
    class_name: class_names.ClassName = None,
    checkpoint: Annotated[
        str | None, Option(help="Of a profile, where it is not the one that its folder names.")
    ] = None,
    pretrained: opt.Pretrained = None,
    samples: opt.Samples = None,
    threshold: Annotated[
        float | None, Option(help="Score from which a picture is labelled anomalous.")
    ] = None,
    map_threshold: Annotated[
        float | None, Option(help="Value of the map from which a pixel belongs to a region.")
    ] = None,
    min_area: Annotated[int, Option(min=1, help="Leave out regions of fewer pixels.")] = 1,
    tile: opt.Tile = None,
    overlap: opt.Overlap = None,
    device: opt.Device = None,
    host: Annotated[
        str, Option(help="Address to listen on; others than this computer's need a token.")
    ] = "127.0.0.1",
    port: Annotated[int, Option(min=0, max=65535, help="0: any that is free.")] = 8000,
    token: Annotated[
        str | None,
        Option(
            envvar="BAYES_PFL_TOKEN",
            show_envvar=False,
            help="That requests must bring; better in the variable BAYES_PFL_TOKEN, because "
            "others may see a command line.",
        ),
    ] = None,
    batch_size: Annotated[int, Option(min=1, help="Pictures scored together, at most.")] = 8,
    batch_wait: Annotated[
        float, Option(min=0, help="Seconds that the first picture of a batch waits for others.")
    ] = 0.005,
    decoders: Annotated[int, Option(min=1, help="Threads that decode pictures.")] = 2,
    max_mib: Annotated[float, Option(help="MiB of a picture.")] = 32,
    max_megapixels: Annotated[float, Option(help="Megapixels of a picture.")] = 50,
    max_queue: Annotated[
        int, Option(min=1, help="Requests that are worked on or wait; one more gets 503.")
    ] = 64,
    max_seconds: Annotated[float, Option(help="From a request to its answer; later: 504.")] = 30,
) -> None:
    """Score pictures that are sent by HTTP: POST one to /predict, read /docs.

    Ctrl-C or SIGTERM: open requests are answered, new ones refused.
    """
    from bayes_pfl.serve.settings import ServeSettings, check_installed

    check_installed()
    settings = ServeSettings(
        host=host,
        port=port,
        token=token,
        batch_size=batch_size,
        batch_wait=batch_wait,
        decoders=decoders,
        max_bytes=round(max_mib * 2**20),
        max_pixels=round(max_megapixels * 1e6),
        max_queue=max_queue,
        max_seconds=max_seconds,
    )
    rule: dict[str, Any] = {"map_threshold": map_threshold, "min_area": min_area}
    own = {
        "--class-name": class_name,
        "--samples": samples,
        "--threshold": threshold,
        "--tile": tile,
        "--overlap": overlap,
    }
    load = _loader(detector, checkpoint, pretrained, device, own, rule, batch_size)
    from bayes_pfl.serve.server import run_service

    who = "this computer only; " if settings.local else ""
    run_service(
        settings,
        load,
        on_ready=lambda address: opt.say(f"{address}/docs  ({who}Ctrl-C stops it)"),
    )


def _loader(
    detector: str,
    checkpoint: str | None,
    pretrained: str | None,
    device: str | None,
    own: dict[str, Any],
    rule: dict[str, Any],
    batch_size: int,
) -> Callable[[], ServedDetector]:
    """What makes the detector; whatever can be refused at once is."""
    from bayes_pfl.export.folder import is_export
    from bayes_pfl.fit.profile_files import is_profile

    exported, fitted = is_export(detector), is_profile(detector)
    if exported:
        own = {**own, "--checkpoint": checkpoint, "--device": device, "--pretrained": pretrained}
    elif not fitted and checkpoint is not None:
        raise ConfigError("--checkpoint without a profile: name the checkpoint alone")
    given = [name for name, value in own.items() if value is not None]
    if (exported or fitted) and given:
        what = "an export" if exported else "a profile"
        raise ConfigError(f"{', '.join(given)} with {what}, which brings its own: leave it out")
    if exported:
        return lambda: _export(Path(detector), batch_size, rule)
    if not fitted:
        _check(detector)
    profile, name = profiles.opened(
        Path(detector) if fitted else None, checkpoint if fitted else detector
    )
    if profile is not None:
        from dataclasses import replace

        scoring = replace(profile.scoring(), batch_size=batch_size)
        known = profile.class_name
    else:
        from bayes_pfl.detect.name_sensitivity import NEUTRAL
        from bayes_pfl.detect.settings import ScoringSettings

        tiles = opt.tiles_of(own["--tile"], own["--overlap"])
        scoring = ScoringSettings(samples=own["--samples"], batch_size=batch_size, **tiles)
        known = own["--class-name"] or NEUTRAL
        rule = {**rule, "threshold": own["--threshold"]}

    def load() -> ServedDetector:
        from bayes_pfl.serve.detectors import ServedModel

        model = opt.load_model(name, device, pretrained)
        if profile is None:
            class_names.warn_of_names(model, own["--class-name"])
        return ServedModel.of(model, known, scoring, profile=profile, **rule)

    return load


def _check(checkpoint: str) -> None:
    """Raise CheckpointError for a name that is none of a checkpoint either."""
    try:
        opt.checked([checkpoint], ())
    except CheckpointError as error:
        raise CheckpointError(f"no folder of bayes-pfl fit or export, and {error}") from error


def _export(folder: Path, batch_size: int, rule: dict[str, Any]) -> ServedDetector:
    import torch

    from bayes_pfl.serve.detectors import ServedExport

    threads = torch.get_num_threads()
    return ServedExport(folder, batch_size=batch_size, threads=threads, **rule)
