"""A small ViT that begins from nothing: the image tower that is distilled, not tuned.

It has the interface of :class:`SplitTrunk`. Nothing of it stays as it came, so its early part is
the pixels themselves, kept as bytes: a view of 256 pixels takes 0.2 MB.

Symbols: B images, S image side, V width, h*w patches, W pooled width of the teacher (1280).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bayes_pfl.backbone import spaced_layers
from bayes_pfl.precision import computed_here
from bayes_pfl.pretraining.lite_weights import MEAN, POOLED_WIDTH, STD
from bayes_pfl.pretraining.split_trunk import LateMaps


@dataclass(frozen=True)
class ViTShape:
    """Blocks, width, heads of each block, and side of a patch in pixels."""

    layers: int
    width: int
    heads: int
    patch: int

    def vision_cfg(self, image_size: int) -> dict[str, Any]:
        """What open_clip needs to build it; the tokens of the patches are averaged."""
        return {
            "layers": self.layers,
            "width": self.width,
            "head_width": self.width // self.heads,
            "patch_size": self.patch,
            "image_size": image_size,
            "pool_type": "avg",
        }


# open_clip's own ViT, not timm's, for its number of blocks can be chosen: the twelve of timm's
# vit_tiny_patch16_224 would make the CLIP 33 MB, and those cannot be built at 256 pixels.
STUDENTS = {"vit_tiny_patch16_blocks8": ViTShape(layers=8, width=192, heads=3, patch=16)}
"""By a name of ours: towers that are begun from nothing and distilled."""


class StudentTrunk(nn.Module):
    """open_clip's ViT without its projection, and a map to what its teacher sees.

    Args:
        visual: the tower; its weights are used, not copied.
    """

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.visual = visual
        depth = len(visual.transformer.resblocks)
        self._tapped = [layer - 1 for layer in spaced_layers(depth)]
        # Kept beside the tower, never exported: by it the teacher's classifier can be asked of
        # the student's features. It begins at zero, as random numbers are the caller's.
        width = len(visual.ln_post.weight)
        self.to_teacher = nn.utils.skip_init(nn.Linear, width, POOLED_WIDTH)
        nn.init.zeros_(self.to_teacher.weight)
        nn.init.zeros_(self.to_teacher.bias)
        for name, values in (("mean", MEAN), ("std", STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.visual.conv1.weight.device

    def late_parameters(self) -> Iterable[nn.Parameter]:
        """All of the tower but its projection, which the text tower's training owns."""
        return (p for name, p in self.visual.named_parameters() if name != "proj")

    def early(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S), normalised -> their pixels, uint8 (B, 3, S, S)."""
        return ((images * self.std + self.mean) * 255).round().byte()

    def normalise(self, maps: Tensor) -> Tensor:
        """Pixels in [0, 255] -> images as every tower here wants them."""
        return (maps / 255 - self.mean) / self.std

    def late(self, maps: Tensor) -> LateMaps:
        """Pixels (B, 3, S, S) in [0, 255] -> the whole way.

        While gradients are kept, in bfloat16, but on a CPU that does not compute in it.
        """
        kind = self.device.type
        fast = kind != "cpu" or computed_here(torch.bfloat16)
        with torch.autocast(kind, torch.bfloat16, enabled=fast and torch.is_grad_enabled()):
            seen = self.visual.forward_intermediates(
                self.normalise(maps), indices=self._tapped, intermediates_only=True
            )
        taps = [tap.float() for tap in seen["image_intermediates"]]
        # The last block is always tapped: its tokens are what is normed, then averaged.
        last = self.visual.ln_post(taps[-1].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return LateMaps(taps, last)

    @torch.no_grad()
    def centre(self, mean: Tensor) -> None:
        """Take ``mean`` (V) from the pooled features; what the teacher's map gives stays the same.

        open_clip's ViT projects without a bias: what it would do, the norm before it does.
        """
        self.to_teacher.bias += self.to_teacher.weight @ mean
        self.visual.ln_post.bias -= mean
