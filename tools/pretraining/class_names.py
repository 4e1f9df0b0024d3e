"""The 1000 names of ImageNet, and features that stand for them without a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pretraining.lite_weights import LiteWeights

_TEMPLATES = (
    "{}",
    "a {}",
    "a photo of a {}",
    "a photo of {}",
    "a picture of the {}",
    "a close-up of a {}",
)
_LONGEST_DEFINITION = 90  # characters; longer ones cost more time than they teach


@dataclass(frozen=True)
class ImageNetNames:
    """``names[c]`` are the synonyms of class c, ``definitions[c]`` WordNet's sentence about it."""

    names: tuple[tuple[str, ...], ...]
    definitions: tuple[str, ...]

    def write(self, index: int, rng: np.random.Generator) -> str:
        """A caption of class ``index``: a synonym in a template, or now and then the definition."""
        definition = self.definitions[index]
        if rng.random() < 0.15 and len(definition) <= _LONGEST_DEFINITION:
            return definition
        names = self.names[index]
        # The first name is the usual one.
        name = names[0] if rng.random() < 0.6 else names[int(rng.integers(len(names)))]
        return _TEMPLATES[int(rng.integers(len(_TEMPLATES)))].format(name)

    def first(self, template: str = "a photo of a {}") -> list[str]:
        """One caption of every class, its first name in ``template``."""
        return [template.format(names[0]) for names in self.names]


def imagenet_names() -> ImageNetNames:
    """Names and definitions as timm brings them (WordNet)."""
    from timm.data import ImageNetInfo

    plain = ImageNetInfo()
    names, definitions = [], []
    for index in range(plain.num_classes()):
        description = plain.index_to_description(index)
        names.append(tuple(name.strip() for name in description.split(",")))
        detailed = plain.index_to_description(index, detailed=True)
        definitions.append(detailed.removeprefix(description).lstrip(": "))
    return ImageNetNames(tuple(names), tuple(definitions))


def pseudo_features(weights: LiteWeights, spread: float) -> Tensor:
    """Pooled features that stand for the classes, (1000, 1280).

    A classifier's row points from the average picture to those of its class. The average is known
    without pictures: the last batch norm is followed by ReLU6, so its shift and scale give the mean
    of every channel over the images that the network was trained on.

    Args:
        weights: trunk and classifier.
        spread: how far from the average, as the norm that rows are scaled to on average.
    """
    vectors = weights.class_vectors - weights.class_vectors.mean(dim=0)
    mean = rectified_mean(weights.trunk["bn2.bias"], weights.trunk["bn2.weight"].abs())
    return mean + vectors * (spread / vectors.norm(dim=1).mean())


def rectified_mean(mean: Tensor, std: Tensor) -> Tensor:
    """Expectation of min(max(x, 0), 6) for x normal with ``mean`` and ``std``, any shape."""

    def above(threshold: float) -> Tensor:
        # E[max(x - threshold, 0)] = s (phi(d) + d Phi(d)), d = (mean - threshold) / s
        d = (mean - threshold) / std.clamp(min=1e-6)
        density = torch.exp(-0.5 * d**2) / math.sqrt(2 * math.pi)
        return std * density + (mean - threshold) * torch.special.ndtr(d)

    return above(0.0) - above(6.0)
