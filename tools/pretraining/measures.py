"""What the small CLIP can do from text alone: the figures of its model card."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bayes_pfl.metrics import image_metrics
from pretraining.architecture import embed_texts, projection
from pretraining.features import FeatureSet
from pretraining.locked_tuning import TuningData

_FRAMES = ("{}", "a photo of a {}", "a close-up of the {}")
_STATES = (
    ("normal {}", "abnormal {}"),
    ("flawless {}", "damaged {}"),
    ("perfect {}", "defective {}"),
    ("{} without defect", "{} with a defect"),
    ("{} without damage", "{} with damage"),
)


@dataclass(frozen=True)
class Measures:
    """Figures in [0, 1].

    Attributes:
        names_top1, names_top5: of the 1000 ImageNet names, how many find their own class among
            1000 class features. The names were trained on: this is fit, not generalisation.
        known: new pictures of the categories that were trained on.
        held_out: pictures of other categories.
    """

    names_top1: float
    names_top5: float
    known: PictureMeasures
    held_out: PictureMeasures

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class PictureMeasures:
    """Figures of one set of pictures.

    Attributes:
        top1: how many find their own category among those of the set; ``chance`` by guessing.
        states: AUROC of normal against defective, by category.
        state_mean: their mean.
        state_unnamed: the same mean with "object" in place of the category's name.
        names_top1, names_top5: how many have, among the 1000 ImageNet names, the one nearest (or
            among the five nearest) that the image tower's own classifier gives them.
    """

    top1: float
    chance: float
    states: dict[str, float]
    state_mean: float
    state_unnamed: float
    names_top1: float
    names_top5: float


@torch.inference_mode()
def measure(
    clip: Any,
    tokenizer: Any,
    known: FeatureSet,
    held_out: FeatureSet,
    data: TuningData,
) -> Measures:
    """Measure a pretrained model.

    Args:
        known, held_out: pictures of the categories of training, and of others.
        data: class features with their names, and the classifier.
    """
    texts = torch.cat([_read(clip, tokenizer, part) for part in _parts(data.names.first(), 100)])
    classes = F.normalize(projection(clip)(data.classes), dim=-1)
    return Measures(
        *_top1_top5(texts @ classes.T, torch.arange(len(texts))),
        _measure_pictures(clip, tokenizer, known, texts, data.weights.classify),
        _measure_pictures(clip, tokenizer, held_out, texts, data.weights.classify),
    )


def _measure_pictures(
    clip: Any,
    tokenizer: Any,
    pictures: FeatureSet,
    names: Tensor,
    classifier: Callable[[Tensor], Tensor],
) -> PictureMeasures:
    images = F.normalize(projection(clip)(pictures.features), dim=-1)
    things = list(dict.fromkeys(s.class_name for s in pictures.subjects))
    own = torch.tensor([things.index(s.class_name) for s in pictures.subjects])
    found = (images @ _prototypes(clip, tokenizer, things).T).argmax(1)
    labels = np.array([s.defective for s in pictures.subjects])
    states, unnamed = {}, []
    for number, thing in enumerate(things):
        rows = own == number
        mine = (images[rows], labels[rows.numpy()])
        states[thing] = _state_auroc(clip, tokenizer, *mine, thing)
        unnamed.append(_state_auroc(clip, tokenizer, *mine, "object"))
    return PictureMeasures(
        (found == own).float().mean().item(),
        1 / len(things),
        states,
        _mean(states.values()),
        _mean(unnamed),
        *_top1_top5(images @ names.T, classifier(pictures.features).argmax(1)),
    )


def _top1_top5(scores: Tensor, labels: Tensor) -> tuple[float, float]:
    """Share of rows whose label has the highest score, or one of the five highest."""
    hits = scores.topk(5).indices == labels[:, None]
    return hits[:, 0].float().mean().item(), hits.any(1).float().mean().item()


def _mean(values: Iterable[float]) -> float:
    """The mean of those that are defined; NaN if none is."""
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan


def _read(clip: Any, tokenizer: Any, texts: Sequence[str]) -> Tensor:
    return F.normalize(embed_texts(clip, tokenizer(list(texts))), dim=-1)


def _prototypes(clip: Any, tokenizer: Any, things: Sequence[str]) -> Tensor:
    """The mean embedding of each thing over a few sentences, (n, D)."""
    rows = [_read(clip, tokenizer, [f.format(thing) for f in _FRAMES]).mean(0) for thing in things]
    return F.normalize(torch.stack(rows), dim=-1)


def _state_auroc(
    clip: Any, tokenizer: Any, images: Tensor, labels: np.ndarray, thing: str
) -> float:
    forms = [form.format(thing) for pair in _STATES for form in pair]
    texts = [frame.format(form) for frame in _FRAMES for form in forms]
    normal, defective = _read(clip, tokenizer, texts).view(-1, 2, images.shape[1]).unbind(1)
    scores = (images @ (defective - normal).T).mean(1)
    return float(image_metrics(scores.numpy(), labels)["auroc"])


def _parts(texts: Sequence[str], size: int) -> list[Sequence[str]]:
    return [texts[start : start + size] for start in range(0, len(texts), size)]
