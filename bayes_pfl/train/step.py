"""One step of the optimiser: the losses of a batch, taken whole or in equal parts.

Parts are the shares of several processes, and the micro-batches that each takes one after the
other. The gradient is that of the whole batch, see :class:`bayes_pfl.model.losses.BatchPart`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from bayes_pfl.clip.frozen_clip import FrozenCLIP, ImageFeatures, frozen_text_checkpointing
from bayes_pfl.model.losses import BatchPart
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.model.sampling import PromptNoise

WholeSums = Callable[[Tensor], Tensor]


class TrainingStep(nn.Module):
    """One forward pass to the losses: a module, so that wrappers for several devices apply."""

    def __init__(
        self, model: BayesPFLNetwork, flow_weight: float, text_checkpointing: bool = False
    ) -> None:
        super().__init__()
        self.model, self.flow_weight = model, flow_weight
        self.text_checkpointing = text_checkpointing

    @property
    def leaves_some_out(self) -> bool:
        """Whether parameters that learn can be without a gradient: stage 2's are, in stage 1."""
        return any(p.requires_grad for p in self.model.prompts.parameters())

    def forward(
        self,
        batch: dict[str, Any],
        names: list[str],
        noise: tuple[Tensor, Tensor, Tensor],
        pair: int | None,
        stage: int,
        parts: int = 1,
        whole_sums: WholeSums | None = None,
    ) -> dict[str, Tensor]:
        """Losses of a batch, or of one of its ``parts``; see :meth:`BayesPFL.training_losses`."""
        backbone = self.model.backbone
        features = batch_features(backbone, batch)
        with frozen_text_checkpointing(backbone, self.text_checkpointing):
            return self.model.training_losses(
                features,
                names,
                batch["mask"],
                batch["label"],
                PromptNoise(*noise),
                pair,
                stage=stage,
                flow_weight=self.flow_weight,
                part=BatchPart(parts, whole_sums) if whole_sums else BatchPart(parts),
            )


def batch_features(backbone: FrozenCLIP, batch: dict[str, Any]) -> ImageFeatures:
    """Features of a batch of images, or those that the cache gave for it."""
    if "image" in batch:
        return backbone.encode_image(batch["image"])
    return ImageFeatures(batch["pooled"], tuple(batch["tokens"]), backbone.grid)


@dataclass(frozen=True)
class MicroBatch:
    """What a process takes through the model at once.

    Attributes:
        batch: images or cached features, masks and labels, on the device.
        names: class name of each image.
        noise: of its images, and of the two states as in the whole batch.
        pair: the prompt pair of the step; None for all of them.
    """

    batch: dict[str, Any]
    names: list[str]
    noise: PromptNoise
    pair: int | None


class GradientStep:
    """Gradients of a batch from its micro-batches, in this process and the others.

    Args:
        fabric: launched; its processes each have their own micro-batches of the batch.
        module: a :class:`TrainingStep` that ``fabric`` has set up.
        model: the one inside.
    """

    def __init__(self, fabric: Fabric, module: Any, model: BayesPFLNetwork) -> None:
        self.fabric, self.module, self.model = fabric, module, model

    def __call__(self, micros: list[MicroBatch], stage: int) -> dict[str, float]:
        """Add the gradients of the batch to the parameters; returns its losses."""
        parts = self.fabric.world_size * len(micros)
        whole_sums: WholeSums = self._over_processes
        if stage == 1 and len(micros) > 1:
            micros = [self._encoded(micro) for micro in micros]
            sums = self._over_processes(self._sums(micros))
            whole_sums = lambda _: sums  # noqa: E731
        totals: dict[str, Tensor] = {}
        for index, micro in enumerate(micros):
            micro = self._encoded(micro)
            with self._synchronised(index == len(micros) - 1):
                noise = (micro.noise.specific, micro.noise.normal, micro.noise.abnormal)
                losses = self.module(
                    micro.batch, micro.names, noise, micro.pair, stage, parts, whole_sums
                )
                # The processes' gradients are averaged; shares have to be added up.
                self.fabric.backward(losses["total"] * self.fabric.world_size)
            totals = {k: totals.get(k, 0) + v.detach() for k, v in losses.items()}
        values = self._over_processes(torch.stack(list(totals.values()))).tolist()
        return dict(zip(totals, values, strict=True))

    def _over_processes(self, tensor: Tensor) -> Tensor:
        return self.fabric.all_reduce(tensor, reduce_op="sum")

    def _synchronised(self, now: bool) -> Any:
        waits = not now and self.fabric.world_size > 1
        return self.fabric.no_backward_sync(self.module, enabled=waits)

    def _encoded(self, micro: MicroBatch) -> MicroBatch:
        """With features instead of images: some towers need float32, which the module is not given
        in half precision; and features may be needed twice."""
        if "image" not in micro.batch:
            return micro
        with self.fabric.autocast():
            features = batch_features(self.model.backbone, micro.batch)
        batch = {name: value for name, value in micro.batch.items() if name != "image"}
        batch |= {"pooled": features.pooled, "tokens": features.tokens}
        return MicroBatch(batch, micro.names, micro.noise, micro.pair)

    def _sums(self, micros: list[MicroBatch]) -> Tensor:
        """Pixel sums of this process's part of the batch, (L, 4), by a pass without gradients."""
        with self.fabric.autocast():
            sums = [
                self.model.training_sums(
                    batch_features(self.model.backbone, micro.batch),
                    micro.names,
                    micro.batch["mask"],
                    micro.noise,
                    micro.pair,
                )
                for micro in micros
            ]
        return torch.stack(sums).sum(0)
