"""Settings of the pretraining of the embedded small CLIP."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field

from bayes_pfl.errors import ConfigError
from bayes_pfl.support.processes import usable_cores
from pretraining.lite_weights import SOURCES, STAGES


@dataclass(frozen=True)
class PretrainConfig:
    """One recipe: pictures, sizes of the text tower, schedule. The defaults made the shipped model.

    Attributes:
        seed: of everything: pictures, captions, initial weights, batches.
        trunk: timm's name of the image tower, one of ``lite_weights.SOURCES``.
        image_size: side S of the pictures and of the image tower's input, in pixels.
        further: whether the further categories of the renderer are drawn too.
        pictures: rendered pictures; ``views`` of each are embedded once (the whole, then crops).
        text_width, text_heads, text_layers: of the text tower; its width is also the joint width,
            so that prompt flows need no map between the two.
        unlocked: stages at the end of the image tower that are tuned on the pictures' masks before
            the text tower reads them; 0 leaves the whole tower unchanged.
        unlock_steps, unlock_batch, unlock_learning_rate: updates of that, views in each, AdamW.
        unlock_full_from: defective share of a cell from which its target is 1; less than 1 makes
            small defects count.
        unlock_highest: weight of the loss of a view's highest cells.
        keep_classes: weight of the loss that keeps the tuned tower's ImageNet classes.
        places: single places of every view that are read like small pictures, so that text and
            patches agree too (the dense term); 0 for none.
        steps: updates of the text tower; ``warmup`` of them with a rising learning rate, then a
            cosine to zero.
        batch: picture views in a step; ``class_names`` ImageNet names go with them.
        learning_rate, weight_decay: of AdamW; biases, norms and the temperature do not decay.
        unknown_noun: share of the captions whose noun is a random word, so that a thing that was
            never named in training does not hide the words for its state.
        picture_names: also teach pictures the names that the image tower's own classifier gives
            them.
        validation_pictures: of each held-out category, half of them defective, for the figures in
            the model card; half as many again are of the categories of training.
        threads: of PyTorch, for the tuning; 0 leaves its own choice. Another number of them
            changes sums in their last digits, and so the weights.
        workers: processes that render and embed, one thread each; by default one for each core.
    """

    seed: int = 0
    trunk: str = "tf_efficientnet_lite0"
    image_size: int = 256
    further: bool = True
    pictures: int = 16000
    views: int = 2
    text_width: int = 192
    text_heads: int = 3
    text_layers: int = 3
    unlocked: int = 4
    unlock_steps: int = 3000
    unlock_batch: int = 32
    unlock_learning_rate: float = 3e-4
    unlock_full_from: float = 0.25
    unlock_highest: float = 1.0
    keep_classes: float = 0.5
    places: int = 4
    steps: int = 600
    warmup: int = 50
    batch: int = 128
    class_names: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    unknown_noun: float = 0.2
    picture_names: bool = True
    validation_pictures: int = 60
    threads: int = 2
    workers: int = field(default_factory=usable_cores)

    def __post_init__(self) -> None:
        least = {
            "image_size": 32,
            "pictures": 2,
            "views": 1,
            "text_width": 1,
            "text_heads": 1,
            "text_layers": 1,
            "steps": 1,
            "warmup": 0,
            "batch": 2,
            "class_names": 2,
            "unlocked": 0,
            "unlock_steps": 1,
            "unlock_batch": 2,
            "unlock_learning_rate": 0.0,
            "unlock_full_from": 1 / 255,
            "unlock_highest": 0.0,
            "keep_classes": 0.0,
            "places": 0,
            "validation_pictures": 2,
            "threads": 0,
            "workers": 0,
            "learning_rate": 0.0,
            "weight_decay": 0.0,
            "unknown_noun": 0.0,
        }
        faults = [
            f"{name} = {getattr(self, name)}: must be at least {low}"
            for name, low in least.items()
            if not getattr(self, name) >= low
        ]
        if self.text_width % self.text_heads:
            faults.append(
                f"text_width = {self.text_width}: must be a multiple of text_heads "
                f"({self.text_heads})"
            )
        if self.unlocked > STAGES:
            faults.append(f"unlocked = {self.unlocked}: must be at most {STAGES}, all stages")
        if self.trunk not in SOURCES:
            faults.append(f"trunk = {self.trunk!r}: must be one of {', '.join(SOURCES)}")
        if self.unknown_noun > 1:
            faults.append(f"unknown_noun = {self.unknown_noun}: must be at most 1")
        if faults:
            raise ConfigError("; ".join(faults))

    def pictures_key(self) -> str:
        """A short hash of all that the pictures' early maps depend on, which names their cache."""
        relevant = ("seed", "trunk", "unlocked", "image_size", "further", "pictures", "views")
        chosen = {name: value for name, value in asdict(self).items() if name in relevant}
        return _short_hash(chosen)

    def tower_key(self) -> str:
        """A short hash of all that the tuned tower depends on."""
        chosen = {name: value for name, value in asdict(self).items() if name.startswith("unlock")}
        chosen |= {"keep_classes": self.keep_classes, "threads": self.threads}
        return _short_hash(chosen | {"pictures": self.pictures_key()})


def _short_hash(settings: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
