"""The teacher's classifier and class features, carried over to the width of its student.

Symbols: N views, V width of the student, W pooled width of the teacher.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from bayes_pfl.pretraining.class_names import spread_around
from bayes_pfl.pretraining.features import FeatureSet
from bayes_pfl.pretraining.lite_weights import LiteWeights


def carried_weights(to_teacher: nn.Linear, weights: LiteWeights) -> LiteWeights:
    """The teacher's classifier after the map, two linear maps as one: it reads V features.

    Nothing wider than the student is left, so that nothing has to be stored or folded later.
    """
    mapped, offset = to_teacher.weight.detach().cpu(), to_teacher.bias.detach().cpu()
    vectors, biases = weights.class_vectors @ mapped, weights.classify(offset)
    return replace(weights, class_vectors=vectors, class_biases=biases)


def carried_classes(to_teacher: nn.Linear, pictures: FeatureSet, classes: Tensor) -> Tensor:
    """Class features (1000, W) -> what the student would see of such classes, (1000, V).

    Around the mean of the pictures, and as widely spread as they are: what ImageNet's classes have
    in common against rendered pictures tells none of them from another.
    """
    features = pictures.features
    vectors = pulled_back(to_teacher, features, classes - classes.mean(0))
    return spread_around(features.mean(0), vectors, pictures.spread)


def pulled_back(to_teacher: nn.Linear, features: Tensor, vectors: Tensor) -> Tensor:
    """The likeliest deviations of the student (n, V) where the teacher's are ``vectors`` (n, W).

    The map is narrow and has directions that the teacher hardly needs, such as those of defects: a
    plain inverse would blow them up. So deviations are taken to vary as ``features`` (N, V) do, and
    the map to err as much as it tells on average: the posterior mean of a linear Gaussian model.
    """
    values, vectors_of = torch.linalg.eigh(torch.cov(features.T))
    root = vectors_of * values.clamp(min=0).sqrt()
    told = to_teacher.weight.detach().cpu() @ root
    gram = told.T @ told
    noise = gram.diagonal().mean().clamp(min=1e-12) * torch.eye(len(gram))
    return torch.linalg.solve(gram + noise, told.T @ vectors.T).T @ root.T
