"""Tunes the late blocks of the image trunk on masks, before a text tower learns to read them.

ImageNet's features separate kinds of objects better than their states. Linear readers, which are
discarded afterwards, predict the state: from the tapped layers the mask, as a head will read it,
and from the pooled features normal or defective. Distillation of the original tower keeps the
classifier's output on the pictures, and with it the meaning of ImageNet's names.

Symbols: B views, N cells, V joined width.
"""

from __future__ import annotations

import copy
import logging

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bayes_pfl.clip.joined_layers import join_layers
from pretraining.balance import balanced_chances
from pretraining.config import PretrainConfig
from pretraining.lite_weights import LiteWeights
from pretraining.pictures import MASK_SIDE, OnProgress, PictureMaps
from pretraining.schedule import LOG_EVERY, LossHistory, cosine
from pretraining.split_trunk import LateMaps, SplitTrunk
from pretraining.tuning_state import Draws, Stateful, TuningState

_log = logging.getLogger(__name__)
_READER_RATE = 10  # the readers start from zero, so they learn faster than the trunk
_HIGHEST = 3  # cells
_WARMUP = 0.1  # of the steps


class Readers(nn.Module):
    """Linear maps of standardised features: of every cell, and of the pooled features."""

    def __init__(self, joined: int, pooled: int) -> None:
        super().__init__()
        self.cells = nn.Sequential(nn.BatchNorm1d(joined, affine=False), nn.Linear(joined, 1))
        self.views = nn.Sequential(nn.BatchNorm1d(pooled, affine=False), nn.Linear(pooled, 1))
        for reader in (self.cells, self.views):
            nn.init.zeros_(reader[1].weight)
            nn.init.zeros_(reader[1].bias)

    def forward(self, seen: LateMaps) -> tuple[Tensor, Tensor]:
        """Logits of "defective": of cells (B, N) and of views (B,)."""
        tokens = join_layers(seen.taps, (MASK_SIDE, MASK_SIDE))
        cells = self.cells(tokens.flatten(0, 1)).view(tokens.shape[:2])
        return cells, self.views(seen.pooled)[:, 0]


def unlock(
    trunk: SplitTrunk,
    pictures: PictureMaps,
    weights: LiteWeights,
    config: PretrainConfig,
    progress: OnProgress | None = None,
    state: TuningState | None = None,
) -> dict[str, float]:
    """Tune the late part of ``trunk`` in place, on its device; batch norms keep their statistics.

    Args:
        state: where the state of this tuning is kept and resumed from; None keeps nothing.

    Returns:
        The mean of every loss over the last steps.
    """
    rng = np.random.default_rng((config.seed, 2))
    chances = balanced_chances(pictures.subjects)
    teacher, weights = copy.deepcopy(trunk), weights.to(trunk.device)
    readers = _readers(trunk, pictures).to(trunk.device)
    tuned = [p.requires_grad_() for p in trunk.late_parameters()]
    optimizer = _optimizer(tuned, readers, config)
    warmup = round(_WARMUP * config.unlock_steps)
    schedule = cosine(optimizer, warmup, config.unlock_steps)
    history, state = LossHistory(), state or TuningState()
    parts: dict[str, Stateful] = {
        "trunk": trunk,
        "readers": readers,
        "optimizer": optimizer,
        "schedule": schedule,
        "history": history,
        "draws": Draws(rng),
    }
    for step in range(state.restore(parts), config.unlock_steps):
        chosen = torch.from_numpy(rng.choice(len(chances), config.unlock_batch, p=chances))
        maps, masks = (x.to(trunk.device) for x in _batch(pictures, chosen, rng))
        labels = torch.tensor([pictures.subjects[i].defective for i in chosen.tolist()])
        labels = labels.float().to(trunk.device)
        seen = trunk.late(maps)
        losses = reading_losses(
            *readers(seen), masks, labels, config.unlock_full_from, config.unlock_highest
        )
        if config.keep_classes:
            with torch.no_grad():
                wanted = teacher.late(maps).pooled
            losses["classes"] = config.keep_classes * classes_kept(seen.pooled, wanted, weights)
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        nn.utils.clip_grad_norm_(tuned, 1.0)
        optimizer.step()
        schedule.step()
        history.add(losses)
        state.keep(step + 1, parts)
        if progress:
            progress("unlocking", step + 1, config.unlock_steps)
        if (step + 1) % LOG_EVERY == 0:
            _log.info("unlocking, step %d: %s", step + 1, history.recent())
    for parameter in tuned:
        parameter.requires_grad_(False)
    return history.recent()


def reading_losses(
    cells: Tensor,
    views: Tensor,
    masks: Tensor,
    labels: Tensor,
    full_from: float = 1.0,
    highest_weight: float = 0.5,
) -> dict[str, Tensor]:
    """Losses of the readers.

    Args:
        cells: logits (B, N). views: logits (B,).
        masks: defective shares (B, N), in [0, 1]. labels: (B,) in {0, 1}.
        full_from: defective share, above 0, from which the target of a cell is 1.
        highest_weight: of the loss of the highest cells.
    """
    wanted = (masks / full_from).clamp(max=1)
    found, broken = cells.sigmoid(), 1 + 4 * wanted
    overlap = (2 * (found * wanted).sum() + 1) / (found.sum() + wanted.sum() + 1)
    highest = cells.topk(min(_HIGHEST, cells.shape[1]), dim=1).values.mean(1)
    return {
        "cells": 4 * F.binary_cross_entropy_with_logits(cells, wanted, weight=broken),
        "overlap": 1 - overlap,
        "views": F.binary_cross_entropy_with_logits(views, labels),
        "highest": highest_weight * F.binary_cross_entropy_with_logits(highest, labels),
    }


def classes_kept(found: Tensor, wanted: Tensor, weights: LiteWeights) -> Tensor:
    """Kullback-Leibler divergence from the classifier's output on the features ``wanted``."""
    answers = [weights.classify(x).log_softmax(1) for x in (found, wanted)]
    return F.kl_div(*answers, log_target=True, reduction="batchmean")


def _readers(trunk: SplitTrunk, pictures: PictureMaps) -> Readers:
    with torch.no_grad():
        seen = trunk.late(pictures.maps[:1].float().to(trunk.device))
    joined = join_layers(seen.taps, (MASK_SIDE, MASK_SIDE)).shape[-1]
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn, though replaced by zeros
        return Readers(joined, seen.pooled.shape[-1])


def _batch(
    pictures: PictureMaps, chosen: Tensor, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Maps (B, C, h, w), channels last, and shares (B, N); half of the views mirrored."""
    maps, masks = pictures.maps[chosen].float(), pictures.masks[chosen].float() / 255
    turn = torch.from_numpy(rng.random(len(chosen)) < 0.5)
    maps = torch.where(turn[:, None, None, None], maps.flip(-1), maps)
    masks = torch.where(turn[:, None, None], masks.flip(-1), masks)
    return maps.contiguous(memory_format=torch.channels_last), masks.flatten(1)


def _optimizer(
    tuned: list[nn.Parameter], readers: Readers, config: PretrainConfig
) -> torch.optim.Optimizer:
    rate, decay = config.unlock_learning_rate, config.weight_decay
    groups = [
        {"params": [p for p in tuned if p.ndim >= 2], "lr": rate, "weight_decay": decay},
        {"params": [p for p in tuned if p.ndim < 2], "lr": rate, "weight_decay": 0.0},
        {"params": list(readers.parameters()), "lr": _READER_RATE * rate, "weight_decay": 0.01},
    ]
    return torch.optim.AdamW(groups, fused=True)
