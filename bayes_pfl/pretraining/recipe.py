"""The whole recipe of the embedded small CLIP: pictures, tuning, export, figures, model card."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bayes_pfl.files import write_atomically
from bayes_pfl.pretraining.architecture import build_clip
from bayes_pfl.pretraining.card import CARD_FILE, CardFacts, model_card
from bayes_pfl.pretraining.class_names import imagenet_names, pseudo_features
from bayes_pfl.pretraining.config import PretrainConfig
from bayes_pfl.pretraining.cost import Cost
from bayes_pfl.pretraining.export import export_clip
from bayes_pfl.pretraining.lite_weights import LiteWeights, load_lite_weights
from bayes_pfl.pretraining.locked_tuning import TuningData, tune
from bayes_pfl.pretraining.measures import Measures, measure
from bayes_pfl.pretraining.pictures import (
    FeatureSet,
    Progress,
    Renderer,
    embed_pictures,
    plan,
)

_log = logging.getLogger(__name__)
_MEASURING_SEED = 1_000_003


@dataclass(frozen=True)
class PictureSource:
    """A renderer, with the kinds of defects of its training and its held-out categories."""

    render: Renderer
    training: Mapping[str, Sequence[str]]
    held_out: Mapping[str, Sequence[str]]


def rendered_source() -> PictureSource:
    """The package's own renderer and its split; its test categories are left alone."""
    from bayes_pfl.data import synthetic

    def kinds(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
        return {name: tuple(synthetic.CATEGORIES[name].defects) for name in names}

    return PictureSource(
        synthetic.render,
        kinds(synthetic.TRAIN_CATEGORIES),
        kinds(synthetic.VALIDATION_CATEGORIES),
    )


def pretrain(
    config: PretrainConfig,
    out: Path,
    *,
    source: PictureSource | None = None,
    weights: LiteWeights | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Measures:
    """Run the recipe and write the model's folder.

    Args:
        out: folder for config, weights and model card.
        source: of pictures; None for the package's renderer.
        weights: of the image tower; None for those of the installed package.
        cache: folder for the features of the pictures, so that a second run need not render.
        progress: called as the work goes on.

    Raises:
        BackboneError: the image tower's weights are not installed.
        OSError: ``out`` cannot be written.
    """
    source, weights = source or rendered_source(), weights or load_lite_weights()
    with _threads(config.threads):
        clip, tokenizer = build_clip(config, weights), _tokenizer()
        pictures = _pictures(clip, source, config, cache, progress)
        begin = Cost.now()
        data = tuning_data(pictures, weights)
        losses = tune(clip, tokenizer, data, config, progress)
        tuning = Cost.now().since(begin)
        file = export_clip(clip, config, out)
        measures = measure_folder(out, source, data, config)
    facts = CardFacts(
        config, source.training, source.held_out, pictures.cost, tuning, losses, measures, file
    )
    card = model_card(facts)
    write_atomically(out / CARD_FILE, card)
    _log.info("wrote %s", out)
    return measures


def tuning_data(pictures: FeatureSet, weights: LiteWeights) -> TuningData:
    """Pictures, and class features that spread as widely as they do."""
    features = pictures.features
    spread = (features - features.mean(0)).norm(dim=1).mean().item()
    classes = pseudo_features(weights, spread)
    return TuningData(pictures, classes, imagenet_names(), weights.classify)


def measure_folder(
    folder: Path, source: PictureSource, data: TuningData, config: PretrainConfig
) -> Measures:
    """Figures of the model as it was written, read back by open_clip."""
    import open_clip

    with torch.random.fork_rng(devices=[]):  # loading draws initial weights first
        clip = open_clip.create_model(f"local-dir:{folder}").eval()
    count = config.validation_pictures * len(source.held_out)
    known, held_out = (
        embed_pictures(
            clip.visual.trunk,
            source.render,
            plan(kinds, pictures, config.seed + _MEASURING_SEED),
            size=config.image_size,
            workers=config.workers,
        )
        for kinds, pictures in ((source.training, count // 2), (source.held_out, count))
    )
    return measure(clip, _tokenizer(), known, held_out, data)


def _pictures(
    clip: Any,
    source: PictureSource,
    config: PretrainConfig,
    cache: Path | None,
    progress: Progress | None,
) -> FeatureSet:
    kept = cache / f"pictures-{config.pictures_key()}.npz" if cache else None
    if kept and kept.is_file():
        _log.info("features of the pictures: %s", kept)
        return FeatureSet.load(kept)
    pictures = embed_pictures(
        clip.visual.trunk,
        source.render,
        plan(source.training, config.pictures, config.seed),
        size=config.image_size,
        views=config.views,
        workers=config.workers,
        progress=progress,
    )
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        pictures.save(kept)
    return pictures


def _tokenizer() -> Any:
    import open_clip

    return open_clip.SimpleTokenizer()


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        if count:
            torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)
