"""An exported detector in place of PyTorch's: the scorer of `predict --runtime`.

Symbols: B views.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bayes_pfl.checkpoints.fingerprint import known_fingerprint
from bayes_pfl.detect.references import Deviations, Place, References
from bayes_pfl.detect.scorer import ScoredImage, Scorer, View
from bayes_pfl.detect.settings import ScoringSettings
from bayes_pfl.errors import ConfigError
from bayes_pfl.export.folder import Format, export_detector
from bayes_pfl.export.standalone.detector import Detector, Refused
from bayes_pfl.fit.profile import Profile
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.support.differences import differences


class ExportedScorer(Scorer):
    """As :class:`Scorer`, with the views scored by an export of the same model and profile.

    Raises:
        ConfigError: the export is of another model, or was made with other settings.
    """

    def __init__(
        self,
        detector: Detector,
        model: BayesPFLNetwork,
        settings: ScoringSettings,
        *,
        maps: bool = True,
        spread: bool = True,
        references: Mapping[str, References] | None = None,
    ) -> None:
        if (settings.interest is not None) != (detector.roi is not None):
            raise ConfigError(
                "a region of interest: an export has that of its profile; leave --roi or --runtime "
                "out"
            )
        if settings.precision != "float32":
            raise ConfigError(
                f"precision = {settings.precision}: with --runtime it is that of the export; leave "
                "it out, or see bayes-pfl export --precision"
            )
        super().__init__(model, settings, maps=maps, spread=spread, references=references)
        self.detector = detector
        made = detector.manifest["settings"]
        asked = {
            "samples": settings.sample_count(model),
            "seed": settings.seed,
            "smoothing": settings.smoothing,
            "checkpoint": known_fingerprint(model),
            "references": [digest for one in self.references.values() for digest in one.digests],
        }
        known = {**made, "checkpoint": detector.manifest["checkpoint"]["sha256"]}
        known["references"] = detector.manifest["reference_digests"]
        if differing := differences({name: known[name] for name in asked}, asked, "exported"):
            raise ConfigError(
                f"the export does not fit this run: {'; '.join(differing)}; export again, or use "
                "its settings"
            )

    def views(self, views: Sequence[View]) -> list[ScoredImage]:
        """Score B pictures or tiles of pictures, each by itself."""
        self._refuse_other_names(views)
        found: dict[int, ScoredImage] = {}
        for tiled in (False, True):
            places = [at for at, view in enumerate(views) if (view.tile is not None) is tiled]
            if places:
                chosen = [views[at] for at in places]
                found |= zip(places, self._scored(chosen, tiled), strict=True)
        return [found[at] for at in range(len(views))]

    def _refuse_other_names(self, views: Sequence[View]) -> None:
        name = self.detector.manifest["class_name"]
        if others := [view.class_name for view in views if view.class_name != name]:
            raise ConfigError(
                f"class name {others[0]!r} with an export for {name!r}: it has one name; leave "
                "--runtime out, or export again"
            )

    def _scored(self, views: Sequence[View], tiled: bool) -> list[ScoredImage]:
        pixels = [view.pixels for view in views]
        twins = [
            (-1 if view.twin is None else view.twin) if tiled else self.detector.twin(view.pixels)
            for view in views
        ]
        inside = [view.inside for view in views if view.inside is not None]
        found = self.detector.run(pixels, twins, tiled, inside)
        names = ("score", "text_score", "map_score", "uncertainty", "low", "high")
        numbers = {name: found[name].tolist() for name in names}
        scored = [
            ScoredImage(
                **{name: values[at] for name, values in numbers.items()},
                map=torch.from_numpy(found["map"][at]) if self.maps else None,
                spread=torch.from_numpy(found["spread"][at]) if self.spread else None,
            )
            for at in range(len(views))
        ]
        if "memory_score" not in found:
            return scored
        return [
            replace(one, **self._by_memory(found, at, view))
            for at, (one, view) in enumerate(zip(scored, views, strict=True))
        ]

    def _by_memory(self, found: dict[str, np.ndarray], at: int, view: View) -> dict[str, Any]:
        """What a result with references has besides, for the view ``at``."""
        references = self.references_of(view.class_name, view.tile)
        assert references is not None
        patch = int(found["patch"][at])
        memory = references.memory
        place = Place(
            int(found["cell"][at]),
            int(memory.owners[patch]),
            int(memory.cells[patch]),
            float(found["distance"][at]),
        )
        names = ("words_deviation", "memory_deviation", "pair_deviations")
        parts = (torch.from_numpy(found[name][at : at + 1]) for name in names)
        return {
            "words_score": float(found["words_score"][at]),
            "memory_score": float(found["memory_score"][at]),
            "place": place,
            "deviations": Deviations(*parts),
        }


@contextlib.contextmanager
def exported_scorers(
    model: BayesPFLNetwork,
    folder: Path | None,
    class_name: str | None,
    profile: Profile | None,
    settings: ScoringSettings,
    checkpoint: str | None,
    format: Format = "onnx",
) -> Iterator[Any]:
    """Within, what makes scorers, for :func:`bayes_pfl.predict.folder.predict_folder`.

    Args:
        folder: of the export, which is made if it is not there; None for a temporary one.
        format: of one that is made.

    Raises:
        ConfigError: as :func:`bayes_pfl.export.folder.export_detector`; a folder that holds no
            export.
    """
    with tempfile.TemporaryDirectory(prefix="bayes-pfl-") as temporary:
        place = folder or Path(temporary, "export")
        if not (place.is_dir() and any(place.iterdir())):
            export_detector(
                model,
                place,
                class_name=class_name,
                profile=profile,
                samples=settings.sample_count(model),
                seed=settings.seed,
                checkpoint=checkpoint,
                format=format,
            )
        try:
            detector = Detector(place, torch.get_num_threads())
        except Refused as error:
            raise ConfigError(str(error)) from error
        yield partial(ExportedScorer, detector)
