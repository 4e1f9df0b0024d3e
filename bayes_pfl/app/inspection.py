"""What the app does with the files that are dropped on it; independent of the page."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image

from bayes_pfl.checkpoints.load import load_checkpoint
from bayes_pfl.data.images import SEVERAL, read_image
from bayes_pfl.data.tiles import DEFAULT_OVERLAP
from bayes_pfl.detect.results import AnomalyResult
from bayes_pfl.errors import ConfigError, DataError
from bayes_pfl.fit.decision import Decision, worth_a_look
from bayes_pfl.fit.profile import Profile
from bayes_pfl.fit.profile_files import load_profile
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.predict.images import predict_stream
from bayes_pfl.predict.settings import FolderSettings
from bayes_pfl.report.pictures import side_by_side

_OVERLAY_SIDE = 640


@dataclass(frozen=True)
class AppSettings:
    """What the app offers, and its limits.

    Attributes:
        checkpoints: the names on offer; the page cannot ask for any other.
        calibration: file of a calibration; its threshold is used where none is typed.
        profile: folder of the profile that is chosen at first: pictures are also compared with its
            normal ones, and its threshold is used where none is typed.
        profiles: folder of further profiles, where new ones are saved.
        token: that every request must bring; None where only this computer reaches the page.
        tile, overlap: how large images are cut; see
            :class:`bayes_pfl.detect.settings.ScoringSettings`.
        max_files: files in one request.
        max_bytes: bytes of one file.
        max_pixels: pixels of one image.
        max_seconds: time for all images of one request; checked after each image.
    """

    checkpoints: tuple[str, ...]
    pretrained: str | None = None
    device: str | None = None
    calibration: Path | None = None
    profile: Path | None = None
    profiles: Path | None = None
    token: str | None = field(default=None, repr=False)
    tile: int | str | None = None
    overlap: float = DEFAULT_OVERLAP
    max_files: int = 64
    max_bytes: int = 64 * 2**20
    max_pixels: int = 50_000_000
    max_seconds: float = 600.0


@dataclass(frozen=True)
class InspectionRequest:
    """What a person asks for; see :meth:`bayes_pfl.BayesPFL.predict`.

    Attributes:
        profile: its folder; None for none.
    """

    checkpoint: str
    class_name: str
    samples: int | None = None
    threshold: float | None = None
    profile: Path | None = None


@dataclass(frozen=True)
class Inspected:
    """One file: its result and overlay, or why there is none.

    Attributes:
        near: with a profile, of an image that is labelled anomalous or scores high: its most
            anomalous place next to the most similar one of the references, as the report shows it.
    """

    name: str
    result: AnomalyResult | None = None
    overlay: Image.Image | None = None
    near: Image.Image | None = None
    error: str = ""


@dataclass
class Inspector:
    """Scores files for the page, one request at a time; loads a model when it is first used."""

    settings: AppSettings
    _models: dict[str, BayesPFLNetwork] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def model(self, checkpoint: str) -> BayesPFLNetwork:
        """The model of one of the checkpoints on offer.

        Raises:
            ConfigError: the checkpoint is not on offer.
            BayesPFLError: it cannot be loaded.
        """
        offered = self.settings.checkpoints
        if checkpoint not in offered:
            raise ConfigError(f"checkpoint {checkpoint!r}: choose one of {', '.join(offered)}")
        if checkpoint not in self._models:
            self._models[checkpoint] = load_checkpoint(
                checkpoint, device=self.settings.device, pretrained=self.settings.pretrained
            )
        return self._models[checkpoint]

    def alone(self) -> threading.Lock:
        """Within, no other request computes."""
        return self._lock

    def check_count(self, paths: Sequence[str]) -> None:
        """Refuse more files than are taken at once.

        Raises:
            ConfigError: that many.
        """
        if len(paths) > self.settings.max_files:
            raise ConfigError(
                f"{len(paths)} images: {self.settings.max_files} at once; for more use "
                "bayes-pfl predict"
            )

    def inspect(self, paths: Sequence[str], request: InspectionRequest) -> Iterator[Inspected]:
        """Score the files in order, one result after the other.

        Raises:
            ConfigError: too many files, too much time, or a setting that cannot be used.
            DataError: no class name, or one that cannot be used.
        """
        self.check_count(paths)
        if not request.class_name.strip() and request.profile is None:
            raise DataError("no class name; say what the images show, such as metal nut")
        with self._lock:
            started = time.monotonic()
            for item in self._inspect(paths, request):
                yield item
                if time.monotonic() - started > self.settings.max_seconds:
                    raise ConfigError(
                        f"more than {self.settings.max_seconds:g} seconds: give fewer images, or "
                        "use bayes-pfl predict"
                    )

    def _inspect(self, paths: Sequence[str], request: InspectionRequest) -> Iterator[Inspected]:
        opened: deque[Inspected] = deque()
        profile = self._profile(request)
        results = predict_stream(
            self.model(request.checkpoint),
            self._readable(paths, opened),
            request.class_name.strip() or None,
            self._scoring(request, profile),
            threshold=request.threshold,
            calibration=self._calibration(request),
            profile=profile,
        )
        for result in results:
            while opened[0].error:
                yield opened.popleft()
            name = opened.popleft().name
            shown = result.overlay(title=name, uncertainty=True, max_side=_OVERLAY_SIDE)
            yield Inspected(name, result, shown, _near(result))
        yield from opened

    def resolved(self, request: InspectionRequest) -> tuple[FolderSettings, Decision]:
        """The settings of a request, with every default, and what makes labels of its scores."""
        profile = self._profile(request)
        settings = replace(self._scoring(request, profile), threshold=request.threshold)
        name = request.class_name.strip() or (profile.class_name if profile else "")
        model = self.model(request.checkpoint)
        return settings.resolved(model, name, self._calibration(request), "none", profile)

    def _scoring(self, request: InspectionRequest, profile: Profile | None) -> FolderSettings:
        """Images one by one, so that each is shown when it is done; tiles of an image together."""
        tile, overlap = self.settings.tile, self.settings.overlap
        tiles = tile is not None or (profile is not None and profile.settings.tile is not None)
        return FolderSettings(
            samples=request.samples, batch_size=8 if tiles else 1, tile=tile, overlap=overlap
        )

    def _calibration(self, request: InspectionRequest) -> Path | None:
        """The calibration of the app, unless the person typed a threshold or chose a profile."""
        own = request.threshold is None and request.profile is None
        return self.settings.calibration if own else None

    def _profile(self, request: InspectionRequest) -> Profile | None:
        """The profile; without its thresholds where the person typed one."""
        if request.profile is None:
            return None
        found = load_profile(request.profile)
        return found if request.threshold is None else replace(found, calibration=None)

    def _readable(self, paths: Sequence[str], opened: deque[Inspected]) -> Iterator[Image.Image]:
        """The images that can be read; adds all to ``opened``, the others with their errors."""
        for path in map(Path, paths):
            try:
                self.check_size(path)
                image = read_image(path, max_pixels=self.settings.max_pixels)
            except DataError as error:
                reason = str(error).removeprefix(f"{path}: ")
                opened.append(Inspected(path.name, error=reason))
                continue
            several = image.info.get(SEVERAL)
            opened.append(
                Inspected(f"{path.name} (first of its {several})" if several else path.name)
            )
            yield image

    def check_size(self, path: Path) -> None:
        """Refuse a file of more bytes than are taken.

        Raises:
            DataError: that large.
        """
        if (size := path.stat().st_size) > self.settings.max_bytes:
            raise DataError(
                f"{path}: {size / 2**20:.0f} MiB, at most {self.settings.max_bytes / 2**20:.0f} "
                "are taken; make it smaller, or use bayes-pfl predict"
            )


def _near(result: AnomalyResult) -> Image.Image | None:
    found, image = result.nearest_normal, result.image
    if found is None or image is None or not worth_a_look(result.score, result.label):
        return None
    return side_by_side(image, result.size, found)
