"""One run of the model: settings and random draws fixed once, then any number of batches.

Every job scores its images here. Symbols: B images, S the model's image side.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bayes_pfl.clip.frozen_clip import ImageFeatures
from bayes_pfl.data.tiles import Tile
from bayes_pfl.data.transforms import normalise
from bayes_pfl.detect.references import Combined, Deviations, Place, References
from bayes_pfl.detect.settings import ScoringSettings
from bayes_pfl.errors import ConfigError
from bayes_pfl.model.cost import scoring_bytes
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.model.sampling import PromptNoise, RunSamples
from bayes_pfl.model.scoring import BatchScores, deploy_scores, smoothed
from bayes_pfl.support.error_text import one_line
from bayes_pfl.support.memory import available_memory
from bayes_pfl.support.precision import autocast

_DEFAULTS = ScoringSettings()


@dataclass(frozen=True)
class ScoredImage:
    """Scores of one image, as in :class:`bayes_pfl.AnomalyResult`; maps at the model's size.

    Attributes:
        low, high: ends of the credible interval of the score.
        map: (S, S), of a large picture in tiles (H, W), in [0, 1] on the CPU; None if maps were
            not asked for. With a region of interest it is that of the rectangle around it.
        spread: of the same size, in [0, 0.5], the uncertainty map; likewise.
        words_score, memory_score, place, deviations: of
            :class:`bayes_pfl.detect.references.Combined`, the last of one image; None without
            references, where the score is that of the words.
    """

    score: float
    text_score: float
    map_score: float
    uncertainty: float
    low: float
    high: float
    map: Tensor | None
    spread: Tensor | None
    words_score: float | None = None
    memory_score: float | None = None
    place: Place | None = None
    deviations: Deviations | None = None

    @property
    def figures(self) -> dict[str, Any]:
        """The scores of an image that all results have, by their names."""
        names = ("score", "text_score", "map_score", "uncertainty", "words_score", "memory_score")
        return {name: getattr(self, name) for name in names}

    @property
    def finite(self) -> bool:
        """False where half precision overflowed."""
        return math.isfinite(self.score) and math.isfinite(self.uncertainty)


class View(NamedTuple):
    """What the model sees of a picture at a time.

    Attributes:
        pixels: uint8 (S, S, 3).
        tile: that it shows; None for the whole picture.
        twin: number of the reference picture that a tile is of; None for none.
        inside: bool (S, S), the pixels that count; None for all.
    """

    pixels: np.ndarray
    class_name: str
    tile: Tile | None = None
    twin: int | None = None
    inside: np.ndarray | None = None


@dataclass(frozen=True)
class ScoredBatch:
    """Scores of B images, on the model's device.

    Attributes:
        words: by words alone, raw.
        maps: anomaly maps (B, S, S), smoothed as the settings say; with references combined.
        combined: with references of all class names of the batch; else None.
    """

    words: BatchScores
    maps: Tensor
    combined: Combined | None = None

    @property
    def spread(self) -> Tensor:
        """The uncertainty maps (B, S, S)."""
        return self.combined.spread if self.combined else self.words.map_spread

    def images(self, maps: bool = True, spread: bool = True) -> list[ScoredImage]:
        """The images one by one, with maps and uncertainty maps on the CPU where asked for."""
        rows = deploy_scores(self.words).rows()
        nothing: Sequence[None] = [None] * len(rows)
        map_parts = self.maps.cpu() if maps else nothing
        spread_parts = self.spread.cpu() if spread else nothing
        found = [
            ScoredImage(score, text, map_score, uncertainty, low, high, one, other)
            for (score, text, map_score, uncertainty, low, high), one, other in zip(
                rows, map_parts, spread_parts, strict=True
            )
        ]
        if (both := self.combined) is None:
            return found
        columns = (*both.deviations.scores(), both.words_score, both.memory_score)
        known = torch.stack([column.float() for column in columns], 1).tolist()
        names = ("score", "uncertainty", "low", "high", "words_score", "memory_score")
        parts = zip(*(part.cpu().split(1) for part in both.deviations), strict=True)
        return [
            replace(
                image,
                place=place,
                deviations=Deviations(*part),
                **dict(zip(names, row, strict=True)),
            )
            for image, place, part, row in zip(found, both.places, parts, known, strict=True)
        ]


class Scorer:
    """A model with the settings and the random draws of one run; scores any number of batches.

    Every image is scored with the same draws, so its scores do not depend on its batch.

    Args:
        generator: source of the draws, in place of ``settings.seed``; it is advanced.
        maps, spread: whether maps, and maps of the uncertainty, are wanted.
        references: by class name; images of other names are scored by words alone.

    Raises:
        ConfigError: a setting that cannot be used.
    """

    def __init__(
        self,
        model: BayesPFLNetwork,
        settings: ScoringSettings = _DEFAULTS,
        *,
        generator: torch.Generator | None = None,
        maps: bool = True,
        spread: bool = True,
        references: Mapping[str, References] | None = None,
    ) -> None:
        self.model, self.settings = model, settings
        self.references = _on_device(references or {}, model.device)
        self.draws = run_draws(model, settings, generator)
        self.sigma = smoothing_sigma(model) if settings.smoothing else 0.0
        self.maps, self.spread = maps, spread
        self._encode: Any = model.backbone.encode_image
        if settings.compile:
            with autocast(model.device, settings.precision):
                model.backbone.fast_visual()  # made here, not while it is traced
            self._encode = torch.compile(self._encode)

    def with_references(
        self, references: Mapping[str, References], tile: int | str | None
    ) -> Scorer:
        """The same scorer, its draws included, with these references by class name.

        Args:
            tile: that the references have, and so the pictures; None for none.
        """
        other = copy.copy(self)
        other.references = _on_device(references, self.model.device)
        other.settings = replace(self.settings, tile=tile)
        return other

    def __call__(
        self, pixels: Sequence[np.ndarray], class_names: Sequence[str]
    ) -> list[ScoredImage]:
        """Score B pictures, uint8 (S, S, 3) each, with their class names or synonyms a|b."""
        return self.views([View(one, name) for one, name in zip(pixels, class_names, strict=True)])

    def views(self, views: Sequence[View]) -> list[ScoredImage]:
        """Score B pictures or tiles of pictures, each by itself."""
        found: dict[int, ScoredImage] = {}
        with out_of_memory_explained(self.model, len(views), self.draws):
            for places in self._groups(views):
                batch = self.view_batch([views[at] for at in places])
                found |= zip(places, batch.images(self.maps, self.spread), strict=True)
        return [found[at] for at in range(len(views))]

    def _groups(self, views: Sequence[View]) -> list[list[int]]:
        """Places of the views that are scored together: those with the same references."""
        groups: dict[tuple[str, bool] | None, list[int]] = {}
        for at, view in enumerate(views):
            known = view.class_name in self.references
            group = (view.class_name, view.tile is not None) if known else None
            groups.setdefault(group, []).append(at)
        return list(groups.values())

    def batch(self, pixels: Sequence[np.ndarray], class_names: Sequence[str]) -> ScoredBatch:
        """Score B pictures, uint8 (S, S, 3) each.

        Args:
            class_names: those with references must not be mixed with others.
        """
        return self.view_batch(
            [View(one, name) for one, name in zip(pixels, class_names, strict=True)]
        )

    def references_of(self, class_name: str, tile: Tile | None = None) -> References | None:
        """What pictures of a class name, or tiles of them, are compared with."""
        references = self.references.get(class_name)
        return references.tiles if references and tile else references

    @torch.no_grad()
    def view_batch(self, views: Sequence[View]) -> ScoredBatch:
        """Score B views that have the same references, or none: all whole pictures or all tiles."""
        pixels = [view.pixels for view in views]
        inside = inside_of([view.inside for view in views], self.model)
        features, words = self.encoded(pixels, [view.class_name for view in views], inside)
        first = views[0]
        references = self.references_of(first.class_name, first.tile)
        wanted = self.maps or references is not None
        maps = smoothed(words.map, self.sigma, inside) if wanted else words.map
        if references is None:
            return ScoredBatch(words, maps)
        patches = references.patches(self.model.backbone, features)
        twins = [
            references.twin(view.pixels, part) if view.tile is None else view.twin
            for view, part in zip(views, patches, strict=True)
        ]
        both = references.combine(words, maps, patches, self.sigma, twins, inside)
        return ScoredBatch(words, both.map, both)

    @torch.no_grad()
    def encoded(
        self,
        pixels: Sequence[np.ndarray],
        class_names: Sequence[str],
        inside: Tensor | None = None,
    ) -> tuple[ImageFeatures, BatchScores]:
        """Features of B pictures, uint8 (S, S, 3) each, and their raw scores by words.

        Args:
            inside: bool (B, S, S), the pixels that count; None for all.
        """
        with (
            out_of_memory_explained(self.model, len(pixels), self.draws),
            autocast(self.model.device, self.settings.precision),
        ):
            self._check_room(len(pixels))
            features = self._features(normalised(self.model, pixels))
            return features, self.model.score_encoded(features, class_names, self.draws, inside)

    def _check_room(self, images: int) -> None:
        """Raise before a processor's memory is full: then the system would end the process."""
        costs = scoring_bytes(self.model.config, self.model.backbone, self.draws.count)
        if self.model.device.type == "cpu" and images * sum(costs.values()) > available_memory():
            raise torch.OutOfMemoryError

    def _features(self, images: Tensor) -> ImageFeatures:
        try:
            features: ImageFeatures = self._encode(images)
            return features
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if not self.settings.compile:
                raise
            reason = one_line(error, 160)
            raise ConfigError(
                f"torch.compile failed ({reason}); it needs a C++ compiler: leave --compile out"
            ) from error


def _on_device(references: Mapping[str, References], device: torch.device) -> dict[str, References]:
    return {name: one.to(device) for name, one in references.items()}


def inside_of(masks: Sequence[np.ndarray | None], model: BayesPFLNetwork) -> Tensor | None:
    """The pixels that count of B views, bool (B, S, S) on the model's device; None where all do.

    Args:
        masks: bool (S, S) each; None for a view that counts as a whole.
    """
    if all(mask is None for mask in masks):
        return None
    whole = np.ones((model.backbone.image_size,) * 2, bool)
    stacked = np.stack([whole if mask is None else mask for mask in masks])
    return torch.from_numpy(stacked).to(model.device)


def run_draws(
    model: BayesPFLNetwork, settings: ScoringSettings, generator: torch.Generator | None = None
) -> RunSamples:
    """The draws of a run, from its seed or the user's generator; the global one is not touched."""
    count = settings.sample_count(model)
    if not isinstance(generator, torch.Generator | None):
        raise ConfigError(f"generator is {type(generator).__name__}: give a torch.Generator")
    with torch.no_grad():
        if generator is None or count == 0:
            return model.draw(count, settings.seed)
        return model.samples_from(PromptNoise.draw(count, model.backbone.embed_dim, generator))


def smoothing_sigma(model: BayesPFLNetwork) -> float:
    """Sigma in pixels of the Gaussian on the model's maps."""
    return model.config.scoring.smoothing * model.backbone.image_size


def normalised(model: BayesPFLNetwork, pixels: Sequence[np.ndarray]) -> Tensor:
    """Pictures, uint8 (S, S, 3) each -> float32 (B, 3, S, S) on the model's device.

    Bytes travel to the device, not floats.
    """
    device, backbone = model.device, model.backbone
    batch = torch.from_numpy(np.stack(pixels))
    if device.type == "cuda":
        batch = batch.pin_memory()
    planes = batch.to(device, non_blocking=True).permute(0, 3, 1, 2)  # (B, 3, S, S)
    return normalise(planes, backbone.mean, backbone.std).contiguous()


@contextmanager
def out_of_memory_explained(
    model: BayesPFLNetwork, images: int, draws: RunSamples | None = None
) -> Iterator[None]:
    """Within, a device without memory raises a ConfigError that says what to change."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        samples = f" with {draws.count} samples" if draws else ""
        raise ConfigError(
            f"{model.device} has no memory for a batch of {images}{samples}; use a smaller batch "
            "size, or fewer samples"
        ) from error
