"""The scoreboard: every method on every set, the images of a set read once for each checkpoint.

Engine of ``bayes-pfl scoreboard``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from bayes_pfl.checkpoints.fingerprint import fingerprint
from bayes_pfl.checkpoints.load import load_checkpoint, untrained_model
from bayes_pfl.config import BackboneConfig
from bayes_pfl.data.card_schema import LEVELS
from bayes_pfl.data.labelled_batches import read_batches
from bayes_pfl.data.records import Sample, count_labels
from bayes_pfl.detect.scorer import out_of_memory_explained, smoothing_sigma
from bayes_pfl.detect.settings import ScoringSettings
from bayes_pfl.errors import ConfigError, DataError
from bayes_pfl.evaluate.datasets import EvaluationData
from bayes_pfl.evaluate.files import folder_names
from bayes_pfl.evaluate.reference_draw import method_label
from bayes_pfl.evaluate.threshold import check_fitted
from bayes_pfl.fit.profile import Profile
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.scoreboard.methods import (
    CheckpointMethod,
    ContrastMethod,
    HandcraftedPrompts,
    encode,
)
from bayes_pfl.scoreboard.references import (
    BoardReferences,
    ReferenceMethod,
    board_references,
)
from bayes_pfl.scoreboard.resampling import BootstrapSettings
from bayes_pfl.scoreboard.tally import Figures, Tally, mean_figures
from bayes_pfl.support.precision import autocast
from bayes_pfl.support.progress import NullProgress, Progress

Load = Callable[[str], BayesPFLNetwork]
Method = CheckpointMethod | ReferenceMethod | HandcraftedPrompts | ContrastMethod


def bare_model(
    backbone: str,
    pretrained: str | None = None,
    device: str | None = None,
    image_size: int | None = None,
) -> BayesPFLNetwork:
    """A backbone with an untrained head, which no method of the scoreboard uses."""
    return untrained_model(BackboneConfig(backbone, pretrained, image_size), device)


@dataclass(frozen=True)
class BoardSettings:
    """How to run.

    Attributes:
        samples: numbers R of Monte Carlo samples, a row for each; None for the checkpoint's.
        baselines: whether local contrast and prompts by hand get rows.
        seed: of the model's draws, and of the pictures drawn for shots.
        shots: numbers of normal pictures that images are compared with, a further row for each.
    """

    samples: tuple[int | None, ...] = (None,)
    baselines: bool = True
    batch_size: int = 8
    precision: str = "float32"
    workers: int = 0
    seed: int = 0
    bootstrap: BootstrapSettings = field(default_factory=BootstrapSettings)
    shots: tuple[int, ...] = ()


_DEFAULTS = BoardSettings()


@dataclass
class CategoryBoard:
    """The numbers of images of one category, and the figures of each method."""

    normal: int
    anomalous: int
    skipped: int = 0
    figures: dict[str, Figures] = field(default_factory=dict)


@dataclass
class Board:
    """The figures of a scoreboard, by set and category.

    Attributes:
        methods: names of the rows, checkpoints first.
        skipped: (set, path, reason) of the images that could not be read.
        device: that the last checkpoint ran on.
        fingerprints: SHA-256 of all weights, the backbone's included, by checkpoint; of a backbone
            by itself, its own.
        notes: what a reader of the tables must know, one line each.
    """

    sets: dict[str, dict[str, CategoryBoard]]
    methods: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str, str]] = field(default_factory=list)
    device: str = ""
    fingerprints: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def set_figures(self, name: str) -> dict[str, Figures]:
        """Means over the categories of a set, by method."""
        parts = [entry.figures for entry in self.sets[name].values()]
        return {method: mean_figures([part[method] for part in parts]) for method in self.methods}

    def overall(self) -> dict[str, Figures]:
        """Means over the sets, each the mean of its categories, by method."""
        parts = [self.set_figures(name) for name in self.sets]
        return {method: mean_figures([part[method] for part in parts]) for method in self.methods}


def score_sets(
    checkpoints: Sequence[str],
    data: Sequence[EvaluationData],
    settings: BoardSettings = _DEFAULTS,
    progress: Progress | None = None,
    load: Load = load_checkpoint,
    backbones: Sequence[str] = (),
    load_bare: Load = bare_model,
    profile: Profile | None = None,
) -> Board:
    """Score every set by every checkpoint and baseline; one model is held at a time.

    Args:
        load: gives the model of a checkpoint.
        backbones: as in training; they get a row for prompts by hand, without a checkpoint.
        load_bare: gives a model of such a backbone.
        profile: a further row for each checkpoint, compared with its normal pictures.

    Raises:
        BayesPFLError: a checkpoint that cannot be loaded, settings that cannot be used.
    """
    progress = progress or NullProgress()
    if not any(one.samples for one in data) or not (checkpoints or backbones):
        raise DataError("nothing to score: give checkpoints, and sets with test images")
    if backbones and not settings.baselines:
        raise ConfigError("a backbone by itself has a row of the baselines: leave them in")
    references = board_references(data, [k for k in settings.shots if k], profile, settings.seed)
    data = references.data
    images = sum(len(one.samples) for one in data)
    board = Board({one.name: {} for one in data}, notes=references.notes)
    for one in data:
        for category, counts in count_labels(one.samples).items():
            board.sets[one.name][category] = CategoryBoard(*counts)
    baselines: dict[str, str | None] = {}  # names, each with the hash of its backbone
    titles = dict(zip(checkpoints, folder_names(checkpoints), strict=True))
    names = [*checkpoints, *backbones]
    for place, name in enumerate(names):
        bare = place >= len(checkpoints)
        model = load_bare(name) if bare else load(name)
        if not place:
            progress.start("scoreboard", images * len(names))
        board.device = str(model.device)
        own = model.config.backbone.sha256 if bare else None
        board.fingerprints[name] = own or fingerprint(model)
        rows = [] if bare else _checkpoint_rows(titles[name], model, settings, references)
        if not bare:
            for count in settings.samples:
                check_fitted(profile, model, data, _scoring(settings, count), (settings.seed,))
        others = _baseline_rows(model, baselines) if settings.baselines else []
        for one in data:
            _score_set(model, one, [*rows, *others], board, settings, progress)
        board.methods += [row.name for row in rows]
        baselines |= {row.name: model.config.backbone.sha256 for row in others}
    board.methods += sorted(baselines, key=lambda name: name == ContrastMethod.name)
    return board


def _checkpoint_rows(
    name: str, model: BayesPFLNetwork, settings: BoardSettings, references: BoardReferences
) -> list[Method]:
    with torch.no_grad():
        draws = [model.draw(count, settings.seed) for count in settings.samples]
    if len(set(settings.samples)) < len(draws):
        raise ConfigError(f"samples = {list(settings.samples)}: give each number once")
    titles = [name if count is None else f"{name}, R = {count}" for count in settings.samples]
    rows: list[Method] = []
    for title, count, one in zip(titles, settings.samples, draws, strict=True):
        rows.append(CheckpointMethod(title, model, one))
        for method, drawn in references.draws.items():
            scoring = _scoring(settings, count)
            rows.append(ReferenceMethod(f"{title}, {method_label(method)}", model, scoring, drawn))
    return rows


def _scoring(settings: BoardSettings, samples: int | None) -> ScoringSettings:
    return ScoringSettings(
        samples=samples,
        precision=settings.precision,
        seed=settings.seed,
        batch_size=settings.batch_size,
    )


def _baseline_rows(model: BayesPFLNetwork, known: Mapping[str, str | None]) -> list[Method]:
    """Local contrast, once; prompts by hand, once for each backbone at each size.

    Args:
        known: names of the existing rows, each with the hash of its backbone.
    """
    config, size = model.config.backbone, model.backbone.image_size
    short = config.name.rstrip("/").rpartition("/")[2]
    title = f"prompts by hand ({short}, {size} px)"
    if known.get(title, config.sha256) != config.sha256:  # another folder of the same name
        title = f"prompts by hand ({config.name}, {size} px)"
    by_hand = HandcraftedPrompts(model.backbone, title, smoothing_sigma(model))
    rows: list[Method] = [by_hand, ContrastMethod()]
    return [row for row in rows if row.name not in known]


def _score_set(
    model: BayesPFLNetwork,
    data: EvaluationData,
    methods: Sequence[Method],
    board: Board,
    settings: BoardSettings,
    progress: Progress,
) -> None:
    for category, entry in board.sets[data.name].items():
        samples = [sample for sample in data.samples if sample.category == category]
        tallies = [Tally(_reasons(method, data, samples)) for method in methods]
        entry.skipped = 0
        for method in methods:
            if isinstance(method, ReferenceMethod):
                method.begin(data.name, category)
        random.Random(0).shuffle(samples)  # no order by labels; the same in every run
        side = model.backbone.image_size
        for batch in read_batches(samples, side, settings.batch_size, settings.workers):
            failures = [(data.name, str(s.path), reason) for s, reason in batch.failures]
            board.skipped += [item for item in failures if item not in board.skipped]
            entry.skipped += len(failures)
            if batch.samples:
                with (
                    torch.no_grad(),
                    out_of_memory_explained(model, len(batch.samples)),
                    autocast(model.device, settings.precision),
                ):
                    names = [s.class_name for s in batch.samples]
                    encoded = encode(model, batch.pixels, names)
                    for method, tally in zip(methods, tallies, strict=True):
                        tally.add(*method.score(encoded), batch)
            progress.advance(len(batch.samples) + len(failures), {})
        for method, tally in zip(methods, tallies, strict=True):
            stream = f"{data.name}/{category}"
            entry.figures[method.name] = tally.figures(settings.bootstrap, stream)


def _reasons(
    method: Method, data: EvaluationData, samples: Sequence[Sample]
) -> dict[str, str | None]:
    """By level: why a method has no figures of a category; None where it has."""
    reasons: dict[str, str | None] = {
        level: None if level in data.levels else f"the set is not meant for {level}-level results"
        for level in LEVELS
    }
    masks = [sample.mask for sample in samples if sample.label == 1]
    bare = f"{len(masks)} anomalous images have no mask"
    lost = bare if masks and not any(masks) else method.reason
    return reasons | {"pixel": reasons["pixel"] or lost}
