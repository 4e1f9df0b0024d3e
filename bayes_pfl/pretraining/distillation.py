"""A small ViT learns from pictures what an EfficientNet-Lite sees in them, and where defects are.

The teacher is ImageNet's network as it came. The student follows its pooled features, its last map
and its classes, and beside that answers the readers of ``unlocking``, as a tuned tower does.

Symbols: B views, S their side, h'*w' cells of the teacher, W its pooled width (1280).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bayes_pfl.lean_tower import lean_tower
from bayes_pfl.pretraining.class_names import mean_features
from bayes_pfl.pretraining.config import PretrainConfig
from bayes_pfl.pretraining.features import read_pooled
from bayes_pfl.pretraining.lite_weights import TRUNK, LiteWeights
from bayes_pfl.pretraining.pictures import PictureMaps, Progress
from bayes_pfl.pretraining.split_trunk import LateMaps, SplitTrunk, fill_trunk
from bayes_pfl.pretraining.student_trunk import StudentTrunk
from bayes_pfl.pretraining.tuning_state import TuningState
from bayes_pfl.pretraining.unlocking import classes_kept, tune_trunk

_VIEWS_FOR_MEAN = 512


def distil(
    trunk: StudentTrunk,
    pictures: PictureMaps,
    weights: LiteWeights,
    config: PretrainConfig,
    progress: Progress | None = None,
    state: TuningState | None = None,
) -> dict[str, float]:
    """Train ``trunk`` in place, where it lies, with the steps and rates of an unlocking.

    Args:
        state: of this tuning, which goes on from there; None to begin, and keep nothing.

    Returns:
        The mean of every loss over the last steps.
    """
    following = Following(trunk, weights, config)
    losses = tune_trunk(trunk, pictures, following, config, progress, "distillation", state)
    step = max(1, len(pictures.maps) // _VIEWS_FOR_MEAN)
    trunk.centre(read_pooled(trunk, pictures.maps[::step]).mean(0).to(trunk.device))
    return losses


class Following:
    """What the student is asked for beside its readers.

    Args:
        trunk: the student; its map to the teacher is begun here, at the teacher's mean.
        weights: the teacher's.
    """

    def __init__(self, trunk: StudentTrunk, weights: LiteWeights, config: PretrainConfig) -> None:
        self.weights, self.config = weights.to(trunk.device), config
        self.to_teacher, self.prepare = trunk.to_teacher, trunk.normalise
        self.teacher = teacher_trunk(weights, config.image_size).to(trunk.device)
        self.mean = mean_features(weights).to(trunk.device)
        with torch.no_grad():
            self.to_teacher.bias.copy_(self.mean)

    @property
    def learners(self) -> Iterable[nn.Parameter]:
        """What learns with the student, as fast as the readers."""
        return self.to_teacher.parameters()

    def losses(self, seen: LateMaps, maps: Tensor) -> dict[str, Tensor]:
        """Of what the student has ``seen`` in the pixels ``maps`` (B, 3, S, S)."""
        with torch.no_grad():
            wanted = self._taught(maps)
        pooled = self.to_teacher(seen.pooled)
        # The student's finer cells are averaged, not the teacher's spread out: it says nothing of
        # what lies within one of its own, and the wide maps are smaller.
        cells = F.adaptive_avg_pool2d(seen.last, wanted.shape[1:3]).permute(0, 2, 3, 1)
        losses = {
            "pooled": unexplained(pooled, wanted.mean((1, 2))),
            "cells alike": unlike_cells(self.to_teacher(cells), wanted, self.mean),
        }
        losses = {name: self.config.distilled * loss for name, loss in losses.items()}
        if self.config.keep_classes:
            kept = classes_kept(pooled, wanted.mean((1, 2)), self.weights)
            losses["classes"] = self.config.keep_classes * kept
        return losses

    def _taught(self, maps: Tensor) -> Tensor:
        """The teacher's last map, channels last: (B, h', w', W)."""
        images = self.prepare(maps).contiguous(memory_format=torch.channels_last)
        return self.teacher.late(self.teacher.early(images)).last.permute(0, 2, 3, 1)


def teacher_trunk(weights: LiteWeights, image_size: int) -> SplitTrunk:
    """The teacher as it came, frozen, in eval mode; its batch norms are folded away."""
    import timm

    with torch.random.fork_rng(devices=[]):  # it fills itself at random first
        trunk = timm.create_model(TRUNK, num_classes=0)
    fill_trunk(trunk, weights, TRUNK)
    lean = lean_tower(trunk.eval().requires_grad_(False), None, image_size)
    return SplitTrunk(lean, late=0)


def unexplained(found: Tensor, wanted: Tensor) -> Tensor:
    """Squared error as a share of the variance over the batch; 1 for guessing the mean.

    Args:
        found, wanted: pooled features (B, W).
    """
    spread = (wanted - wanted.mean(0)).square().mean()
    return (found - wanted).square().mean() / spread.clamp(min=1e-6)


def unlike_cells(found: Tensor, wanted: Tensor, mean: Tensor) -> Tensor:
    """One minus the cosine of cells, both from ``mean`` (W).

    Rectified features all point to one side: without the mean unlike cells would look alike.

    Args:
        found, wanted: (B, h', w', W).
    """
    return 1 - F.cosine_similarity(found - mean, wanted - mean, dim=-1).mean()
