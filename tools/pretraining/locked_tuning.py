"""Locked-image tuning (Zhai et al. 2022): a text tower learns to read a frozen image tower."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pretraining.architecture import embed_texts, projection
from pretraining.balance import balanced_chances
from pretraining.captions import CaptionWriter, PictureFacts, agreement
from pretraining.class_names import ImageNetNames
from pretraining.config import PretrainConfig
from pretraining.features import FeatureSet
from pretraining.lite_weights import LiteWeights
from pretraining.objective import (
    distilled_names,
    named_classes,
    soft_contrastive,
    state_pairs,
)
from pretraining.pictures import OnProgress
from pretraining.schedule import LOG_EVERY, LossHistory, cosine

_log = logging.getLogger(__name__)
_LARGEST_SCALE = math.log(100.0)
_NAMED_PAIRS, _UNKNOWN_PAIRS = 16, 4  # of opposite sentences in a step, by their noun


@dataclass(frozen=True)
class TuningData:
    """What the text tower is tuned on: views of pictures, and class features with their names.

    ``weights`` give the classes of pooled features: (N, 1280) -> logits (N, 1000). All lies on one
    device, that of the model.
    """

    pictures: FeatureSet
    classes: Tensor
    names: ImageNetNames
    weights: LiteWeights

    def to(self, device: torch.device) -> TuningData:
        """The same on ``device``."""
        pictures, classes = self.pictures.to(device), self.classes.to(device)
        return TuningData(pictures, classes, self.names, self.weights.to(device))


def common_words(tokenizer: Any, shortest: int = 4) -> tuple[str, ...]:
    """Whole words of the tokenizer's vocabulary, of plain letters."""
    ends = (word[: -len("</w>")] for word in tokenizer.decoder.values() if word.endswith("</w>"))
    return tuple(w for w in ends if len(w) >= shortest and w.isascii() and w.isalpha())


def start_projection(clip: Any, data: TuningData) -> None:
    """Begin with the principal directions of pictures and class features, around their mean."""
    layer = projection(clip)
    groups = (data.pictures.features, data.classes)
    centred = [group - group.mean(0) for group in groups]
    covariance = sum(c.T.double() @ c.double() / len(c) for c in centred)
    directions = torch.linalg.eigh(covariance).eigenvectors[:, -layer.out_features :].T.float()
    # Typical outputs of length 1: normalisation then neither stretches nor shrinks gradients.
    length = torch.cat([c @ directions.T for c in centred]).norm(dim=1).mean()
    with torch.no_grad():
        layer.weight.copy_(directions / length)
        layer.bias.copy_(-(layer.weight @ data.classes.mean(0)))


def tune(
    clip: Any,
    tokenizer: Any,
    data: TuningData,
    config: PretrainConfig,
    progress: OnProgress | None = None,
) -> dict[str, float]:
    """Train text tower, projection and temperature in place.

    Returns:
        The mean of every loss over the last steps.
    """
    rng = np.random.default_rng((config.seed, 1))
    batches = _Batches(clip, tokenizer, data, config)
    start_projection(clip, data)
    trained = [p for p in clip.parameters() if p.requires_grad]
    optimizer = _optimizer(clip, config)
    schedule = cosine(optimizer, config.warmup, config.steps)
    history = LossHistory()
    for step in range(config.steps):
        losses = batches.losses(rng)
        optimizer.zero_grad(set_to_none=True)
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            clip.logit_scale.clamp_(0, _LARGEST_SCALE)
        history.add(losses)
        if progress:
            progress("steps", step + 1, config.steps)
        if (step + 1) % LOG_EVERY == 0:
            _log.info("step %d: %s", step + 1, history.recent())
    return history.recent()


class _Batches:
    """Draws batches and gives their losses."""

    def __init__(self, clip: Any, tokenizer: Any, data: TuningData, config: PretrainConfig) -> None:
        self.clip, self.tokenizer, self.data, self.config = clip, tokenizer, data, config
        self.writer = CaptionWriter(common_words(tokenizer), config.unknown_noun)
        self.chances = balanced_chances(data.pictures.subjects)

    def losses(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """The losses of a new batch."""
        chosen = rng.choice(len(self.chances), self.config.batch, p=self.chances)
        pictures, rows = self.data.pictures, torch.from_numpy(chosen)
        subjects = [pictures.subjects[i] for i in chosen]
        features = pictures.features[rows]
        images = self._project(features)
        return {
            "captions": self._captions(images, subjects, rng),
            **self._states(images, subjects, rows, rng),
            **self._names(images, self.data.weights.classify(features), rng),
        }

    def _captions(
        self, images: Tensor, subjects: list[PictureFacts], rng: np.random.Generator
    ) -> Tensor:
        captions = list(dict.fromkeys(self.writer.write(subject, rng) for subject in subjects))
        texts = self._read([caption.text for caption in captions])
        true = agreement(subjects, captions).to(images.device)
        return soft_contrastive(images, texts, true, self._scale)

    def _states(
        self, images: Tensor, subjects: list[PictureFacts], rows: Tensor, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        """Of views, and of single places in them."""
        seen = list(dict.fromkeys(subject.class_name for subject in subjects))
        nouns = [*rng.permutation(seen)[:_NAMED_PAIRS].tolist(), *[None] * _UNKNOWN_PAIRS]
        texts = self._read([text for noun in nouns for text in self.writer.pair(noun, rng)])
        pair = (texts[::2], texts[1::2])
        applies = torch.tensor(
            [[noun is None or noun == s.class_name for noun in nouns] for s in subjects]
        ).to(images.device)
        labels = torch.tensor([s.defective for s in subjects]).to(images.device)
        losses = {"states": state_pairs(images, *pair, applies, labels, self._scale)}
        places = self.data.pictures.places[rows].float()
        if places.shape[1]:
            spoiled = self.data.pictures.spoiled[rows].flatten()
            of_view = applies.repeat_interleave(places.shape[1], 0)
            cells = self._project(places.flatten(0, 1))
            losses["places"] = state_pairs(cells, *pair, of_view, spoiled, self._scale)
        return losses

    def _names(self, images: Tensor, logits: Tensor, rng: np.random.Generator) -> dict[str, Tensor]:
        classes, names = self.data.classes, self.data.names
        chosen = rng.choice(len(classes), min(self.config.class_names, len(classes)), False)
        if self.config.picture_names:  # half of them such as the pictures might be called
            likely = rng.permutation(logits.topk(3).indices.flatten().unique().cpu().numpy())
            chosen = np.unique(np.concatenate([chosen, likely])[len(chosen) // 2 :][: len(chosen)])
        labels = torch.from_numpy(chosen).to(images.device)
        texts = self._read([names.write(int(index), rng) for index in chosen])
        losses = {"names": named_classes(self._project(classes), texts, labels, self._scale)}
        if self.config.picture_names:
            losses["picture names"] = distilled_names(images, texts, logits[:, labels], self._scale)
        return losses

    @property
    def _scale(self) -> Tensor:
        return self.clip.logit_scale.exp()

    def _project(self, features: Tensor) -> Tensor:
        return F.normalize(projection(self.clip)(features), dim=-1)

    def _read(self, texts: Sequence[str]) -> Tensor:
        tokens = self.tokenizer(list(texts)).to(self.clip.logit_scale.device)
        return F.normalize(embed_texts(self.clip, tokens), dim=-1)


def _optimizer(clip: Any, config: PretrainConfig) -> torch.optim.Optimizer:
    trained = [p for p in clip.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=True)
