"""Losses and gradients of one training step, for a whole batch or for equal parts of it.

The parts are the shares of several processes, each divided into micro-batches that are computed one
after the other. Their gradients add up to that of the whole batch, see
:class:`bayes_pfl.model.losses.BatchPart`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from bayes_pfl.clip.frozen_clip import FrozenCLIP, ImageFeatures, frozen_text_checkpointing
from bayes_pfl.model.losses import WHOLE_BATCH, BatchPart
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.model.objective import TrainingBatch, training_losses, training_sums
from bayes_pfl.model.sampling import PromptNoise

WholeSums = Callable[[Tensor], Tensor]


class TrainingStep(nn.Module):
    """From a batch to its losses: a module, so that the wrappers for several devices apply."""

    def __init__(
        self, model: BayesPFLNetwork, flow_weight: float, text_checkpointing: bool = False
    ) -> None:
        super().__init__()
        self.model, self.flow_weight = model, flow_weight
        self.text_checkpointing = text_checkpointing

    @property
    def has_unused_parameters(self) -> bool:
        """Whether some trainable parameters may get no gradient.

        True in stage 1, which trains those of stage 2 too; only stage 1 trains the prompts.
        """
        return any(p.requires_grad for p in self.model.prompts.parameters())

    def forward(
        self,
        batch: dict[str, Any],
        names: list[str],
        noise: tuple[Tensor, Tensor, Tensor],
        pair: int | None,
        stage: int,
        parts: int = 1,
        whole_sums: WholeSums = WHOLE_BATCH.whole_sums,
    ) -> dict[str, Tensor]:
        """Losses of a batch, or of one of its ``parts``; see :func:`training_losses`."""
        backbone = self.model.backbone
        inputs = MicroBatch(batch, names, PromptNoise(*noise), pair).inputs(backbone)
        with frozen_text_checkpointing(backbone, self.text_checkpointing):
            return training_losses(
                self.model,
                inputs,
                stage=stage,
                flow_weight=self.flow_weight,
                part=BatchPart(parts, whole_sums),
            )


@dataclass(frozen=True)
class MicroBatch:
    """The images of a batch that a process computes at once.

    Attributes:
        batch: images or cached features, masks and labels, on the device.
        names: class name of each image.
        noise: prompt noise of these images, and that of the two states, which the batch shares.
        pair: index of the prompt pair that this step trains; None for all pairs.
    """

    batch: dict[str, Any]
    names: list[str]
    noise: PromptNoise
    pair: int | None

    def features(self, backbone: FrozenCLIP) -> ImageFeatures:
        """The features that were read from the cache, or else those of the images."""
        if "image" in self.batch:
            return backbone.encode_image(self.batch["image"])
        return ImageFeatures(self.batch["pooled"], tuple(self.batch["tokens"]), backbone.grid)

    def inputs(self, backbone: FrozenCLIP) -> TrainingBatch:
        """What the losses are computed from."""
        masks, labels = self.batch["mask"], self.batch["label"]
        features = self.features(backbone)
        return TrainingBatch(features, self.names, masks, labels, self.noise, self.pair)


class GradientStep:
    """Gradients of a batch from its micro-batches, in this process and the others.

    Args:
        fabric: launched; each of its processes has its own micro-batches of the batch.
        module: a :class:`TrainingStep` that ``fabric`` has set up.
        model: the network in that module.
    """

    def __init__(self, fabric: Fabric, module: Any, model: BayesPFLNetwork) -> None:
        self.fabric, self.module, self.model = fabric, module, model

    def __call__(self, micros: list[MicroBatch], stage: int) -> dict[str, float]:
        """Add the gradients of the batch to the parameters; returns its losses by name."""
        parts = self.fabric.world_size * len(micros)
        whole_sums: WholeSums = self._over_processes
        if stage == 1 and len(micros) > 1:
            micros = [self._encoded(micro) for micro in micros]  # they are needed twice
            whole_sums = self._sums_known_before(micros)
        totals: dict[str, Tensor] = {}
        for index, micro in enumerate(micros):
            micro = self._encoded(micro)
            noise = (micro.noise.specific, micro.noise.normal, micro.noise.abnormal)
            waits = index < len(micros) - 1 and self.fabric.world_size > 1
            with self.fabric.no_backward_sync(self.module, enabled=waits):
                losses = self.module(
                    micro.batch, micro.names, noise, micro.pair, stage, parts, whole_sums
                )
                # The processes' gradients are averaged; shares have to be added up.
                self.fabric.backward(losses["total"] * self.fabric.world_size)
            totals = {k: totals.get(k, 0) + v.detach() for k, v in losses.items()}
        values = self._over_processes(torch.stack(list(totals.values()))).tolist()
        return dict(zip(totals, values, strict=True))

    def _over_processes(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        total: Any = self.fabric.all_reduce(tensor, reduce_op="sum")
        return total

    def _sums_known_before(self, micros: list[MicroBatch]) -> WholeSums:
        """Pixel sums of the whole batch, (L, 4), before the first part needs those of the last."""
        with self.fabric.autocast():
            sums = [
                training_sums(self.model, micro.inputs(self.model.backbone)) for micro in micros
            ]
        whole = self._over_processes(torch.stack(sums).sum(0))
        return lambda own_sums: whole

    def _encoded(self, micro: MicroBatch) -> MicroBatch:
        """The micro-batch with features instead of images.

        They are computed outside the module, because Fabric casts the module's inputs to half
        precision and some image towers need float32.
        """
        if "image" not in micro.batch:
            return micro
        with self.fabric.autocast():
            features = micro.features(self.model.backbone)
        batch = {name: value for name, value in micro.batch.items() if name != "image"}
        batch |= {"pooled": features.pooled, "tokens": features.tokens}
        return replace(micro, batch=batch)
