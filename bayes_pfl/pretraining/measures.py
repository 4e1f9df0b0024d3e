"""What the small CLIP can do from text alone: the figures of its model card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bayes_pfl.metrics import image_metrics
from bayes_pfl.pretraining.architecture import embed_texts, projection
from bayes_pfl.pretraining.class_names import ClassNames
from bayes_pfl.pretraining.pictures import FeatureSet

_FRAMES = ("{}", "a photo of a {}", "a close-up of the {}")
_STATES = (
    ("normal {}", "abnormal {}"), ("flawless {}", "damaged {}"), ("perfect {}", "defective {}"),
    ("{} without defect", "{} with a defect"), ("{} without damage", "{} with damage"),
)  # fmt: skip


@dataclass(frozen=True)
class Measures:
    """Figures in [0, 1].

    Attributes:
        names_top1, names_top5: of the 1000 ImageNet names, how many find their own class among
            1000 class features. The names were trained on: this is fit, not generalisation.
        categories_top1: views of held-out categories that find their own category among those.
        categories_chance: the same by guessing.
        state_auroc: normal against defective pictures of each held-out category, by text alone.
        state_auroc_mean: their mean.
        state_auroc_unnamed: the same mean with "object" in place of the category's name.
    """

    names_top1: float
    names_top5: float
    categories_top1: float
    categories_chance: float
    state_auroc: dict[str, float]
    state_auroc_mean: float
    state_auroc_unnamed: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@torch.inference_mode()
def measure(
    clip: Any, tokenizer: Any, held_out: FeatureSet, classes: Tensor, names: ClassNames
) -> Measures:
    """Measure a pretrained model.

    Args:
        held_out: pictures of categories that the model was not trained on.
        classes: class features, (1000, 1280).
    """
    project = projection(clip)
    texts = torch.cat([_read(clip, tokenizer, part) for part in _parts(names.first(), 100)])
    top = (texts @ F.normalize(project(classes), dim=-1).T).topk(5).indices
    hits = top == torch.arange(len(texts))[:, None]
    images = F.normalize(project(held_out.features), dim=-1)
    things = list(dict.fromkeys(s.class_name for s in held_out.subjects))
    by_name = _prototypes(clip, tokenizer, things)
    own = torch.tensor([things.index(s.class_name) for s in held_out.subjects])
    labels = np.array([s.defective for s in held_out.subjects])
    auroc, unnamed = {}, []
    for number, thing in enumerate(things):
        rows = own == number
        auroc[thing] = _state_auroc(clip, tokenizer, images[rows], labels[rows.numpy()], thing)
        unnamed.append(_state_auroc(clip, tokenizer, images[rows], labels[rows.numpy()], "object"))
    return Measures(
        names_top1=hits[:, 0].float().mean().item(),
        names_top5=hits.any(1).float().mean().item(),
        categories_top1=((images @ by_name.T).argmax(1) == own).float().mean().item(),
        categories_chance=1 / len(things),
        state_auroc=auroc,
        state_auroc_mean=float(np.mean(list(auroc.values()))),
        state_auroc_unnamed=float(np.mean(unnamed)),
    )


def _read(clip: Any, tokenizer: Any, texts: Sequence[str]) -> Tensor:
    return F.normalize(embed_texts(clip, tokenizer(list(texts))), dim=-1)


def _prototypes(clip: Any, tokenizer: Any, things: Sequence[str]) -> Tensor:
    """The mean embedding of each thing over a few sentences, (n, D)."""
    rows = [_read(clip, tokenizer, [f.format(thing) for f in _FRAMES]).mean(0) for thing in things]
    return F.normalize(torch.stack(rows), dim=-1)


def _state_auroc(
    clip: Any, tokenizer: Any, images: Tensor, labels: np.ndarray, thing: str
) -> float:
    texts = [
        frame.format(form.format(thing))
        for frame in _FRAMES for pair in _STATES for form in pair
    ]  # fmt: skip
    normal, defective = _read(clip, tokenizer, texts).view(-1, 2, images.shape[1]).unbind(1)
    scores = (images @ (defective - normal).T).mean(1)
    return float(image_metrics(scores.numpy(), labels)["auroc"])


def _parts(texts: Sequence[str], size: int) -> list[Sequence[str]]:
    return [texts[start : start + size] for start in range(0, len(texts), size)]
