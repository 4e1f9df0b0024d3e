"""The settings of a training run, without its data: the defaults, the published run, a file.

The published run is what the authors' scripts and code do, which is not in all points what the
paper says. docs/training.md has the table of where the defaults differ, and why.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bayes_pfl.checkpoints.authors import AUTHORS_VALIDATION
from bayes_pfl.clip.weights import EMBEDDED_BACKBONE
from bayes_pfl.config import BackboneConfig, FlowConfig, ModelConfig, StageConfig, TrainConfig
from bayes_pfl.errors import ConfigError
from bayes_pfl.support.typed_json import from_dict, read_json_config

RUN_ENTRIES = (
    *("data", "dataset", "categories", "processes", "init"),
    *("validation_data", "validation_dataset", "validation_categories"),
)
"""Entries of a run's config.json that describe its data, not its settings."""


@dataclass(frozen=True)
class Recipe:
    """What is trained, and how.

    Attributes:
        validation_dataset: the benchmark to validate on; None for categories of the training data.
    """

    model: ModelConfig = field(
        default_factory=lambda: ModelConfig(BackboneConfig(EMBEDDED_BACKBONE))
    )
    train: TrainConfig = field(default_factory=TrainConfig)
    validation_dataset: str | None = None


def published_recipe(dataset: str | None) -> Recipe:
    """The run of the published scripts on one of the two benchmarks, validated on the other.

    Args:
        dataset: "visa" or "mvtec".

    Raises:
        ConfigError: another one, because the published code trains on these two alone.
    """
    if dataset not in AUTHORS_VALIDATION:
        raise ConfigError(f"--preset published: give --dataset visa or mvtec, not {dataset}")
    train = TrainConfig(
        stage1=StageConfig(epochs=30, patience=4),
        stage2=StageConfig(epochs=30, patience=4, schedule="constant"),
        max_epochs=30,
        ties_improve=True,
        last_batch="short",
        validation="authors",
        validation_samples=5,
        validation_draws="new",
        validation_smoothing=False,
        mosaic=0.4 if dataset == "mvtec" else 0.0,
        mosaic_of_all=dataset == "mvtec",
        seed=333,
    )
    backbone = BackboneConfig("ViT-L-14-336", "openai", 518, (6, 12, 18, 24), activation="gelu")
    model = ModelConfig(backbone, flow=FlowConfig(constrained=False))
    (other,) = AUTHORS_VALIDATION.keys() - {dataset}
    return Recipe(model, train, other)


def fine_tuning_recipe(model: ModelConfig) -> Recipe:
    """A training that begins with the weights of a checkpoint: a tenth of the learning rates that
    new weights have, which would undo what the checkpoint has learnt (docs/training.md)."""
    new = TrainConfig()
    rates = {name: getattr(new, name) / 10 for name in ("lr_prompts", "lr_flow", "lr_temperature")}
    return Recipe(model, replace(new, **rates))


def with_file(recipe: Recipe, path: Path) -> Recipe:
    """The recipe with the settings that a JSON file names.

    Args:
        path: entries of a TrainConfig; or "train" and "model" with entries of a TrainConfig and a
            ModelConfig, as in the config.json of a run.

    Raises:
        ConfigError: with all its faults.
    """
    content = read_json_config(path)
    if isinstance(content, dict) and content.keys() & {"train", "model"}:
        content = {name: value for name, value in content.items() if name not in RUN_ENTRIES}
        return from_dict(Recipe, _overlaid(asdict(recipe), content), str(path))
    train = from_dict(TrainConfig, _overlaid(asdict(recipe.train), content), str(path))
    return Recipe(recipe.model, train, recipe.validation_dataset)


def _overlaid(base: dict[str, Any], entries: Any) -> Any:
    """``base`` with ``entries`` in the place of its own, level by level."""
    if not isinstance(entries, dict):
        return entries  # for `from_dict` to refuse
    nested = {
        name: _overlaid(base[name], value)
        for name, value in entries.items()
        if isinstance(base.get(name), dict) and isinstance(value, dict)
    }
    return base | entries | nested
