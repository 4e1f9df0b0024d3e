"""The frozen CLIP backbone: images to embeddings and patch tokens, prompt vectors to embeddings.

Symbols: B images, S image side, N = h*w patches, V_l width of tapped layer l, T text width,
D joint width, K prompts per image, P + Q prompt vectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Self

from bayes_pfl.clip.fast_image_tower import autocast_dtype, fast_tower, should_split
from bayes_pfl.clip.joined_layers import UNLIKENESS_CHANNELS, join_layers, to_grid
from bayes_pfl.clip.text_tower import TextTower
from bayes_pfl.errors import BackboneError
from bayes_pfl.support.error_text import one_line
from bayes_pfl.support.precision import without_autocast

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)

_CONVOLVED_AT_ONCE = 2  # images whose wide maps fit into a CPU's cache


@dataclass(frozen=True)
class ImageFeatures:
    """Features of B images from the image tower.

    Attributes:
        pooled: global embeddings f, (B, D), projected to the joint width, not normalised.
        tokens: raw tokens of each tapped layer on one common grid, each (B, N, V_l).
        grid: (h, w).
        stages: the tapped layers as the tower gives them, each (B, V_l, h_l, w_l); empty for
            features that come from a cache.
    """

    pooled: Tensor
    tokens: tuple[Tensor, ...]
    grid: tuple[int, int]
    stages: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        return len(self.pooled)


def spaced_layers(depth: int, count: int = 4) -> tuple[int, ...]:
    """Default taps, 1-based: ``count`` of ``depth`` blocks, evenly spaced, ending with the last.

    >>> spaced_layers(24), spaced_layers(5)
    ((6, 12, 18, 24), (2, 3, 4, 5))
    """
    count = min(count, depth)
    return tuple(depth - (depth // count) * back for back in reversed(range(count)))


def common_grid(grids: Sequence[tuple[int, int]], image_size: int) -> tuple[int, int]:
    """Grid (h, w) that all stages are resampled to: the finest of theirs up to S/8 a side.

    Finer grids cost time without adding detail after smoothing; coarser ones lose thin defects.
    """
    allowed = [grid for grid in grids if max(grid) * 8 <= image_size]
    return max(allowed) if allowed else min(grids)


class FrozenCLIP(nn.Module):
    """A CLIP model of open_clip, frozen: no parameter needs a gradient, always in eval mode.

    Gradients still pass through the text tower to the prompt vectors.

    Args:
        clip: open_clip model, with weights.
        tokenizer: its tokenizer.
        image_size: S, in pixels; the towers must have been built for it.
        layers: 1-based taps; None for :func:`spaced_layers`.
        grid: side of the common token grid, None for :func:`common_grid`.
        joined: join all tapped layers to one, see :func:`bayes_pfl.clip.joined_layers.join_layers`.
        mean, std: of the image normalisation.
        sha256: of the weights, where known.
    """

    def __init__(
        self,
        clip: Any,
        tokenizer: Any,
        *,
        image_size: int,
        layers: Sequence[int] | None = None,
        grid: int | None = None,
        joined: bool = False,
        mean: tuple[float, ...] = OPENAI_MEAN,
        std: tuple[float, ...] = OPENAI_STD,
        sha256: str | None = None,
    ) -> None:
        super().__init__()
        self.visual: Any = clip.visual
        self.text = TextTower(clip, tokenizer)
        self.image_size, self.mean, self.std, self.sha256 = image_size, mean, std, sha256
        self._grid = (grid, grid) if grid else None
        self.joined = joined
        self.requires_grad_(False)
        self.train(False)
        # Towers with batch norms lose several percent of their features in bfloat16.
        self._keeps_float32 = any(isinstance(x, nn.BatchNorm2d) for x in self.visual.modules())
        self._fast_towers: dict[torch.dtype | None, Any] = {}  # by the precision of autocast
        self.register_load_state_dict_post_hook(_clear_fast_towers)  # type: ignore[no-untyped-call]
        depth = _depth(self.visual)
        self.layers = tuple(layers) if layers else spaced_layers(depth)
        wrong = [layer for layer in self.layers if not 1 <= layer <= depth]
        if wrong or list(self.layers) != sorted(set(self.layers)):
            raise BackboneError(
                f"layers = {list(self.layers)}: this image tower has {depth} blocks; "
                f"name different ones from 1 to {depth}, in order"
            )
        self.embed_dim, self.vision_widths, self.grid, self.stage_shapes = self._probe()

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode: a frozen tower neither updates batch norms nor drops activations."""
        return super().train(False)

    @torch.no_grad()
    def encode_image(self, images: Tensor) -> ImageFeatures:
        """Normalised images (B, 3, S, S) -> :class:`ImageFeatures`; no gradient is kept."""
        if images.shape[-2:] != (self.image_size, self.image_size):
            raise BackboneError(
                f"image of {tuple(images.shape[-2:])} pixels: this backbone was built for "
                f"{self.image_size} x {self.image_size}; resize, or set image_size"
            )
        pooled, stages = self._stages(images)
        if self.joined:
            joined = join_layers(stages, self.grid)
            return ImageFeatures(pooled, (joined,), self.grid, tuple(stages))
        maps = [to_grid(stage, self.grid) for stage in stages]  # (B, V_l, h, w)
        tokens = tuple(x.flatten(2).transpose(1, 2) for x in maps)  # (B, N, V_l)
        return ImageFeatures(pooled, tokens, self.grid, tuple(stages))

    def fast_visual(self) -> Any:
        """The image tower for inference under the surrounding autocast; made at the first use."""
        dtype = None if self._keeps_float32 else autocast_dtype(self.device)
        if dtype not in self._fast_towers:
            self._fast_towers[dtype] = fast_tower(self.visual, dtype, self.image_size)
        return self._fast_towers[dtype]

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        device: torch.device = next(self.visual.parameters()).device
        return device

    def __getstate__(self) -> dict[str, Any]:
        # Packed weights can be neither copied nor pickled; the copy makes its own.
        return {**self.__dict__, "_fast_towers": {}}

    def _apply(self, *args: Any, **kwargs: Any) -> Self:
        self._fast_towers.clear()  # their weights were made from those that are moved here
        super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]
        return self

    def _stages(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Global embeddings (B, D), and maps (B, V_l, h_l, w_l) of each tapped layer."""
        tower, indices = self.fast_visual(), [layer - 1 for layer in self.layers]
        split = self._keeps_float32 and should_split(images)
        parts = images.split(_CONVOLVED_AT_ONCE) if split else (images,)
        with without_autocast(self.device) if self._keeps_float32 else nullcontext():
            outputs = [
                tower.forward_intermediates(part, indices=indices, output_fmt="NCHW")
                for part in parts
            ]
        stages = zip(*(x["image_intermediates"] for x in outputs), strict=True)
        return _cat([x["image_features"] for x in outputs]), [_cat(parts) for parts in stages]

    @torch.no_grad()
    def _probe(
        self,
    ) -> tuple[int, tuple[int, ...], tuple[int, int], tuple[tuple[int, int, int], ...]]:
        """Joint width, widths, common grid, and (V_l, h_l, w_l) of each tap, on a black image.

        No attribute gives them for towers of every library.
        """
        try:
            pooled, stages = self._stages(torch.zeros(1, 3, self.image_size, self.image_size))
        except (RuntimeError, AssertionError, ValueError) as error:
            raise BackboneError(
                f"image_size = {self.image_size}: this image tower cannot take it "
                f"({one_line(error, 160)}); choose its own size, or a larger multiple of 32"
            ) from error
        grids = [(int(x.shape[-2]), int(x.shape[-1])) for x in stages]
        grid = self._grid or common_grid(grids, self.image_size)
        widths = tuple(int(x.shape[1]) for x in stages)
        if self.joined:
            widths = (sum(widths) + UNLIKENESS_CHANNELS * len(widths) + 1,)
        shapes = tuple((int(x.shape[1]), *grid) for x, grid in zip(stages, grids, strict=True))
        return int(pooled.shape[-1]), widths, grid, shapes

    @property
    def cells(self) -> int:
        """Cells h_l * w_l of the finest tapped layer."""
        return max(height * width for _, height, width in self.stage_shapes)


def _cat(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _clear_fast_towers(backbone: FrozenCLIP, _: object) -> None:
    backbone._fast_towers.clear()


def _depth(visual: Any) -> int:
    """Number of blocks (transformers) or stages (convolutional towers) that can be tapped."""
    if hasattr(visual, "transformer"):
        return len(visual.transformer.resblocks)
    if hasattr(visual, "trunk"):
        trunk = visual.trunk
        if not hasattr(trunk, "forward_intermediates"):
            raise BackboneError(
                f"image tower {type(trunk).__name__} gives no intermediate features; "
                "choose a ViT, EVA, ConvNeXt, ResNet or EfficientNet tower"
            )
        return len(trunk.feature_info)
    return 5  # ModifiedResNet: the stem and four stages


@contextmanager
def frozen_text_checkpointing(backbone: FrozenCLIP, enabled: bool) -> Iterator[None]:
    """Recompute the text tower's activations in the backward pass while the block runs."""
    transformer = backbone.text.transformer
    before, transformer.grad_checkpointing = transformer.grad_checkpointing, enabled
    try:
        yield
    finally:
        transformer.grad_checkpointing = before
