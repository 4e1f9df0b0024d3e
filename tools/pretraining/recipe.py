"""The whole recipe of the embedded small CLIP: pictures, tuning, export, figures, model card."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bayes_pfl.errors import ConfigError
from bayes_pfl.support.files import write_atomically
from pretraining.architecture import build_clip
from pretraining.card import CARD_FILE, CardFacts, model_card
from pretraining.class_names import imagenet_names, pseudo_features
from pretraining.config import PretrainConfig
from pretraining.cost import Cost
from pretraining.export import export_clip
from pretraining.features import FeatureSet, read_features
from pretraining.lite_weights import LiteWeights, load_lite_weights
from pretraining.locked_tuning import TuningData, tune
from pretraining.measures import Measures, measure
from pretraining.pictures import (
    OnProgress,
    PictureMaps,
    Renderer,
    encode_pictures,
    plan,
)
from pretraining.split_trunk import SplitTrunk
from pretraining.tower_cache import load_tower, save_tower
from pretraining.tuning_state import TuningState
from pretraining.unlocking import unlock

_log = logging.getLogger(__name__)
_MEASURING_SEED = 1_000_003


@dataclass(frozen=True)
class PictureSource:
    """A renderer, with the kinds of defects of its training and its held-out categories."""

    render: Renderer
    training: Mapping[str, Sequence[str]]
    held_out: Mapping[str, Sequence[str]]


def rendered_source(further: bool = False) -> PictureSource:
    """The package's own renderer and its split, without its test categories.

    Args:
        further: train on the further categories too.
    """
    from bayes_pfl import rendering

    def kinds(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
        return {name: tuple(rendering.CATEGORIES[name].defects) for name in names}

    more = rendering.FURTHER_CATEGORIES if further else ()
    return PictureSource(
        rendering.render,
        kinds((*more, *rendering.TRAIN_CATEGORIES)),
        kinds(rendering.VALIDATION_CATEGORIES),
    )


def pretrain(
    config: PretrainConfig,
    out: Path,
    *,
    source: PictureSource | None = None,
    weights: LiteWeights | None = None,
    cache: Path | None = None,
    device: str = "cpu",
    progress: OnProgress | None = None,
) -> Measures:
    """Run the recipe and write the model's folder.

    Args:
        out: folder for config, weights and model card.
        source: of pictures; None for the package's renderer.
        weights: of the image tower; None for those of the installed package.
        cache: folder for the maps of the pictures and for the state of the tower's tuning, so that
            a run that was stopped resumes after the pictures, or within the tuning (at most two
            minutes of it are lost).
        device: to train on; pictures are rendered, encoded and measured on the CPU.
        progress: called during the work with a stage's name, its finished steps and its total.

    Raises:
        BackboneError: the image tower's weights are not installed.
        ConfigError: ``device`` is not there.
        OSError: ``out`` cannot be written.
    """
    _check_device(device)
    source = source or rendered_source(config.further)
    weights = weights or load_lite_weights(trunk=config.trunk)
    with _threads(config.threads):
        clip, tokenizer = build_clip(config, weights), _tokenizer()
        trunk = SplitTrunk(clip.visual.trunk, config.unlocked)
        pictures = _pictures(trunk, source, config, cache, progress)
        clip.to(device)
        losses, unlocking = _unlocked(trunk, pictures, weights, config, cache, progress)
        begin = Cost.now()
        features = read_features(trunk, pictures, config.places, config.seed)
        data = tuning_data(features, weights)
        losses |= tune(clip, tokenizer, data.to(trunk.device), config, progress)
        tuning = Cost.now().since(begin)
        file = export_clip(clip, config, out)
        measures = measure_folder(out, source, data, config)
    facts = CardFacts(
        config=config,
        training=source.training,
        held_out=source.held_out,
        pictures=pictures.cost,
        unlocking=unlocking,
        tuning=tuning,
        losses=losses,
        measures=measures,
        weights=file,
    )
    card = model_card(facts)
    write_atomically(out / CARD_FILE, card)
    _log.info("wrote %s", out)
    return measures


def tuning_data(pictures: FeatureSet, weights: LiteWeights) -> TuningData:
    """Pictures, and class features that spread as widely as they do."""
    classes = pseudo_features(weights, pictures.spread)
    return TuningData(pictures, classes, imagenet_names(), weights)


def measure_folder(
    folder: Path, source: PictureSource, data: TuningData, config: PretrainConfig
) -> Measures:
    """Figures of the written model, which open_clip loads again."""
    import open_clip

    with torch.random.fork_rng(devices=[]):  # loading draws initial weights first
        clip = open_clip.create_model(f"local-dir:{folder}").eval()
    trunk = SplitTrunk(clip.visual.trunk, config.unlocked)
    count = config.validation_pictures * len(source.held_out)

    def features(kinds: Mapping[str, Sequence[str]], pictures: int) -> FeatureSet:
        requests = plan(kinds, pictures, config.seed + _MEASURING_SEED)
        maps = encode_pictures(
            trunk, source.render, requests, size=config.image_size, workers=config.workers
        )
        return read_features(trunk, maps, 0, config.seed)

    known, held_out = features(source.training, count // 2), features(source.held_out, count)
    return measure(clip, _tokenizer(), known, held_out, data)


def _pictures(
    trunk: SplitTrunk,
    source: PictureSource,
    config: PretrainConfig,
    cache: Path | None,
    progress: OnProgress | None,
) -> PictureMaps:
    kept = cache / f"pictures-{config.pictures_key()}.npz" if cache else None
    if kept and kept.is_file():
        _log.info("maps of the pictures: %s", kept)
        return PictureMaps.load(kept)
    pictures = encode_pictures(
        trunk,
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


def _unlocked(
    trunk: SplitTrunk,
    pictures: PictureMaps,
    weights: LiteWeights,
    config: PretrainConfig,
    cache: Path | None,
    progress: OnProgress | None,
) -> tuple[dict[str, float], Cost]:
    """Tune the tower, or load it from the cache; returns its losses and what it cost."""
    if not config.unlocked:
        return {}, Cost()
    kept = cache / f"tower-{config.tower_key()}.safetensors" if cache else None
    if kept and kept.is_file():
        _log.info("tuned tower: %s", kept)
        return load_tower(trunk, kept)
    state = TuningState(kept and kept.with_suffix(".part"))
    losses = unlock(trunk, pictures, weights, config, progress, state)
    cost = state.cost
    if kept:
        save_tower(trunk, kept, losses, cost)
        state.remove()
    return losses, cost


def _check_device(device: str) -> None:
    """Check the device before anything is rendered."""
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # no such name, no driver, built without
        raise ConfigError(f"device {device!r}: not available here; use cpu") from error


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
