"""The batches of a training run: their order, their noise, and each process's share of them.

Every random choice of a step is a function of (seed, stage, epoch, step). Any number of processes
and micro-batches divides the same batches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch.utils.data import DataLoader

from bayes_pfl.config import TrainConfig
from bayes_pfl.data.records import Sample
from bayes_pfl.data.samples import SampleDataset
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.model.sampling import PromptNoise
from bayes_pfl.support.progress import Progress
from bayes_pfl.train.augmentation import AugmentedDataset, TrainTransform
from bayes_pfl.train.devices import reading_processes
from bayes_pfl.train.feature_cache import FeatureCache, cache_key
from bayes_pfl.train.step import MicroBatch

SEED_STRIDE = 100_003
"""A prime that keeps the seeds of neighbouring steps, epochs and stages apart."""


def _divided(items: list[int], size: int) -> list[list[int]]:
    """Consecutive lists of ``size`` items; the last one may be shorter."""
    return [items[start : start + size] for start in range(0, len(items), size)]


class TrainingBatches:
    """This process's share of every batch, as micro-batches of equal size.

    Args:
        samples: training images with masks.
        model: gives the transform, the image tower and the number of prompt pairs.
        config: batch size, micro-batches, augmentation and seed.
        fabric: launched; its processes divide each batch.
        progress: reports the encoding of images for the cache.
        cache: folder for the tokens of augmented views; None encodes every image in every epoch.
    """

    def __init__(
        self,
        samples: list[Sample],
        model: BayesPFLNetwork,
        config: TrainConfig,
        fabric: Fabric,
        progress: Progress,
        cache: Path | None = None,
    ) -> None:
        self.model, self.config, self.fabric, self.progress = model, config, fabric, progress
        self.share = config.batch_size // fabric.world_size
        self.micro = self.share // config.accumulate
        self.dataset = self._dataset(samples)
        self.cache = self._open_cache(cache)

    def _dataset(self, samples: list[Sample]) -> SampleDataset:
        backbone = self.model.backbone
        if not self.config.augment:
            return SampleDataset(samples, self.model.transform)
        transform = TrainTransform(backbone.image_size, backbone.mean, backbone.std)
        return AugmentedDataset(
            samples,
            transform,
            seed=self.config.views_seed,
            mosaic=self.config.mosaic,
            mosaic_of_all=self.config.mosaic_of_all,
        )

    def _open_cache(self, folder: Path | None) -> FeatureCache | None:
        if folder is None:
            return None
        augmentation = {
            "augment": self.config.augment,
            "mosaic": [self.config.mosaic, self.config.mosaic_of_all],
            "seed": self.config.views_seed,
            "views": self.config.cache_views,
        }
        name = cache_key(self.model.config.backbone, self.dataset.samples, augmentation)
        if self.fabric.node_rank:  # each machine has its own, even if they share a disk
            name += f"-node{self.fabric.node_rank}"
        if self.fabric.local_rank:
            self.fabric.barrier()  # until the first process here has made the files
        cache = FeatureCache(
            folder / name, len(self.dataset), self.config.cache_views, self.model.backbone
        )
        if not self.fabric.local_rank:
            self.fabric.barrier()
        return cache

    @property
    def per_epoch(self) -> int:
        """Steps of an epoch: ``steps_per_epoch``, or by default one pass over the data."""
        one_pass = math.ceil(len(self.dataset) / self.config.batch_size)
        return self.config.steps_per_epoch or max(1, one_pass)

    def steps(self, stage: int, epoch: int) -> Iterator[list[MicroBatch]]:
        """Yield this process's micro-batches of each step of an epoch."""
        batches = self._read_epoch(stage, epoch)
        first = self.fabric.global_rank * self.share
        starts = range(first, first + self.share, self.micro)
        for index in range(self.per_epoch):
            noise, pair = self._draw(stage, epoch, index)
            yield [self._micro_batch(start, next(batches), noise, pair) for start in starts]

    def _read_epoch(self, stage: int, epoch: int) -> Iterator[dict[str, Any]]:
        """Images or cached features of this process's micro-batches, in the epoch's order."""
        order = self._order(stage, epoch)
        if self.cache is None:
            self._set_view(stage * SEED_STRIDE + epoch)
            yield from self._loader(order)
            return
        view = epoch % self.cache.views
        self._fill_cache(self.cache, view)
        for indices in order:
            yield self.fabric.to_device(self.cache.read(view, indices))

    def _order(self, stage: int, epoch: int) -> list[list[int]]:
        """Indices of this process's micro-batches in an epoch: its share of every batch."""
        generator = torch.Generator().manual_seed(self._seed(stage, epoch, SEED_STRIDE - 1))
        first = self.fabric.global_rank * self.share
        batches: list[list[int]] = []
        rest: list[int] = []  # of a pass that its last batch is filled up from
        while len(batches) < self.per_epoch:
            rest += torch.randperm(len(self.dataset), generator=generator).tolist()
            batches += _divided(rest, self.config.batch_size)
            rest = batches.pop() if self._is_filled_up(batches[-1]) else []
        shares = [batch[first : first + self.share] for batch in batches[: self.per_epoch]]
        return [micro for share in shares for micro in _divided(share, self.micro)]

    def _is_filled_up(self, batch: list[int]) -> bool:
        return self.config.last_batch == "filled" and len(batch) < self.config.batch_size

    def _loader(self, order: list[list[int]]) -> Any:
        loader = DataLoader(
            self.dataset,
            batch_sampler=order,
            num_workers=reading_processes(self.config.workers, self.fabric),
            generator=torch.Generator(),  # without it a seed is drawn from the global one
        )
        return self.fabric.setup_dataloaders(loader, use_distributed_sampler=False)

    def _set_view(self, view: int) -> None:
        if isinstance(self.dataset, AugmentedDataset):
            self.dataset.set_epoch(view)

    def _fill_cache(self, cache: FeatureCache, view: int) -> None:
        """Encode the missing rows of a view; the processes of a machine divide them."""
        missing = cache.missing(view)
        self.fabric.barrier()  # all must have read this before one writes
        own = missing[self.fabric.local_rank :: getattr(self.fabric.strategy, "num_processes", 1)]
        if own:
            self._set_view(view)
            self.progress.start(f"features, view {view + 1}/{cache.views}", len(own))
            for batch in self._loader(_divided(own, self.micro)):
                features = self.model.backbone.encode_image(batch["image"])
                cache.write(view, batch["index"], features, batch)
                self.progress.advance(len(features), {})
            cache.flush()
        self.fabric.barrier()  # all rows must be written before one is read

    def _draw(self, stage: int, epoch: int, index: int) -> tuple[PromptNoise, int | None]:
        """Noise of the whole batch, and the prompt pair to train; None trains every pair."""
        generator = torch.Generator().manual_seed(self._seed(stage, epoch, index))
        width, count = self.model.backbone.embed_dim, self.config.batch_size
        noise = PromptNoise.draw(1, width, generator, batch=count)
        pair = int(torch.randint(self.model.config.prompts.pairs, (), generator=generator))
        return noise.to(self.fabric.device), None if self.config.every_pair else pair

    def _micro_batch(
        self, start: int, batch: dict[str, Any], noise: PromptNoise, pair: int | None
    ) -> MicroBatch:
        """The micro-batch that begins at image ``start`` of the whole batch."""
        names = [self.dataset.samples[i].class_name for i in batch["index"].tolist()]
        own = replace(noise, specific=noise.specific[start : start + len(names)])
        return MicroBatch(batch, names, own, pair)

    def _seed(self, stage: int, epoch: int, index: int) -> int:
        epochs = (self.config.seed * 2 + stage) * SEED_STRIDE + epoch
        return epochs * SEED_STRIDE + index
