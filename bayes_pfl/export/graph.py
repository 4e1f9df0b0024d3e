"""The detector as one module from pixels to scores: what is exported.

All that a class name and a profile fix is a constant of it: the draws of the run, the tokens of the
name, the kept patches and the scale. With the mean prompt the text is a constant too; sampled
prompts are shifted by draws that depend on the image, so that the text tower stays.

Symbols: B views, S image side, K prompt pairs, N cells of a view, D joint width.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bayes_pfl.clip.frozen_clip import FrozenCLIP, ImageFeatures
from bayes_pfl.clip.text_tower import PromptTokens
from bayes_pfl.data.transforms import normalise
from bayes_pfl.data.wording import synonyms
from bayes_pfl.detect.references import (
    References,
    cells_inside,
    combine_scores,
    distance_maps,
)
from bayes_pfl.detect.scorer import run_draws, smoothing_sigma
from bayes_pfl.detect.settings import ScoringSettings
from bayes_pfl.export.memory import KnownPatches
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.model.sampling import RunSamples
from bayes_pfl.model.scoring import BatchScores, deploy_scores, smoothed

BY_WORDS = ("score", "uncertainty", "low", "high", "text_score", "map_score", "map", "spread")
"""Outputs of every graph: (B,) each, the last two (B, S, S)."""

BY_MEMORY = (
    *("words_score", "memory_score", "words_deviation", "memory_deviation", "pair_deviations"),
    *("cell", "patch", "distance"),
)
"""Further outputs of a graph with a memory: (B,) each, ``pair_deviations`` (B, K). The last three
are the most anomalous cell, the kept patch nearest to it, and their distance."""


class ImageTower(nn.Module):
    """Pixels uint8 (B, S, S, 3) to features; the nodes of a graph name it."""

    def __init__(self, backbone: FrozenCLIP) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, pixels: Tensor) -> ImageFeatures:
        """Features of B views."""
        images = normalise(pixels.permute(0, 3, 1, 2), self.backbone.mean, self.backbone.std)
        return self.backbone.encode_image(images)


class Prompts(nn.Module):
    """Text embeddings (B, 2, K, D) of one class name, with the draws of one run."""

    constant: Tensor | None

    def __init__(self, model: BayesPFLNetwork, class_name: str, samples: RunSamples) -> None:
        super().__init__()
        self.model, self.samples = model, samples
        self.names = [_Name(model, name) for name in synonyms(class_name)]
        constant = samples.texts is not None or not model.config.ablation.specific
        nothing = torch.zeros(1, model.backbone.embed_dim)
        text = model.prompt_embeddings(nothing, samples, [class_name]) if constant else None
        self.register_buffer("constant", text)

    def forward(self, pooled: Tensor) -> Tensor:
        """Global image embeddings (B, D) -> text embeddings (B, 2, K, D)."""
        batch = pooled.shape[0]
        if self.constant is not None:
            return self.constant.expand(batch, -1, -1, -1)
        specific = self.model.specific_sample(pooled, self.samples)
        vectors = self.model.prompt_vectors(specific, self.samples)
        texts = [name(vectors) for name in self.names]  # (B, 2, K, D) each
        if len(texts) == 1:
            return texts[0]
        return F.normalize(torch.stack(texts).mean(0), dim=-1)


class _Name(nn.Module):
    """Prompt vectors (B, 2*K, P + Q, T) with one class name -> embeddings (B, 2, K, D).

    Of the tower's table of tokens only those of the name are kept.
    """

    def __init__(self, model: BayesPFLNetwork, name: str) -> None:
        super().__init__()
        config, tower = model.config.prompts, model.backbone.text
        ids = tower.tokenize([name], config.context_tokens + config.state_tokens)
        known = torch.cat([ids.prefix[0], ids.suffix[0]]).unique()
        self.prefix, self.suffix = (torch.searchsorted(known, x) for x in (ids.prefix, ids.suffix))
        self.read_at, self.shared = ids.read_at, config.context_tokens
        self.tower = copy.copy(tower)
        self.tower._modules = dict(tower._modules)
        rows = tower.token_embedding.weight.detach()[known]
        self.tower.token_embedding = nn.Embedding.from_pretrained(rows)

    def forward(self, vectors: Tensor) -> Tensor:
        batch = vectors.shape[0]
        prefix, suffix = (x.expand(batch, -1) for x in (self.prefix, self.suffix))
        names = PromptTokens(prefix, suffix, self.read_at.expand(batch))
        text = self.tower(vectors, names, self.shared)
        return F.normalize(text, dim=-1).unflatten(1, (2, -1))


class DetectorGraph(nn.Module):
    """Pixels uint8 (B, S, S, 3) to the outputs :data:`BY_WORDS`, with references also
    :data:`BY_MEMORY`.

    Args:
        model: on the CPU, in float32.
        settings: with samples, seed and smoothing; with a region of interest the graph also takes
            the pixels that count.
        references: of the class name's profile; None for words alone.
    """

    def __init__(
        self,
        model: BayesPFLNetwork,
        class_name: str,
        settings: ScoringSettings,
        references: References | None = None,
    ) -> None:
        super().__init__()
        self.model, self.sigma = model, smoothing_sigma(model) if settings.smoothing else 0.0
        self.image_tower = ImageTower(model.backbone)
        self.prompts = Prompts(model, class_name, run_draws(model, settings))
        self.known = KnownPatches(references) if references else None
        self.tiled = references is not None and references.tiles is not None
        self.masked = settings.interest is not None

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what :meth:`forward` returns."""
        return BY_WORDS + (BY_MEMORY if self.known else ())

    def example(self, views: int) -> dict[str, Tensor]:
        """Inputs of :meth:`forward` by name, for some views."""
        side = self.model.backbone.image_size
        inputs = {"pixels": torch.zeros(views, side, side, 3, dtype=torch.uint8)}
        if self.known:
            inputs["twin"] = torch.full((views,), -1)
        if self.tiled:
            inputs["tile"] = torch.zeros((), dtype=torch.int64)
        if self.masked:
            inputs["inside"] = torch.ones(views, side, side, dtype=torch.bool)
        return inputs

    @torch.no_grad()
    def forward(
        self,
        pixels: Tensor,
        twin: Tensor | None = None,
        tile: Tensor | None = None,
        inside: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Score B views.

        Args:
            twin, tile: for a graph with references, see :class:`KnownPatches`; without tiles there
                is no ``tile``.
            inside: bool (B, S, S), the pixels that count, for a graph with a region of interest.
        """
        features = self.image_tower(pixels)
        words = self.model.score_features(features, self.prompts(features.pooled), None, inside)
        maps = smoothed(words.map, self.sigma, inside)
        by_words = deploy_scores(words)
        if self.known is None or twin is None:
            numbers = (by_words.score, by_words.uncertainty, by_words.low, by_words.high)
            return (*numbers, words.text_score, by_words.map_score, maps, words.map_spread)
        kind = torch.zeros((), dtype=torch.int64) if tile is None else tile
        return self._with_references(features, words, maps, by_words.map_score, twin, kind, inside)

    def _with_references(
        self,
        features: ImageFeatures,
        words: BatchScores,
        maps: Tensor,
        map_score: Tensor,
        twin: Tensor,
        kind: Tensor,
        inside: Tensor | None,
    ) -> tuple[Tensor, ...]:
        assert self.known is not None
        grid, layers = self.known.grid, self.model.backbone.layers
        counted = None if inside is None else cells_inside(inside, grid)
        distance, nearest, memory = self.known(features.stages, layers, twin, kind, counted)
        far = distance_maps(distance, grid, maps.shape[-1], self.sigma, inside)
        both = combine_scores(self.known.scale(kind), words, maps, memory, far, inside)
        cell = F.adaptive_max_pool2d(both.map[:, None], grid).flatten(1).argmax(1)
        at = cell[:, None]
        return (
            *both.deviations.scores(),
            *(words.text_score, map_score, both.map, both.spread),
            *(both.words_score, memory),
            *both.deviations,
            *(cell, nearest.gather(1, at)[:, 0], distance.gather(1, at)[:, 0]),
        )
