"""Bayes-PFL: the paper's blocks joined into one model.

Symbols: B images, S image side, N patches, M prompt pairs of P + Q learnt vectors, R samples,
K = R*M, D joint width, T text width.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bayes_pfl.clip.frozen_clip import FrozenCLIP, ImageFeatures
from bayes_pfl.config import ModelConfig
from bayes_pfl.data.transforms import InferenceTransform
from bayes_pfl.data.wording import synonyms
from bayes_pfl.errors import ConfigError
from bayes_pfl.model.cross_attention import ResidualCrossModalAttention
from bayes_pfl.model.flows import FlowSample
from bayes_pfl.model.image_alignment import ImageAlignment
from bayes_pfl.model.maps import highest_pixels, mean_and_spread, pair_logits, pairs_at
from bayes_pfl.model.prompt_distributions import ImageAgnosticFlow, ImageSpecificFlow, Shift
from bayes_pfl.model.prompts import PromptBank
from bayes_pfl.model.sampling import PromptNoise, RunSamples, TextCache
from bayes_pfl.model.scoring import DEPLOY_FRACTION, BatchScores, deploy_score

INITIAL_TEMPERATURE = math.log(1 / 0.07)


class BayesPFLNetwork(nn.Module):
    """Zero-shot anomaly detection by Bayesian prompt flow learning (arXiv 2503.10080).

    Args:
        config: sizes; its backbone part is a record, the backbone itself is passed in.
        backbone: frozen; its weights are not part of this model's checkpoints.
    """

    def __init__(self, config: ModelConfig, backbone: FrozenCLIP) -> None:
        super().__init__()
        self.config, self.backbone = config, backbone
        width, widths = backbone.embed_dim, backbone.vision_widths
        hidden = widths[-1] // 2
        self.prompts = PromptBank(config.prompts, backbone.text.width)
        parts = config.ablation
        shift: Shift = "sampled" if parts.flow else "mean"
        self.specific_flow = ImageSpecificFlow(
            width, hidden, config.flow, shift if parts.specific else "none"
        )
        self.agnostic_flow = ImageAgnosticFlow(
            width, hidden, config.flow, shift if parts.agnostic else "none"
        )
        self.attention = ResidualCrossModalAttention(
            widths, width, config.attention_heads, attends=parts.attention
        )
        self.alignment = ImageAlignment(widths, hidden, width)
        self.log_scale_pixel = nn.Parameter(torch.tensor(INITIAL_TEMPERATURE))
        self.log_scale_image = nn.Parameter(torch.tensor(INITIAL_TEMPERATURE))
        self._initialise()
        # The paper needs D = T; other backbones get a map that keeps the length of a sample.
        self.to_text_width: nn.Module = nn.Identity()
        if width != backbone.text.width:
            self.to_text_width = nn.Linear(width, backbone.text.width, bias=False)
            nn.init.normal_(self.to_text_width.weight, std=width**-0.5)

    def _initialise(self) -> None:
        # The query map keeps PyTorch's own values: it is a Conv1d in the published code, which
        # initialises linear layers alone.
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear) and not name.startswith(("backbone.", "attention.q")):
                nn.init.normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @property
    def device(self) -> torch.device:
        """Device of the learnt weights."""
        return self.log_scale_pixel.device

    @property
    def transform(self) -> InferenceTransform:
        """PIL image -> tensor (3, S, S), resized and normalised for this backbone."""
        return InferenceTransform(self.backbone.image_size, self.backbone.mean, self.backbone.std)

    # Sampling -----------------------------------------------------------------------------------

    def draw(self, samples: int | None = None, seed: int = 0) -> RunSamples:
        """Draws for one run, the same on every device.

        Args:
            samples: R; 0 for the mean prompt, see :meth:`mean_samples`; None for the config's.
            seed: the same seed gives the same draws.
        """
        count = self.config.scoring.samples if samples is None else samples
        if count < 0:
            raise ConfigError(f"samples = {count}: must be at least 1, or 0 for the mean prompt")
        if count == 0:
            return self.mean_samples()
        generator = torch.Generator().manual_seed(seed)
        return self.samples_from(PromptNoise.draw(count, self.backbone.embed_dim, generator))

    def samples_from(self, noise: PromptNoise) -> RunSamples:
        """Push explicit noise through the agnostic flows."""
        noise, parts = noise.to(self.device), self.config.ablation
        if not (parts.flow and (parts.specific or parts.agnostic)):
            # Nothing is left to sample: one prompt per pair is enough.
            noise = PromptNoise(noise.specific[..., :1, :], noise.normal[:1], noise.abnormal[:1])
        normal, abnormal = self.agnostic_flow()
        return RunSamples(
            noise.specific, normal.rsample(noise.normal), abnormal.rsample(noise.abnormal)
        )

    def mean_samples(self) -> RunSamples:
        """The mean prompt: one prompt per pair, the same for every image of a class.

        The states are shifted by the means of the agnostic bases, pushed through their flows. The
        context is not shifted: zero is the mean of the prior N(0, I) to which the flow loss pulls
        the image-specific distribution. So the text embeddings depend on the class name alone, and
        the ``texts`` of the result keep them for the whole run.
        """
        zero = torch.zeros(1, self.backbone.embed_dim, device=self.device)
        normal, abnormal = self.agnostic_flow()
        return RunSamples(zero[:0], normal.rsample(zero), abnormal.rsample(zero), TextCache())

    def specific_sample(self, pooled: Tensor, samples: RunSamples) -> FlowSample:
        """Image-specific draws z (B, R, D) for global embeddings (B, D)."""
        sample: FlowSample = self.specific_flow(pooled).rsample(samples.specific_noise)
        return sample

    # Blocks -------------------------------------------------------------------------------------

    def text_embeddings(
        self,
        specific: FlowSample,
        samples: RunSamples,
        class_names: Sequence[str],
        pair: int | None = None,
    ) -> Tensor:
        """Embeddings of sampled prompts, normalised: (B, 2, R*M, D), normal first.

        Args:
            specific: image-specific draws, z (B, R, D).
            class_names: one for each image, without synonyms.
            pair: index below R*M to encode that prompt pair alone: (B, 2, 1, D).
        """
        vectors = self.prompt_vectors(specific, samples)  # (B, 2*R*M, P + Q, T)
        if pair is not None:
            by_state = vectors.unflatten(1, (2, -1))  # (B, 2, R*M, P + Q, T)
            vectors = by_state[:, :, pair : pair + 1].flatten(1, 2)  # (B, 2, P + Q, T)
        names = self.backbone.text.tokenize(class_names, vectors.shape[2])
        text = self.backbone.text(vectors, names, self.config.prompts.context_tokens)
        embeddings: Tensor = F.normalize(text, dim=-1).unflatten(1, (2, -1))  # (B, 2, R*M, D)
        return embeddings

    def prompt_vectors(self, specific: FlowSample, samples: RunSamples) -> Tensor:
        """Sampled prompts without their names, (B, 2*R*M, P + Q, T), the normal ones first."""
        vectors: Tensor = self.prompts(
            self.to_text_width(specific.z),  # (B, R, T)
            self.to_text_width(samples.normal.z),  # (R, T)
            self.to_text_width(samples.abnormal.z),  # (R, T)
        )
        return vectors

    def prompt_embeddings(
        self, pooled: Tensor, samples: RunSamples, class_names: Sequence[str]
    ) -> Tensor:
        """Normalised text embeddings (B, 2, K, D) for images of global embeddings (B, D).

        Synonyms, as in "screw|bolt", are averaged pair by pair. K = R*M; with the mean prompt
        K = M, and only names that are new to the run are encoded.
        """
        parts = [synonyms(name) for name in class_names]
        if all(len(part) == 1 for part in parts):
            return self._single_embeddings(pooled, samples, [part[0] for part in parts])
        owner = torch.tensor([row for row, part in enumerate(parts) for _ in part])
        flat = [name for part in parts for name in part]
        text = self._single_embeddings(pooled[owner.to(pooled.device)], samples, flat)
        groups = text.split([len(part) for part in parts])  # (synonyms, 2, K, D) for each image
        return F.normalize(torch.stack([group.mean(0) for group in groups]), dim=-1)  # (B, 2, K, D)

    def _single_embeddings(
        self, pooled: Tensor, samples: RunSamples, class_names: Sequence[str]
    ) -> Tensor:
        """As :meth:`prompt_embeddings`, for names without synonyms."""
        if samples.texts is None:
            specific = self.specific_sample(pooled, samples)
            return self.text_embeddings(specific, samples, class_names)

        def encode(names: list[str]) -> Tensor:
            unmoved = torch.zeros(len(names), 1, self.backbone.embed_dim, device=self.device)
            none = unmoved[..., 0]
            return self.text_embeddings(FlowSample(unmoved, none, none), samples, names)

        return samples.texts.embeddings(class_names, encode)

    def image_logits(self, features: ImageFeatures, text: Tensor, stage: int) -> Tensor:
        """Scaled cosines of each image with its prompts, (B, 2, K), normal first."""
        cosines: Tensor = self.alignment(
            features.pooled, features.tokens, text.flatten(1, 2), stage=stage
        )
        logits: Tensor = cosines.unflatten(1, (2, -1)) * self.log_scale_image.exp()  # (B, 2, K)
        return logits

    def layer_logits(self, features: ImageFeatures, text: Tensor) -> list[Tensor]:
        """Abnormal-minus-normal logits at the patches, (B, K, N) for each layer."""
        scale = self.log_scale_pixel.exp()
        layers = self.attention.project(features.tokens)
        return [pair_logits(self.attention, text, patches, scale) for patches in layers]

    # Inference ----------------------------------------------------------------------------------

    @torch.no_grad()
    def score_batch(
        self, images: Tensor, class_names: Sequence[str], samples: RunSamples
    ) -> BatchScores:
        """Score normalised images (B, 3, S, S), each with its class name or synonyms a|b."""
        return self.score_encoded(self.backbone.encode_image(images), class_names, samples)

    @torch.no_grad()
    def score_encoded(
        self,
        features: ImageFeatures,
        class_names: Sequence[str],
        samples: RunSamples,
        inside: Tensor | None = None,
    ) -> BatchScores:
        """As :meth:`score_batch`, for images that have been through the image tower.

        Args:
            inside: bool (B, S, S), the pixels that count; None for all.
        """
        text = self.prompt_embeddings(features.pooled, samples, class_names)
        return self.score_features(features, text, inside=inside)

    @torch.no_grad()
    def score_features(
        self,
        features: ImageFeatures,
        text: Tensor,
        stage: int | None = None,
        inside: Tensor | None = None,
    ) -> BatchScores:
        """Score from image features and text embeddings (B, 2, K, D).

        Pixels that do not count (``inside``) are 0 in the maps of mean and spread.
        """
        logits = self.image_logits(features, text, stage or self.config.scoring.stage).float()
        probability = (logits[:, 1] - logits[:, 0]).sigmoid()
        layers, grid = self.layer_logits(features, text), features.grid
        size = self.backbone.image_size
        mean, spread = mean_and_spread(layers, grid, size)
        if inside is not None:
            mean, spread = mean * inside, spread * inside
        highest = highest_pixels(mean, DEPLOY_FRACTION)
        counted = None if inside is None else inside.flatten(1).gather(1, highest)  # (B, T)
        at_top = pairs_at(layers, grid, size, highest, counted)
        deviation = probability.std(1, correction=0)
        pair_scores = deploy_score(probability, at_top)
        return BatchScores(probability.mean(1), deviation, mean, spread, pair_scores)

    # Settings and weights ------------------------------------------------------------------------

    def update_scoring(self, **changes: Any) -> None:
        """Replace fields of ``config.scoring``, as training and resizing do at their end."""
        self.config = replace(self.config, scoring=replace(self.config.scoring, **changes))

    def learned_state_dict(self) -> dict[str, Tensor]:
        """Weights of everything but the backbone: the content of a checkpoint."""
        state = self.state_dict()
        return {k: v.detach() for k, v in state.items() if not k.startswith("backbone.")}

    def learned_parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        """Names and parameters of everything but the backbone."""
        return ((k, v) for k, v in self.named_parameters() if not k.startswith("backbone."))
