"""``bayes-pfl serve``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from bayes_pfl.cli import class_names, profiles
from bayes_pfl.cli import options as opt
from bayes_pfl.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from bayes_pfl.detect.settings import ScoringSettings
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
        str | None,
        Option(help="Checkpoint of a profile, if not the one that its folder names."),
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
    port: Annotated[int, Option(min=0, max=65535, help="Port to listen on; 0: a free one.")] = 8000,
    token: Annotated[
        str | None,
        Option(
            envvar="BAYES_PFL_TOKEN",
            show_envvar=False,
            help="What requests must bring; better in the variable BAYES_PFL_TOKEN, because "
            "others may see a command line.",
        ),
    ] = None,
    batch_size: Annotated[int, Option(min=1, help="Pictures scored together, at most.")] = 8,
    batch_wait: Annotated[
        float, Option(min=0, help="Seconds that the first picture of a batch waits for others.")
    ] = 0.005,
    decoders: Annotated[int, Option(min=1, help="Threads that decode pictures.")] = 2,
    max_mib: Annotated[float, Option(help="Most MiB of a picture.")] = 32,
    max_megapixels: Annotated[float, Option(help="Most megapixels of a picture.")] = 50,
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
        max_bytes=_whole(max_mib * 2**20),
        max_pixels=_whole(max_megapixels * 1e6),
        max_queue=max_queue,
        max_seconds=max_seconds,
    )
    given = Given(
        detector,
        {
            "--class-name": class_name,
            "--samples": samples,
            "--threshold": threshold,
            "--tile": tile,
            "--overlap": overlap,
        },
        {"--checkpoint": checkpoint, "--pretrained": pretrained, "--device": device},
        {"map_threshold": map_threshold, "min_area": min_area},
        batch_size,
    )
    load = given.loader()
    from bayes_pfl.serve.server import run_service

    who = "this computer only; " if settings.local else ""
    run_service(
        settings,
        load,
        on_ready=lambda address: opt.say(f"{address}/docs  ({who}Ctrl-C stops it)"),
    )


def _whole(value: float) -> int:
    """Rounded; 0, which the settings refuse, for what is no number."""
    return round(value) if math.isfinite(value) else 0


@dataclass(frozen=True)
class Given:
    """What the command line says of the detector.

    Attributes:
        scoring: options that a profile or an export brings itself.
        model: options that an export has no use for.
        rule: of the regions.
    """

    detector: str
    scoring: Mapping[str, Any]
    model: Mapping[str, Any]
    rule: Mapping[str, Any]
    batch_size: int

    def loader(self) -> Callable[[], ServedDetector]:
        """What makes the detector; whatever can be refused at once is.

        Raises:
            BayesPFLError: no detector of that name, a profile that cannot be read, options that do
                not go together.
        """
        from bayes_pfl.export.manifest import is_export
        from bayes_pfl.fit.profile_files import is_profile

        if is_export(self.detector):
            self._refuse("an export", {**self.scoring, **self.model})
            return self._export
        if is_profile(self.detector):
            self._refuse("a profile", self.scoring)
            return self._profile()
        if self.model["--checkpoint"] is not None:
            raise ConfigError("--checkpoint without a profile: name the checkpoint alone")
        try:
            opt.checked([self.detector], ())
        except CheckpointError as error:
            raise CheckpointError(f"no folder of bayes-pfl fit or export, and {error}") from error
        return self._words()

    def _refuse(self, what: str, options: Mapping[str, Any]) -> None:
        if given := [name for name, value in options.items() if value is not None]:
            raise ConfigError(f"{', '.join(given)} with {what}, which brings its own: leave it out")

    def _export(self) -> ServedDetector:
        import torch

        from bayes_pfl.serve.detectors import ServedExport

        threads = torch.get_num_threads()
        folder = Path(self.detector)
        return ServedExport(folder, batch_size=self.batch_size, threads=threads, **self.rule)

    def _profile(self) -> Callable[[], ServedDetector]:
        profile, name = profiles.opened(Path(self.detector), self.model["--checkpoint"])
        assert profile is not None
        if profile.settings.roi is not None and profile.roi is None:
            raise ConfigError(
                f"{self.detector}: made with a folder of regions of interest, one for each "
                "picture; a service knows no names of pictures: fit it with one region, or none"
            )
        scoring = replace(profile.scoring(), batch_size=self.batch_size)
        return lambda: self._served(name, profile.class_name, scoring, profile=profile)

    def _words(self) -> Callable[[], ServedDetector]:
        from bayes_pfl.detect.name_sensitivity import NEUTRAL
        from bayes_pfl.detect.settings import ScoringSettings

        known = self.scoring
        scoring = ScoringSettings(
            samples=known["--samples"],
            batch_size=self.batch_size,
            **opt.tiles_of(known["--tile"], known["--overlap"]),
        )
        name = known["--class-name"]
        return lambda: self._served(
            self.detector, name or NEUTRAL, scoring, said=name, threshold=known["--threshold"]
        )

    def _served(
        self,
        checkpoint: str,
        class_name: str,
        scoring: ScoringSettings,
        *,
        said: str | None = None,
        **options: Any,
    ) -> ServedDetector:
        from bayes_pfl.serve.detectors import ServedModel

        model = opt.load_model(checkpoint, self.model["--device"], self.model["--pretrained"])
        if "profile" not in options:
            class_names.warn_of_names(model, said)
        return ServedModel.of(model, class_name, scoring, **options, **self.rule)
